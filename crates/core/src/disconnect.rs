//! A connection has ended.

use belfry_protocol::ConnectionId;

use crate::ports::{ConnectionStore, StoreError};

/// The use case: forget the connection.
#[derive(Debug)]
pub struct Disconnect<S> {
    /// Keeps the rows.
    pub store: S,
}

impl<S: ConnectionStore> Disconnect<S> {
    /// Forgets the connection. API Gateway may say this late, twice or never,
    /// so it succeeds where there is nothing to forget.
    ///
    /// # Errors
    /// [`StoreError`]: the row may still be there, until it expires or a post
    /// finds the connection gone.
    pub async fn handle(&self, id: &ConnectionId) -> Result<(), StoreError> {
        self.store.remove(id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeStore, connection, connection_id};

    #[tokio::test(start_paused = true)]
    async fn forgetting_twice_is_forgetting_once() {
        let disconnect = Disconnect {
            store: FakeStore::default(),
        };
        disconnect
            .store
            .insert(&connection("c1", "alice"))
            .await
            .unwrap();
        disconnect
            .store
            .insert(&connection("c2", "alice"))
            .await
            .unwrap();
        for _ in 0..2 {
            disconnect.handle(&connection_id("c1")).await.unwrap();
            assert_eq!(disconnect.store.row("c1"), None);
        }
        assert!(disconnect.store.row("c2").is_some());
    }
}
