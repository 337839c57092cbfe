use std::future::Future;

use belfry_protocol::ConnectionId;
use futures_util::stream::Stream;

use super::StoreError;
use crate::connections::Connection;
use crate::liveness::Liveness;
use crate::time::UnixMillis;

/// Connections that need a check.
pub trait DueConnections: Send + Sync {
    /// Connections whose `due_at` is not after `now`, read as the stream is
    /// consumed. The list may lag behind writes: the rows say whether they are
    /// still due. After an error the stream continues with what can still be
    /// read.
    fn due(&self, now: UnixMillis) -> impl Stream<Item = Result<ConnectionId, StoreError>> + Send;

    /// Replaces the row's liveness if no other sweep did so since it was read
    /// (same `due_at`) and, if `next` has an unanswered ping, no frame came
    /// since. Returns whether it did. `replaced_at` is left as it is, and
    /// `reconnect_sent` is never unset.
    fn record_liveness(
        &self,
        seen: &Connection,
        next: &Liveness,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
