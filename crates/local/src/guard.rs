//! Keeps web pages away from the local stack. A browser on this machine reaches
//! every local port, and the APIs behind them have no credentials to check.
//!
//! A page can send requests, but it cannot choose their `Host`, `Origin` or
//! `Sec-Fetch-Site`. The `Host` exposes a foreign name that resolves to this
//! machine (DNS rebinding); the other two expose a page of another origin. SDKs
//! and command-line tools send the address that they call as `Host`, and neither
//! of the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use serde_json::json;

use crate::websocket;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Decides which requests may reach a local port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    allowed: Arc<[Host]>,
    listens_everywhere: bool,
    /// The path of the WebSocket URL. `$connect` itself decides which origins may
    /// open a connection.
    websocket: Option<Arc<str>>,
    /// Whether pages of every origin may call.
    serves_pages: bool,
}

/// A host without its port: an address, or a name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the Host header must be a loopback address, localhost, the address of --host, or a host allowed with --allowed-host"
    )]
    ForeignHost,
    #[error("a web page of another origin cannot call the local stack")]
    ForeignOrigin,
}

impl Guard {
    /// Allows loopback and these hosts. `host` is the address of `--host`; if it is
    /// unspecified, every address of this machine is allowed.
    pub(crate) fn new(host: Option<IpAddr>, allowed: &[Host]) -> Self {
        Self {
            allowed: allowed
                .iter()
                .cloned()
                .chain(host.map(Host::Address))
                .collect(),
            listens_everywhere: host.is_some_and(|host| host.is_unspecified()),
            websocket: None,
            serves_pages: false,
        }
    }

    /// Leaves every request's origin to the function behind this port.
    #[must_use]
    pub(crate) fn with_pages(mut self) -> Self {
        self.serves_pages = true;
        self
    }

    /// Leaves the origin of a WebSocket handshake at this path to `$connect`.
    #[must_use]
    pub(crate) fn with_websocket(mut self, path: &str) -> Self {
        self.websocket = Some(path.into());
        self
    }

    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = self.host(request).ok_or(Refusal::ForeignHost)?;
        if self.serves_pages || self.is_handshake(request) {
            return Ok(());
        }
        let is_cross_site = |value: &HeaderValue| value == "cross-site";
        if headers.get_all(SEC_FETCH_SITE).iter().any(is_cross_site) {
            return Err(Refusal::ForeignOrigin);
        }
        let is_local = |origin: &HeaderValue| {
            origin_host(origin).is_some_and(|origin| origin == host || self.allows(&origin))
        };
        if headers.get_all(ORIGIN).iter().all(is_local) {
            Ok(())
        } else {
            Err(Refusal::ForeignOrigin)
        }
    }

    /// The host that the request names, if it names an allowed one and no other.
    fn host<B>(&self, request: &Request<B>) -> Option<Host> {
        let mut values = request.headers().get_all(HOST).iter();
        let host = Host::of_authority(values.next()?.to_str().ok()?)?;
        if values.next().is_some() {
            return None;
        }
        // A request for a proxy has the whole URL in its first line.
        let named = request.uri().authority();
        let same =
            named.is_none_or(|named| Host::of_authority(named.as_str()) == Some(host.clone()));
        // Only a name can be rebound to this machine, so any address will do.
        let is_own = self.listens_everywhere && matches!(host, Host::Address(_));
        (same && (is_own || self.allows(&host))).then_some(host)
    }

    fn allows(&self, host: &Host) -> bool {
        host.is_loopback() || self.allowed.contains(host)
    }

    fn is_handshake<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        let path = path.strip_suffix('/').unwrap_or(path);
        self.websocket.as_deref() == Some(path) && websocket::is_upgrade(request.headers())
    }
}

impl Host {
    /// Parses a host without a port, like `--allowed-host host.docker.internal`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bare = text.parse::<Ipv6Addr>().map(|ip| Self::Address(ip.into()));
        let host = bare.ok().or_else(|| match Authority::try_from(text) {
            Ok(authority) if authority.host() == text => Self::of_authority(text),
            _ => None,
        });
        host.ok_or_else(|| "must be a host name or an IP address, without a port".to_owned())
    }

    /// The host of `host` or `host:port`.
    fn of_authority(text: &str) -> Option<Self> {
        let authority = Authority::try_from(text).ok()?;
        let host = authority.host();
        let port = text.strip_prefix(host)?;
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        if let Some(address) = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(Self::Address(IpAddr::from(address).to_canonical()));
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let named = !host.is_empty() && host.bytes().all(is_name);
        named.then(|| Self::Name(host.to_ascii_lowercase()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

/// The host of an `Origin`. A page without an origin of its own sends `null`.
fn origin_host(origin: &HeaderValue) -> Option<Host> {
    let (scheme, authority) = origin.to_str().ok()?.split_once("://")?;
    let is_page = ["http", "https"].contains(&scheme);
    is_page.then(|| Host::of_authority(authority)).flatten()
}

impl Refusal {
    pub(crate) fn response(self) -> Response<Body> {
        let body = json!({"message": format!("Forbidden: {self}")});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl Guard {
    /// Removes every permission for pages of other origins to read a response,
    /// unless this port serves them. The embedded DynamoDB gives it to all.
    pub(crate) fn remove_cors(&self, headers: &mut HeaderMap) {
        if !self.serves_pages {
            remove_cors(headers);
        }
    }
}

fn remove_cors(headers: &mut HeaderMap) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(()).unwrap())
    }

    fn check_host(guard: &Guard, host: &str) -> Result<(), Refusal> {
        check(guard, "/", &[("Host", host)])
    }

    #[test]
    fn a_host_is_loopback_in_any_spelling_with_any_port() {
        let guard = Guard::default();
        for host in [
            "localhost",
            "LocalHost:3001",
            "127.0.0.1",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:65535",
            "[0:0:0:0:0:0:0:1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(check_host(&guard, host), Ok(()), "{host}");
        }
        for host in [
            "",
            ":3001",
            "evil.example",
            "evil.example:3001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "127.0.0.1:3001:80",
            "127.0.0.1:x",
            "127.0.0.1:65536",
            "127.0.0.1/",
            "127.1",
            "2130706433",
            "0.0.0.0:3001",
            "192.0.2.1",
            "[::]",
            "::1",
            "[::1",
            "localhost.",
            "localhost, evil.example",
        ] {
            assert_eq!(
                check_host(&guard, host),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let guard = Guard::default();
        assert_eq!(check(&guard, "/", &[]), Err(Refusal::ForeignHost));
        let two = [("Host", "localhost"), ("Host", "evil.example")];
        assert_eq!(check(&guard, "/", &two), Err(Refusal::ForeignHost));
        let local = [("Host", "127.0.0.1:1")];
        let named = |uri| check(&guard, uri, &local);
        assert_eq!(named("http://127.0.0.1:1/"), Ok(()));
        assert_eq!(named("http://evil.example/"), Err(Refusal::ForeignHost));
    }

    #[test]
    fn flags_allow_further_hosts() {
        let allowed = ["host.docker.internal", "192.0.2.7", "2001:db8::7"];
        let allowed = allowed.map(|text| Host::parse(text).unwrap());
        let guard = Guard::new(None, &allowed);
        for host in ["Host.Docker.Internal:80", "192.0.2.7", "[2001:db8::7]:1"] {
            assert_eq!(check_host(&guard, host), Ok(()), "{host}");
        }
        for host in ["docker.internal", "192.0.2.8", "[2001:db8::8]"] {
            assert_eq!(
                check_host(&guard, host),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        let guard = Guard::new(Some(Ipv4Addr::UNSPECIFIED.into()), &[]);
        assert_eq!(check_host(&guard, "192.0.2.8:1"), Ok(()));
        assert_eq!(
            check_host(&guard, "evil.example"),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn an_allowed_host_has_no_port_and_no_scheme() {
        for wrong in ["", "a:1", "http://a", "a/b", "u@a", "[::1]:1", "a b", "*"] {
            assert!(Host::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let guard = Guard::new(Some(Ipv4Addr::UNSPECIFIED.into()), &[]);
        let from = |origin| check(&guard, "/", &[("Host", "192.0.2.7:1"), ("Origin", origin)]);
        for origin in [
            "http://localhost:5173",
            "https://[::1]",
            "http://192.0.2.7:5173",
        ] {
            assert_eq!(from(origin), Ok(()), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "http://192.0.2.8",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "null",
            "",
            "localhost",
            "chrome-extension://localhost",
            "http://localhost http://evil.example",
        ] {
            assert_eq!(from(origin), Err(Refusal::ForeignOrigin), "{origin}");
        }
        let site = |site| {
            check(
                &guard,
                "/",
                &[("Host", "localhost"), ("Sec-Fetch-Site", site)],
            )
        };
        assert_eq!(site("cross-site"), Err(Refusal::ForeignOrigin));
        for own in ["none", "same-origin", "same-site"] {
            assert_eq!(site(own), Ok(()), "{own}");
        }
    }

    #[test]
    fn a_function_decides_about_the_origin_of_a_request_to_its_url() {
        let guard = Guard::default().with_pages();
        let from_page = |host| {
            let headers = [
                ("Host", host),
                ("Origin", "http://evil.example"),
                ("Sec-Fetch-Site", "cross-site"),
            ];
            check(&guard, "/events", &headers)
        };
        assert_eq!(from_page("localhost:1"), Ok(()));
        assert_eq!(from_page("evil.example"), Err(Refusal::ForeignHost));
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        guard.remove_cors(&mut headers);
        assert_eq!(headers.len(), 1);
        Guard::default().remove_cors(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn connect_decides_about_the_origin_of_a_handshake() {
        let guard = Guard::default().with_websocket("/dev");
        let upgrade = |uri, host| {
            let headers = [
                ("Host", host),
                ("Origin", "http://evil.example"),
                ("Sec-Fetch-Site", "cross-site"),
                ("Connection", "keep-alive, Upgrade"),
                ("Upgrade", "websocket"),
            ];
            check(&guard, uri, &headers)
        };
        assert_eq!(upgrade("/dev?token=x", "localhost"), Ok(()));
        assert_eq!(upgrade("/dev/", "localhost"), Ok(()));
        assert_eq!(upgrade("/dev", "evil.example"), Err(Refusal::ForeignHost));
        let elsewhere = upgrade("/_local/faults", "localhost");
        assert_eq!(elsewhere, Err(Refusal::ForeignOrigin));
    }
}
