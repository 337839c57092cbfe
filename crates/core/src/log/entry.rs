use std::fmt;

use belfry_protocol::{Epoch, Position, UserId};

use crate::time::UnixSeconds;

/// Names a log: that of a channel, of a user or of everyone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey(String);

impl LogKey {
    /// The log of a named channel. No channel's name begins with `@`.
    #[must_use]
    pub fn channel(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The log of the messages to one user.
    #[must_use]
    pub fn user(id: &UserId) -> Self {
        Self(format!("@me:{id}"))
    }

    /// The log of the messages to everyone.
    #[must_use]
    pub fn all() -> Self {
        Self("@all".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies one message among all that are ever appended to a log, whoever
/// sent them. A repetition of the same append has the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendId(pub String);

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub append_id: AppendId,
    /// From then on the entry does not count, whether or not it was deleted.
    pub expires_at: UnixSeconds,
    /// What subscribers receive.
    pub frame: String,
}

/// The head of a log. A log without a head has no messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub epoch: Epoch,
    /// The newest message.
    pub newest: Entry,
}

impl Head {
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.newest.seq,
        }
    }
}
