use std::future::Future;

use super::StoreError;

/// Knows how many connections are open.
pub trait Capacity: Send + Sync {
    /// The number of connections that count towards the limit. It may be a
    /// moment old.
    fn open_connections(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
