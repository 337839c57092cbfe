use std::future::Future;

use belfry_protocol::{ConnectionId, UserId};

use super::StoreError;
use crate::connection::Recipient;
use crate::time::UnixMillis;

/// One of several disjoint parts of the table, which may be read in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Counted from zero.
    pub index: u32,
    /// How many parts there are, at least one.
    pub total: u32,
}

/// Where a listing goes on. Opaque outside the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub ConnectionId);

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Live connections; an empty page does not mean the end.
    pub recipients: Vec<Recipient>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Whom a broadcast can reach, and what it does about those who are gone.
///
/// A row whose `expires_at` has passed is never returned, whether or not it
/// has been deleted. Listings may be a moment behind writes, in both
/// directions. A row that cannot be read is skipped and logged: one bad row
/// must not stop a broadcast.
pub trait RecipientStore: Send + Sync {
    /// Removes the row and gives its place back if it is still the row that
    /// was read: the same id and `connected_at`. Anything else succeeds and
    /// changes nothing.
    fn remove_unchanged(
        &self,
        seen: &Recipient,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A user's live connections.
    fn of_user(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// Those of the connections that are live, in no particular order. The
    /// ids must be distinct.
    fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// One page of a segment's live connections.
    fn scan(
        &self,
        segment: Segment,
        from: Option<Cursor>,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// How many places are taken.
    fn count(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
