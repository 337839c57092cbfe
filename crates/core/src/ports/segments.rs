use std::future::Future;

use belfry_protocol::{ConnectionId, Failures};

use super::{BroadcastKey, Cursor, StoreError};
use crate::time::{UnixMillis, UnixSeconds};

/// One of several disjoint parts of the recipients, which can be processed in
/// parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Counted from zero.
    pub index: u32,
    /// At least one.
    pub total: u32,
}

/// How far a segment is. The default is a segment that nobody has started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// `None` is the beginning.
    pub cursor: Option<Cursor>,
    /// Whether the listing has reached its end.
    pub listing_done: bool,
    /// Listed connections that are not counted yet.
    pub pending: Vec<ConnectionId>,
    /// Posts that were accepted.
    pub success: u64,
    /// Recipients that were not reached.
    pub failures: Failures,
    /// Whether every recipient is counted.
    pub is_done: bool,
}

/// The right to work on a segment for a limited time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// A fencing number: it rises with every acquisition, and writes with a
    /// lower one are refused.
    pub version: u64,
    pub owner: String,
    pub progress: Progress,
}

/// For whom a segment is reserved, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// For the lease's owner.
    Owner(UnixMillis),
    /// For the worker that was asked to continue, whichever it is.
    NextWorker(UnixMillis),
}

/// Result of [`SegmentLeases::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    Lease(Lease),
    /// Leased to another worker until this time.
    LeasedUntil(UnixMillis),
    /// Nothing is left to do.
    Done,
}

/// A segment as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentView {
    /// Until when a worker works on it, or is expected to.
    pub reserved_until: UnixMillis,
    /// Whether a worker has acquired it, rather than being expected to.
    pub is_leased: bool,
    pub progress: Progress,
}

/// Offers segments to workers.
pub trait SegmentOffers: Send + Sync {
    /// Reserves a segment for the worker that was asked to process it, unless
    /// the segment is done or leased.
    fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Leases on segments. If several workers believe that they own a segment, only
/// one of them can write.
pub trait SegmentLeases: Send + Sync {
    /// Acquires a segment that is not done and not leased to another worker.
    /// An owner may acquire its own segment again at once: Lambda retries an
    /// invocation under the same id.
    fn acquire(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        expires_at: UnixSeconds,
    ) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Writes the lease's progress and the reservation from now on. Returns
    /// `false`, with nothing written, if another worker has acquired the
    /// segment since. Writing the same progress again changes nothing.
    fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        reservation: Reservation,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Moves the end of the lease and nothing else; a time in the past
    /// releases it. Returns `false` if the segment is done or was acquired by
    /// another worker.
    fn renew(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Reads how far segments are.
pub trait SegmentStates: Send + Sync {
    /// The segments that were ever offered or acquired, by number. The read is
    /// consistent.
    fn segments(
        &self,
        key: &BroadcastKey,
    ) -> impl Future<Output = Result<Vec<(u32, SegmentView)>, StoreError>> + Send;
}
