//! Liveness: which connections are checked when, and what happens to those
//! that are silent, expired or about to be cut.

mod check;
mod deadlines;
mod sweep;
#[cfg(test)]
mod tests;
mod watched;

pub use deadlines::LivenessSettings;
pub use sweep::Sweeper;

use crate::time::UnixMillis;

/// What sweeps remember of a connection. A frame clears `pinged_at` and
/// `unreachable_since` and changes nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// When a sweep must check the connection next.
    pub due_at: UnixMillis,
    /// When it was pinged, if no frame came since.
    pub pinged_at: Option<UnixMillis>,
    /// Since when posts to it fail, if no frame came since.
    pub unreachable_since: Option<UnixMillis>,
    /// Whether it was asked to reconnect.
    pub reconnect_sent: bool,
    /// When another connection replaced it.
    pub replaced_at: Option<UnixMillis>,
}

impl Liveness {
    /// The liveness of a new connection.
    #[must_use]
    pub fn due_at(due_at: UnixMillis) -> Self {
        Self {
            due_at,
            pinged_at: None,
            unreachable_since: None,
            reconnect_sent: false,
            replaced_at: None,
        }
    }
}
