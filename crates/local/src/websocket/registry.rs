//! The open connections by id.

use std::sync::Arc;

use dashmap::DashMap;

use super::connection::Connection;

/// A sharded map: a post to one connection does not wait for another's handshake.
/// No method holds a guard across an await.
#[derive(Default)]
pub(super) struct ConnectionRegistry(DashMap<String, Arc<Connection>>);

impl ConnectionRegistry {
    pub(super) fn insert(&self, connection: Arc<Connection>) {
        self.0.insert(connection.peer.id.clone(), connection);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.0.get(id).map(|connection| Arc::clone(&connection))
    }

    pub(super) fn remove(&self, id: &str) -> Option<Arc<Connection>> {
        self.0.remove(id).map(|(_, connection)| connection)
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.0
            .iter()
            .map(|connection| Arc::clone(&connection))
            .collect()
    }
}
