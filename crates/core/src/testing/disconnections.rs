use belfry_protocol::ConnectionId;

use super::{FakeStore, START, Store, connection, connection_id, live, put};
use crate::ports::{Disconnections, StoreError};
use crate::time::UnixMillis;

impl Disconnections for FakeStore {
    async fn disconnect(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), StoreError> {
        let mut state = self.working("disconnect")?;
        state.remove(id, now);
        state.ended.insert(id.clone());
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    disconnect_is_idempotent(&new().await).await;
}

async fn disconnect_is_idempotent<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    put(store, &connection("c2", "alice")).await;
    for _ in 0..2 {
        assert_eq!(store.disconnect(&connection_id("c1"), START).await, Ok(()));
        assert_eq!(live(store, "c1").await, None);
    }
    assert!(live(store, "c2").await.is_some());
}
