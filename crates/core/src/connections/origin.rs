//! Which web pages may connect.
//!
//! Browsers let any page open a WebSocket to any server and name the page's
//! origin in `Origin` (RFC 6455, section 10.2). The token admits a user; the
//! origin check keeps foreign pages from using a token that they found.

use std::str::FromStr;

use url::Host;

/// The origins whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedOrigins(Vec<Pattern>);

/// How `Origin` is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPolicy {
    pub allowed: AllowedOrigins,
    /// Whether clients without an origin may connect. Browsers always send one.
    pub allow_missing: bool,
}

impl OriginPolicy {
    /// Whether a handshake with this `Origin` header may proceed.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>) -> bool {
        match origin {
            Some(origin) => self.allowed.allows(origin),
            None => self.allow_missing,
        }
    }
}

/// The list of allowed origins has an entry that no browser would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has an entry that no browser sends as an origin, {entry:?}: {advice}")]
pub struct InvalidOrigin {
    entry: String,
    advice: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Like `https`.
    scheme: String,
    /// Whether exactly one more label precedes the authority.
    one_label: bool,
    /// The host and, unless it is the scheme's default, the port. After a
    /// wildcard it begins with a dot.
    authority: String,
}

impl AllowedOrigins {
    /// Whether an entry matches scheme, host and port exactly. A leading `*.`
    /// stands for exactly one label. `null` never matches.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = split(origin) else {
            return false;
        };
        self.0.iter().any(|pattern| {
            pattern.scheme == scheme
                && if pattern.one_label {
                    authority
                        .strip_suffix(pattern.authority.as_str())
                        .is_some_and(is_label)
                } else {
                    authority == pattern.authority
                }
        })
    }
}

impl FromStr for AllowedOrigins {
    type Err = InvalidOrigin;

    /// Parses a comma-separated list. An empty list allows no browser at all.
    fn from_str(list: &str) -> Result<Self, InvalidOrigin> {
        list.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                Pattern::parse(entry).ok_or_else(|| InvalidOrigin {
                    entry: entry.into(),
                    advice: advice(entry),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Pattern {
    fn parse(entry: &str) -> Option<Self> {
        let (scheme, rest) = entry.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        // No page has an origin with one of these schemes.
        if matches!(scheme.as_str(), "ws" | "wss" | "file") {
            return None;
        }
        let (one_label, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (host, port) = split_port(rest)?;
        // The URL parser would decode it.
        if host.contains('%') {
            return None;
        }
        let host = if matches!(scheme.as_str(), "https" | "http") || host.starts_with('[') {
            match Host::parse(host).ok()? {
                Host::Domain(name) => name,
                _ if one_label => return None,
                address => address.to_string(),
            }
        } else {
            host.to_owned()
        };
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let (scheme, authority) = split(&format!("{scheme}://{host}{port}"))?;
        Some(Self {
            scheme,
            one_label,
            authority: if one_label {
                format!(".{authority}")
            } else {
                authority
            },
        })
    }
}

/// Splits an authority into the host and the port, if it has one.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rsplit_once(':') {
        // A colon inside an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => Some((authority, None)),
        Some((host, port)) if port.starts_with(|c: char| matches!(c, '1'..='9')) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
        None => Some((authority, None)),
    }
}

/// What to write instead of an entry that cannot be parsed.
fn advice(entry: &str) -> String {
    let (scheme, rest) = match entry.split_once("://") {
        Some(("wss", rest)) => (Some("https"), rest),
        Some(("ws", rest)) => (Some("http"), rest),
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, entry),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = split_port(authority).map_or(authority, |(host, _)| host);
    let scheme = scheme.unwrap_or(match host {
        "localhost" | "127.0.0.1" | "[::1]" => "http",
        _ => "https",
    });
    let repaired = format!("{scheme}://{authority}");
    if host != "null" && repaired != entry && Pattern::parse(&repaired).is_some() {
        format!("write {repaired}")
    } else if entry.contains('*') {
        "a wildcard stands for one label before a host, as in https://*.example.com".into()
    } else if entry.contains("://") && split_port(authority).is_none() && !authority.contains('[') {
        "the port must be a number from 1 to 65535".into()
    } else {
        "write the origin of a page, like https://app.example.com".into()
    }
}

/// Whether an origin names the server's own host, as clients that are not
/// browsers derive it from the address that they connect to: with the scheme of
/// a page or of a WebSocket, with or without the default port. API Gateway serves
/// only TLS, so a plain scheme is the server's own only on loopback, where the
/// local stack listens.
pub(super) fn is_own_origin(origin: &str, host: &str) -> bool {
    let (origin, host) = (origin.to_ascii_lowercase(), host.to_ascii_lowercase());
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "https" | "wss" => ":443",
        "http" | "ws" if is_loopback(&host) => ":80",
        _ => return false,
    };
    let without_default_port = |authority: &str| {
        authority
            .strip_suffix(default_port)
            .unwrap_or(authority)
            .to_owned()
    };
    is_authority(authority) && without_default_port(authority) == without_default_port(&host)
}

fn is_loopback(authority: &str) -> bool {
    let host = split_port(authority).and_then(|(host, _)| Host::parse(host).ok());
    match host {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Splits an origin into scheme and authority, in lower case and without the
/// scheme's default port. Returns `None` for anything that no browser sends.
fn split(origin: &str) -> Option<(String, String)> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        // Browser extensions and app shells have no ports.
        _ if is_scheme(scheme) => "",
        _ => return None,
    };
    let authority = match authority.strip_suffix(default_port) {
        Some(host) if !default_port.is_empty() => host,
        _ => authority,
    };
    is_authority(authority).then(|| (scheme.to_owned(), authority.to_owned()))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

/// A host name or address, optionally with a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let address_ok = address
                .chars()
                .all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
            if address.is_empty() || !address_ok {
                return false;
            }
            (
                "v6",
                rest.strip_prefix(':').or(rest.is_empty().then_some("1")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("1")),
        },
    };
    let host_ok = host.split('.').all(is_label);
    host_ok && port.is_some_and(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(list: &str, origin: &str) -> bool {
        list.parse::<AllowedOrigins>().unwrap().allows(origin)
    }

    #[test]
    fn matches_scheme_host_and_port_exactly() {
        let list = "https://app.example.com, http://localhost:3000";
        assert!(allowed(list, "https://app.example.com"));
        assert!(allowed(list, "https://APP.example.com"));
        assert!(allowed(list, "https://app.example.com:443"));
        assert!(allowed(list, "http://localhost:3000"));
        for wrong in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://evil.test/https://app.example.com",
            "https://app.example.com@evil.test",
            "https://app.example.com/",
            "https://app.example.com, https://evil.test",
            "https://appxexample.com",
            "http://localhost",
            "http://localhost:30000",
            "app.example.com",
            "null",
            "",
            "://",
            "https://",
        ] {
            assert!(!allowed(list, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let list = "https://*.example.com";
        assert!(allowed(list, "https://a.example.com"));
        assert!(allowed(list, "https://a-1.example.com"));
        for wrong in [
            "https://example.com",
            "https://.example.com",
            "https://a.b.example.com",
            "https://a.example.com:8443",
            "http://a.example.com",
            "https://evil.test#.example.com",
            "https://evil.test?.example.com",
            "https://evil/.example.com",
            "https://*.example.com",
        ] {
            assert!(!allowed(list, wrong), "{wrong}");
        }
        assert!(allowed(
            "http://*.localhost:3000",
            "http://a.localhost:3000"
        ));
    }

    #[test]
    fn addresses_are_hosts_too() {
        assert!(allowed("http://127.0.0.1:5173", "http://127.0.0.1:5173"));
        assert!(allowed("http://[::1]:5173", "http://[::1]:5173"));
        assert!(!allowed("http://[::1]:5173", "http://[::1]:5174"));
    }

    #[test]
    fn an_empty_list_refuses_every_browser() {
        for list in ["", " ", ","] {
            assert!(!allowed(list, "https://app.example.com"));
        }
    }

    #[test]
    fn an_entry_is_what_browsers_send_or_is_refused_with_advice() {
        let cases = include_str!("../../../../tests/cases/allowed-origins.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(cases).unwrap();
        for case in &cases {
            let entry = case["entry"].as_str().unwrap();
            match (entry.parse::<AllowedOrigins>(), case["sent"].as_str()) {
                (Ok(list), Some(sent)) => assert!(list.allows(sent), "{entry}"),
                (Err(error), None) => {
                    let advice = case["advice"].as_str().unwrap();
                    assert_eq!(error.advice, advice, "{entry}");
                }
                (outcome, _) => panic!("{entry}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn the_wrong_entry_of_a_list_is_named() {
        let list = "https://app.example.com, localhost:5173";
        let error = list.parse::<AllowedOrigins>().unwrap_err().to_string();
        assert_eq!(
            error,
            r#"has an entry that no browser sends as an origin, "localhost:5173": write http://localhost:5173"#
        );
    }

    #[test]
    fn the_servers_own_origin_is_what_libraries_derive_from_the_address() {
        for (origin, host) in [
            ("https://ws.example.com", "ws.example.com"),
            ("http://127.0.0.1:3001", "127.0.0.1:3001"),
            ("http://[::1]:3001", "[::1]:3001"),
            ("wss://ws.example.com", "ws.example.com"),
            ("ws://localhost:3001", "localhost:3001"),
            ("https://ws.example.com:443", "ws.example.com"),
            ("https://WS.example.com", "ws.EXAMPLE.com:443"),
            ("http://127.8.9.1:3001", "127.8.9.1:3001"),
            ("ws://[::1]:3001", "[::1]:3001"),
            ("http://LOCALHOST:80", "localhost"),
            ("https://localhost:3001", "localhost:3001"),
        ] {
            assert!(is_own_origin(origin, host), "{origin}");
        }
        for origin in [
            "https://evil.test",
            "http://ws.example.com",
            "ws://ws.example.com",
            "http://ws.example.com:443",
            "https://ws.example.com:80",
            "https://ws.example.com:8443",
            "https://a.ws.example.com",
            "https://ws.example.com.evil.test",
            "https://ws.example.com@evil.test",
            "https://ws.example.com/",
            "https://ws.example.com, https://evil.test",
            "ws.example.com",
            "chrome-extension://ws.example.com",
            "https://",
            "null",
            "",
        ] {
            assert!(!is_own_origin(origin, "ws.example.com"), "{origin}");
        }
        assert!(!is_own_origin("https://", ""));
    }

    #[test]
    fn a_plain_scheme_is_the_servers_own_only_on_loopback() {
        for (host, loopback) in [
            ("localhost:3001", true),
            ("127.0.0.1:3001", true),
            ("127.255.0.9", true),
            ("[::1]:3001", true),
            ("ws.example.com", false),
            ("localhost.example.com", false),
            ("a.localhost", false),
            ("192.168.1.7:3001", false),
            ("128.0.0.1", false),
            ("0.0.0.0:3001", false),
            ("[::2]:3001", false),
            ("[fe80::1]:3001", false),
            ("host.docker.internal:3001", false),
        ] {
            for (scheme, own) in [
                ("http", loopback),
                ("ws", loopback),
                ("https", true),
                ("wss", true),
            ] {
                let origin = format!("{scheme}://{host}");
                assert_eq!(is_own_origin(&origin, host), own, "{origin}");
            }
        }
    }

    #[test]
    fn an_absent_origin_is_allowed_by_policy_only() {
        let policy = |allow_missing| OriginPolicy {
            allowed: AllowedOrigins::default(),
            allow_missing,
        };
        assert!(policy(true).allows(None));
        assert!(!policy(false).allows(None));
        assert!(!policy(true).allows(Some("https://app.example.com")));
        assert!(!policy(true).allows(Some("")));
    }

    proptest! {
        #[test]
        fn only_the_servers_own_host_is_its_own_origin(origin in r"(https?|wss?|app)://[a.b:/@0-9]{0,8}|\PC{0,20}") {
            let own = ["a.b", "a.b:443"].iter().any(|host| {
                ["https", "wss"].iter().any(|scheme| origin == format!("{scheme}://{host}"))
            });
            prop_assert_eq!(is_own_origin(&origin, "a.b"), own);
        }

        #[test]
        fn only_the_exact_origin_passes(origin in r"[a-z:/.*@#0-9-]{0,40}") {
            let passes = allowed("https://a.example.com", &origin);
            let same = origin == "https://a.example.com" || origin == "https://a.example.com:443";
            prop_assert_eq!(passes, same);
        }
    }
}
