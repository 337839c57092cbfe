use std::future::Future;
use std::time::Duration;

use belfry_protocol::ConnectionId;

use super::StoreError;
use crate::time::UnixMillis;

/// How long the end of an unknown connection is remembered. It is far longer
/// than a `$connect` can take (29 seconds at most).
pub const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Forgets connections that have ended.
pub trait Disconnections: Send + Sync {
    /// Removes the connection's row and releases its capacity. If there is no
    /// row, an admission within [`TOMBSTONE_LIFETIME`] leaves none. Repeating
    /// the call changes nothing.
    fn disconnect(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
