//! The parameter `AllowedOrigins`, checked before anything starts: the function
//! that reads it would fail at the first handshake.

use url::Url;

/// The parameter has an entry that no browser would send.
#[derive(Debug, thiserror::Error)]
#[error("no browser sends the origin {entry:?}: {advice}")]
pub(crate) struct InvalidOrigin {
    entry: String,
    advice: String,
}

/// Checks each entry of the comma-separated list.
pub(crate) fn check(list: &str) -> Result<(), InvalidOrigin> {
    let entries = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    for entry in entries {
        if !is_sent(entry) {
            return Err(InvalidOrigin {
                entry: entry.to_owned(),
                advice: advice(entry),
            });
        }
    }
    Ok(())
}

fn is_sent(entry: &str) -> bool {
    let Some((scheme, rest)) = entry.split_once("://") else {
        return false;
    };
    // A wildcard stands for any label, such as `a`.
    let page = match rest.strip_prefix("*.") {
        Some(parent) => format!("a.{parent}"),
        None => rest.to_owned(),
    };
    let Ok(url) = Url::parse(&format!("{scheme}://{page}")) else {
        return false;
    };
    // The parser forgives what an origin never has.
    let bare = !page.contains(|c: char| c.is_ascii_whitespace() || "*@/?#\\%".contains(c));
    let of_a_page = !matches!(url.scheme(), "ws" | "wss" | "file");
    bare && of_a_page && url.host_str().is_some_and(is_host) && has_valid_port(&page)
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    host.starts_with('[') || host.split('.').all(is_label)
}

fn has_valid_port(authority: &str) -> bool {
    match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => {
            port.starts_with(|c: char| matches!(c, '1'..='9')) && port.parse::<u16>().is_ok()
        }
        _ => true,
    }
}

/// What to write instead.
fn advice(entry: &str) -> String {
    let (scheme, rest) = match entry.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, entry),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let on_loopback = ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        let port = authority.strip_prefix(host);
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    });
    let scheme = match scheme {
        Some("wss") => "https",
        Some("ws") => "http",
        Some(other) => other,
        None if on_loopback => "http",
        None => "https",
    };
    let repaired = format!("{scheme}://{authority}");
    if authority != "null" && is_sent(&repaired) {
        format!("write {repaired}")
    } else if entry.contains('*') {
        "a wildcard stands for one label before a host, as in https://*.example.com".into()
    } else if entry.contains("://") && !has_valid_port(authority) && !authority.contains('[') {
        "the port must be a number from 1 to 65535".into()
    } else {
        "write the origin of a page, like https://app.example.com".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_cases_hold() {
        let cases = include_str!("../../../tests/cases/allowed-origins.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(cases).unwrap();
        for case in &cases {
            let entry = case["entry"].as_str().unwrap();
            let advice = check(entry).err().map(|invalid| invalid.advice);
            assert_eq!(advice.as_deref(), case["advice"].as_str(), "{entry}");
        }
    }

    #[test]
    fn every_entry_is_checked() {
        for list in ["", " ", ",", "https://a.example, https://b.example,"] {
            assert!(check(list).is_ok(), "{list}");
        }
        let error = check("https://a.example, localhost:5173").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"no browser sends the origin "localhost:5173": write http://localhost:5173"#
        );
    }
}
