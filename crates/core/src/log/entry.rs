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

/// Identifies one append among all that are ever made to a log, whoever makes
/// them. A repetition of the same append has the same id. Messages that are
/// appended together have one id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendId(pub String);

/// The end of an entry that is none. No clock is so slow that it would seem to
/// last.
const NEVER_LIVE: UnixSeconds = UnixSeconds(0);

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
    /// The frames of the messages that were appended together with the newest
    /// one. They come right before it.
    pub frames_before: Vec<String>,
    /// The newest message.
    pub newest: Entry,
}

impl Head {
    /// The head after all messages were deleted. It has the number of the last one,
    /// and its id: whoever appended it may not know yet that it did.
    pub(super) fn purged(&self, epoch: Epoch) -> Self {
        Self {
            epoch,
            frames_before: Vec::new(),
            newest: Entry {
                seq: self.newest.seq,
                append_id: self.newest.append_id.clone(),
                expires_at: NEVER_LIVE,
                frame: String::new(),
            },
        }
    }

    /// Whether nothing was appended since the log was purged.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.newest.expires_at == NEVER_LIVE
    }

    /// The number of the first message that was appended together with the
    /// newest one.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.newest.seq - self.frames_before.len() as u64
    }

    /// The entries of the messages that were appended together, the newest one
    /// last.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let before = (self.first()..).zip(&self.frames_before);
        let before = before.map(|(seq, frame)| Entry {
            seq,
            frame: frame.clone(),
            ..self.newest.clone()
        });
        before.chain([self.newest.clone()])
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.newest.seq,
        }
    }
}
