use belfry_core::connections::Connection;
use belfry_core::ports::{ConnectionLookup, StoreError};
use belfry_protocol::ConnectionId;

use super::DynamoDb;

impl ConnectionLookup for DynamoDb {
    async fn find(&self, id: &ConnectionId) -> Result<Option<Connection>, StoreError> {
        Ok(self.row(id).await?.map(|row| row.connection))
    }
}
