use std::future::Future;

use belfry_protocol::{ConnectionId, UserId};

use super::{Consistency, Segment, StoreError};
use crate::connections::Recipient;
use crate::time::UnixMillis;

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientPage {
    /// An empty page does not mean the end.
    pub recipients: Vec<Recipient>,
    /// Continue after this connection; `None` at the end.
    pub next: Option<ConnectionId>,
}

/// Lists connections that a broadcast can reach.
///
/// A row whose `expires_at` has passed is never returned, whether or not it
/// has been deleted. Listings that are not consistent may lag behind writes in
/// both directions. A row that cannot be read is skipped and logged: one bad row must not stop a
/// broadcast.
pub trait Recipients: Send + Sync {
    /// A user's live connections.
    fn of_user(
        &self,
        user: &UserId,
        consistency: Consistency,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// The live ones of these connections, in any order, read consistently. The
    /// ids must be distinct.
    fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Recipient>, StoreError>> + Send;

    /// One page of a segment of all live connections.
    fn scan(
        &self,
        segment: Segment,
        after: Option<&ConnectionId>,
        consistency: Consistency,
        now: UnixMillis,
    ) -> impl Future<Output = Result<RecipientPage, StoreError>> + Send;
}
