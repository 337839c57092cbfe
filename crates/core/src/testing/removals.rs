use std::time::Duration;

use super::{FakeStore, START, Store, connection, live, put};
use crate::connections::Recipient;
use crate::ports::{Removals, StoreError};
use crate::time::UnixMillis;

impl Removals for FakeStore {
    async fn remove_unchanged(&self, seen: &Recipient, now: UnixMillis) -> Result<(), StoreError> {
        self.responds("remove_unchanged").await;
        let mut state = self.working("remove_unchanged")?;
        if let Some(change) = state.before_removal.remove(&seen.id)
            && let Some(row) = state.rows.get_mut(&seen.id)
        {
            change(&mut row.connection);
        }
        let row = state.rows.get(&seen.id).map(|row| &row.connection);
        if row.is_some_and(|row| row.connected_at == seen.connected_at) {
            state.remove(&seen.id, now);
        }
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    remove_unchanged_removes_only_the_row_that_was_read(&new().await).await;
}

async fn remove_unchanged_removes_only_the_row_that_was_read<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let other = Recipient {
        connected_at: START.plus(Duration::from_secs(1)),
        ..Recipient::from(&row)
    };
    assert_eq!(store.remove_unchanged(&other, START).await, Ok(()));
    assert!(
        live(store, "c1").await.is_some(),
        "another handshake's row stays"
    );
    for _ in 0..2 {
        assert_eq!(
            store.remove_unchanged(&Recipient::from(&row), START).await,
            Ok(())
        );
        assert_eq!(live(store, "c1").await, None);
    }
}
