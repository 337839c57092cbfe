use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, HeldLocks, LockName, Timestamp};

/// A request for the locks of a channel that are held.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLocks {
    /// The channel.
    pub channel: ChannelName,
}

/// The locks of a channel that are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelLocks {
    /// The channel.
    pub channel: ChannelName,
    /// Its locks.
    #[serde(flatten)]
    pub locks: HeldLocks,
}

/// A request to release a lock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseLock {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
}

/// Result of releasing a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseReport {
    /// Whether somebody held it.
    pub released: bool,
    /// Until when its holder was told that it holds it. It cannot renew the lock,
    /// and others get it five seconds later, or as soon as the holder unlocks it
    /// or has left. Absent if nobody held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A lock that a connection holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldByConnection {
    /// The channel.
    pub channel: ChannelName,
    /// The lock's name in the channel.
    pub name: LockName,
}
