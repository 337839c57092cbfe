//! The `Origin` header against the list of allowed origins, compared with the
//! URL standard's parser: it reads an address as a browser does.

use belfry_core::connections::AllowedOrigins;
use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Url;

use crate::config;
use crate::mutate::{cut, cuts};

/// The parts of an entry of the list.
#[derive(Debug, Clone)]
struct Entry {
    scheme: &'static str,
    one_label: bool,
    host: &'static str,
    port: &'static str,
}

impl Entry {
    fn text(&self) -> String {
        self.origin(if self.one_label { "*." } else { "" }, self.port)
    }

    fn origin(&self, label: &str, port: &str) -> String {
        format!("{}://{label}{}{port}", self.scheme, self.host)
    }

    /// Whether the URL has the entry's scheme, host and port, and nothing more.
    fn covers(&self, url: &Url) -> bool {
        let Ok(own) = Url::parse(&self.origin("", self.port)) else {
            return false;
        };
        let (host, own_host) = (url.host_str().unwrap_or(""), own.host_str().unwrap_or(""));
        let label = host
            .strip_suffix(own_host)
            .and_then(|start| start.strip_suffix('.'));
        let same_host = if self.one_label {
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        } else {
            host.eq_ignore_ascii_case(own_host)
        };
        let bare = matches!(url.path(), "" | "/")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        bare && same_host
            && url.scheme() == own.scheme()
            && url.port_or_known_default() == own.port_or_known_default()
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let scheme = select(vec!["https", "http", "app"]);
    let host = select(vec![
        "a.test",
        "b.a.test",
        "localhost",
        "test",
        "a_b.c-d.test",
    ]);
    let port = select(vec!["", ":443", ":80", ":8443"]);
    let entry = (scheme, any::<bool>(), host, port);
    let entry = entry.prop_map(|(scheme, one_label, host, port)| Entry {
        scheme,
        one_label,
        host,
        port,
    });
    prop::collection::vec(entry, 1..3)
}

fn allowed(entries: &[Entry]) -> AllowedOrigins {
    let texts: Vec<_> = entries.iter().map(Entry::text).collect();
    texts.join(", ").parse().expect("good entries")
}

proptest! {
    #![proptest_config(config())]

    // Near misses: an allowed origin with some characters changed.
    #[test]
    fn an_allowed_origin_is_one_of_the_list(
        entries in entries(),
        label in "([a-z]{1,3}\\.){0,2}",
        port in select(vec!["", ":443", ":80", ":8443"]),
        cuts in cuts(),
    ) {
        let origin = cut(entries[0].origin(&label, port), &cuts);
        if allowed(&entries).allows(&origin) {
            let url = Url::parse(&origin).unwrap();
            prop_assert!(entries.iter().any(|entry| entry.covers(&url)), "{}", origin);
        }
    }

    #[test]
    fn an_accepted_entry_is_one_that_browsers_send(
        scheme in select(vec!["https", "http", "app"]),
        wildcard in any::<bool>(),
        host in "[a-z.*@:/0-9\\[\\]ü日_%-]{0,12}|\\PC{0,12}|([0-9]{1,5}\\.){3}[0-9]{1,3}",
        port in "(:[0-9]{0,6})?",
    ) {
        let star = if wildcard { "*." } else { "" };
        let entry = format!("{scheme}://{star}{host}{port}").replace(',', "");
        let entry = entry.trim_end();
        if let Ok(list) = entry.parse::<AllowedOrigins>() {
            let url = Url::parse(&entry.replace("*.", "a.")).unwrap();
            let sent = match url.origin() {
                // Of a scheme that the URL standard does not know.
                origin if !origin.is_tuple() => entry.replace("*.", "a."),
                origin => origin.ascii_serialization(),
            };
            prop_assert!(list.allows(&sent), "{} {}", entry, sent);
        }
    }

    #[test]
    fn an_origin_of_the_list_is_allowed(
        entries in entries(),
        label in "[a-zA-Z0-9_-]{1,63}",
        upper_case in any::<bool>(),
    ) {
        for entry in &entries {
            let label = if entry.one_label { format!("{label}.") } else { String::new() };
            let mut origin = entry.origin(&label, entry.port);
            // As a browser writes it: without the scheme's default port.
            if let Ok(url) = Url::parse(&origin) && url.port().is_none() {
                origin = entry.origin(&label, "");
            }
            if upper_case {
                origin.make_ascii_uppercase();
            }
            prop_assert!(allowed(&entries).allows(&origin), "{}", origin);
        }
    }
}
