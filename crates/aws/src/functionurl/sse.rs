//! Server-Sent Events (HTML standard, 9.2, "Server-sent events").

use belfry_core::reader::Event;
use serde::Deserialize;

/// How soon a browser opens the next stream after one has ended. It waits a
/// little so that a server that refuses is not flooded.
pub const RETRY: &str = "retry: 1000\n\n";

/// A comment, which browsers ignore.
pub const KEEP_ALIVE: &str = ":\n\n";

/// An event: the frame's type is its name, the cursor its id.
///
/// Invariant: neither has a line break, which would begin another field. JSON
/// escapes them, and a cursor is visible ASCII.
#[must_use]
pub fn event(event: &Event) -> String {
    #[derive(Deserialize)]
    struct Typed<'a> {
        r#type: &'a str,
    }
    let typed: Option<Typed<'_>> = serde_json::from_str(&event.frame).ok();
    let name = typed.map_or("message", |typed| typed.r#type);
    let Event { frame, cursor } = event;
    format!("event: {name}\nid: {cursor}\ndata: {frame}\n\n")
}
