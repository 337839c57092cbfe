//! Assumptions about function URLs that are not established. Each is one
//! conservative constant and one row of docs/GATEWAY.md, marked as assumed. If AWS
//! turns out to behave differently, change the constant.

use axum::http::StatusCode;

/// Content types, beside `text/*`, whose bodies are passed on as text.
pub(super) const TEXT_TYPES: [&str; 3] = [
    "application/javascript",
    "application/json",
    "application/xml",
];
pub(super) const TEXT_SUFFIXES: [&str; 2] = ["+json", "+xml"];

/// The response to a request that makes an event above 6 MB.
pub(super) const TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;

/// The response to a function's output that is no response.
pub(super) const MALFORMED: StatusCode = StatusCode::BAD_GATEWAY;

/// The content type of a complete response behind a URL that streams. Its body
/// is the function's output as it is.
pub(super) const UNSTREAMED_TYPE: &str = "application/json";

/// The content type of a streamed response that names none.
pub(super) const STREAMED_TYPE: &str = "application/octet-stream";

/// The longest prelude of a streamed response, in bytes.
pub(super) const MAX_PRELUDE_BYTES: usize = 16 * 1024;

/// Headers of a function that its URL renames to `x-amzn-remapped-…`. Others
/// have been seen; these are those that a function may well set.
pub(super) const REMAPPED: [&str; 6] = [
    "connection",
    "content-length",
    "date",
    "host",
    "server",
    "www-authenticate",
];
