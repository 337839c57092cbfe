use std::future::Future;
use std::time::Duration;

use belfry_protocol::{ConnectionId, Failures, MessageId};

use super::StoreError;
use crate::time::{UnixMillis, UnixSeconds};

/// Names a broadcast. When one has been forgotten its id may be used again;
/// what is still there of the old one then has another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BroadcastKey {
    /// Its id.
    pub id: MessageId,
    /// When it was asked for.
    pub started_at: UnixMillis,
}

/// A broadcast as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastRecord {
    /// What was asked for, without its id, as JSON that is the same for the
    /// same request.
    pub request: String,
    /// When it was asked for.
    pub started_at: UnixMillis,
    /// In how many segments it is done, at least one.
    pub segments: u32,
}

/// What became of a beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is the first of its id.
    New,
    /// There is one of this id; it was left as it is.
    Known(BroadcastRecord),
}

/// How far a segment is. A segment that nobody has taken yet is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where to go on; `None` is the beginning.
    pub cursor: Option<String>,
    /// Whether there is nothing after the cursor.
    pub is_listed: bool,
    /// Connections before the cursor that are not counted yet.
    pub pending: Vec<ConnectionId>,
    /// Posts that were accepted.
    pub success: u64,
    /// Recipients that were not reached.
    pub failures: Failures,
    /// Whether every recipient is counted.
    pub is_done: bool,
}

/// The right to work on a segment, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// How often the segment was taken: whoever holds the highest number
    /// works, and what any other writes is refused.
    pub version: u64,
    /// Who holds it.
    pub owner: String,
    /// How far it is.
    pub progress: Progress,
}

/// For whom a segment is kept, until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// For whoever works on it.
    ForOwner(UnixMillis),
    /// For whoever comes next, who was asked for.
    ForAnyone(UnixMillis),
}

/// What became of taking a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the caller's now.
    Yes(Lease),
    /// Somebody else's until then.
    Held(UnixMillis),
    /// Nothing is left to do.
    Done,
}

/// A segment as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// Until when somebody works on it, or was asked to.
    pub held_until: UnixMillis,
    /// Whether somebody works on it until then.
    pub is_taken: bool,
    /// How far it is.
    pub progress: Progress,
}

/// Broadcasts that are remembered.
///
/// Every read is of this moment. What is past its `expires_at` may be there or
/// not: a record counts as forgotten then.
pub trait BroadcastStore: Send + Sync {
    /// Remembers a broadcast that starts now, until a time.
    fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<Begun, StoreError>> + Send;

    /// What is remembered of a broadcast.
    fn record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Option<BroadcastRecord>, StoreError>> + Send;

    /// The segments that were ever offered or taken, by their number.
    fn segments(
        &self,
        key: &BroadcastKey,
    ) -> impl Future<Output = Result<Vec<(u32, SegmentView)>, StoreError>> + Send;

    /// Keeps a segment that is not done, and that nobody holds, for whoever
    /// was asked to work on it. Anything else is left as it is.
    fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a segment that is not done, and that nobody holds, or anyone may
    /// take, or `owner` has held before: an invocation that Lambda repeats goes
    /// on at once.
    fn take(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send;

    /// Writes how far a segment is, and for whom it is kept from now on.
    /// `false` where somebody else has taken it meanwhile: then nothing was
    /// written. Doing it again with the same progress changes nothing.
    fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        kept: Kept,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Holds a segment until another time, and writes nothing else. `false`
    /// where it is done, or somebody else's.
    fn hold(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Notes that a broadcast is done. `true` for one caller alone.
    fn finish(
        &self,
        key: &BroadcastKey,
        now: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Takes the turn of a broadcast to everyone: the wait until the next one,
    /// where another broadcast had it less than `interval` ago.
    fn take_turn(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;
}

/// Workers, each with an environment of its own.
pub trait Workers: Send + Sync {
    /// Asks a worker to do a segment. It may come late, twice, and is tried
    /// again where it dies.
    fn start(
        &self,
        id: &MessageId,
        segment: u32,
    ) -> impl Future<Output = Result<(), String>> + Send;
}
