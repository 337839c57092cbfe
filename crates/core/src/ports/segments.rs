use std::fmt;
use std::future::Future;
use std::str::FromStr;

use belfry_protocol::{ConnectionId, Failures};

use super::{BroadcastKey, StoreError};
use crate::time::{UnixMillis, UnixSeconds};

/// Where a segment's listing continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// After this connection of a scan.
    After(ConnectionId),
    /// At this index of the list that the request named.
    Index(usize),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(id) => write!(f, "after:{id}"),
            Self::Index(index) => write!(f, "index:{index}"),
        }
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed cursor")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        match text.split_once(':') {
            Some(("after", id)) => ConnectionId::parse(id)
                .map(Self::After)
                .map_err(|_| InvalidCursor),
            Some(("index", index)) => index.parse().map(Self::Index).map_err(|_| InvalidCursor),
            _ => Err(InvalidCursor),
        }
    }
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
    /// Another worker's, until then.
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

/// Leases on segments. Of several workers that believe to have a segment, one
/// can write.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(index: usize, id in "[A-Za-z0-9_=:-]{1,40}") {
            for cursor in [Cursor::Index(index), Cursor::After(ConnectionId::parse(id.as_str()).unwrap())] {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert!(text.starts_with("after:") || text.starts_with("index:"), "{:?}", cursor);
            }
        }
    }
}
