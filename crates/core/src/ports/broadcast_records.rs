use std::future::Future;
use std::time::Duration;

use belfry_protocol::MessageId;

use super::StoreError;
use crate::time::{UnixMillis, UnixSeconds};

/// Identifies a broadcast. A forgotten id may be used again; leftovers of the
/// old broadcast then have another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BroadcastKey {
    pub id: MessageId,
    pub started_at: UnixMillis,
}

/// A broadcast as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastRecord {
    /// The request without its id, as JSON in a canonical form: equal requests
    /// have equal texts.
    pub request: String,
    pub started_at: UnixMillis,
    /// At least one.
    pub segments: u32,
}

/// Result of [`NewBroadcasts::begin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The id is new, and the broadcast is remembered.
    New,
    /// This id is in use. The record was not changed.
    Known(BroadcastRecord),
    /// The store cannot hold a request of this size.
    TooLarge { max_bytes: usize },
}

/// Remembers new broadcasts.
pub trait NewBroadcasts: Send + Sync {
    /// Remembers a broadcast that starts now, until `expires_at`.
    fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<Begun, StoreError>> + Send;

    /// Reserves the interval for a broadcast to everyone. Returns the wait
    /// until the next one if another broadcast reserved it less than
    /// `interval` ago.
    fn reserve_all(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;
}

/// Broadcasts that are remembered.
///
/// Reads are consistent. A record counts as forgotten from its `expires_at`
/// on, whether or not it has been deleted.
pub trait BroadcastRecords: Send + Sync {
    fn find_record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<BroadcastRecord>, StoreError>> + Send;

    /// Marks a broadcast as finished. Returns `true` to one caller only.
    fn finish(
        &self,
        key: &BroadcastKey,
        now: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
