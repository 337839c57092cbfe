use std::future::Future;

use belfry_protocol::ConnectionId;

use super::StoreError;
use crate::connections::Connection;

pub trait ConnectionLookup: Send + Sync {
    /// The row as it is now (a consistent read), expired or not.
    fn find(
        &self,
        id: &ConnectionId,
    ) -> impl Future<Output = Result<Option<Connection>, StoreError>> + Send;
}
