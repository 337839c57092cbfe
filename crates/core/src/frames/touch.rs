use belfry_protocol::ConnectionId;

use super::TokenBucket;
use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::{Sessions, Touched};
use crate::time::UnixMillis;

/// Counts a frame and returns its connection, if it is to be served.
pub(super) async fn touch<S: Sessions>(
    store: &S,
    id: &ConnectionId,
    bucket: &TokenBucket,
    now: UnixMillis,
) -> Result<Connection, Rejection> {
    match store.touch(id, bucket, now).await? {
        Touched::Live(connection) => Ok(connection),
        Touched::NotServed(why) => Err(why.into()),
    }
}
