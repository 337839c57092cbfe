//! The page's files. They have no build step, and nothing in them comes from
//! elsewhere.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::Redirect;
use axum::routing::get;

/// The page runs its own files and nothing else. It cannot be framed, cannot send
/// a form anywhere, and cannot turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Each file's name below `/_local/`, its type and its text.
const FILES: [(&str, &str, &str); 11] = [
    ("", HTML, include_str!("page/index.html")),
    ("console/style.css", CSS, include_str!("page/style.css")),
    ("console/icon.svg", SVG, include_str!("page/icon.svg")),
    ("console/main.js", SCRIPT, include_str!("page/main.js")),
    ("console/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("console/users.js", SCRIPT, include_str!("page/users.js")),
    (
        "console/connections.js",
        SCRIPT,
        include_str!("page/connections.js"),
    ),
    (
        "console/traffic.js",
        SCRIPT,
        include_str!("page/traffic.js"),
    ),
    (
        "console/functions.js",
        SCRIPT,
        include_str!("page/functions.js"),
    ),
    ("console/faults.js", SCRIPT, include_str!("page/faults.js")),
    ("console/send.js", SCRIPT, include_str!("page/send.js")),
];

pub(super) fn router() -> Router {
    let to_page = get(async || Redirect::temporary("/_local/"));
    let router = Router::new().route("/_local", to_page);
    FILES
        .into_iter()
        .fold(router, |router, (name, kind, text)| {
            let file = move || std::future::ready((headers(kind), text));
            router.route(&format!("/_local/{name}"), get(file))
        })
}

fn headers(kind: &'static str) -> [(HeaderName, &'static str); 8] {
    [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // A rebuilt stack has other files at the same address.
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ]
}
