use std::future::Future;

use belfry_protocol::ConnectionId;

use super::StoreError;
use crate::connections::Connection;
use crate::time::UnixMillis;

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPage {
    /// An empty page does not mean the end.
    pub connections: Vec<Connection>,
    /// Continue after this connection; `None` at the end.
    pub next: Option<ConnectionId>,
}

/// Reads the rows of many connections.
///
/// A row whose `expires_at` has passed is never returned, whether or not it has
/// been deleted. A row that cannot be read is skipped and logged.
pub trait ConnectionListing: Send + Sync {
    /// The live ones of these connections, in any order, read consistently. The
    /// ids must be distinct.
    fn rows(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> impl Future<Output = Result<Vec<Connection>, StoreError>> + Send;

    /// One page of all live connections. Connections that were opened or closed
    /// a moment ago may be missing or listed. `after` may be any connection of an
    /// earlier page, or one that is gone.
    fn row_page(
        &self,
        after: Option<&ConnectionId>,
        now: UnixMillis,
    ) -> impl Future<Output = Result<ConnectionPage, StoreError>> + Send;
}
