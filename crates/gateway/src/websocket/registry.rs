//! The open connections by their id.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::connection::Connection;

/// A map that many read and few write, never across an await.
#[derive(Default)]
pub(super) struct Registry(RwLock<HashMap<String, Arc<Connection>>>);

impl Registry {
    pub(super) fn insert(&self, connection: Arc<Connection>) {
        self.0
            .write()
            .expect("no one panics while holding the map")
            .insert(connection.peer.id.clone(), connection);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.0
            .read()
            .expect("no one panics while holding the map")
            .get(id)
            .cloned()
    }

    pub(super) fn remove(&self, id: &str) -> Option<Arc<Connection>> {
        self.0
            .write()
            .expect("no one panics while holding the map")
            .remove(id)
    }
}
