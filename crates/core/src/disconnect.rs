//! A connection has ended.

use belfry_protocol::ConnectionId;

use crate::ports::{Clock, ConnectionStore, Measured, Metrics, StoreError};

/// The use case: forget the connection.
#[derive(Debug)]
pub struct Disconnect<S, C, M> {
    /// Keeps the rows.
    pub store: S,
    /// Tells the time.
    pub clock: C,
    /// Counts who has left.
    pub metrics: M,
}

impl<S: ConnectionStore, C: Clock, M: Metrics> Disconnect<S, C, M> {
    /// Forgets the connection. API Gateway may say this late, twice, never, or
    /// while `$connect` still runs, so it succeeds where there is nothing to
    /// forget, and what comes after it leaves no row.
    ///
    /// # Errors
    /// [`StoreError`]: the row may still be there, until a sweeper or a
    /// broadcast finds the connection gone.
    pub async fn handle(&self, id: &ConnectionId) -> Result<(), StoreError> {
        self.store.disconnect(id, self.clock.now()).await?;
        self.metrics.record(Measured::Ended);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeMetrics, FakeStore, TestClock, connection_id};

    #[tokio::test(start_paused = true)]
    async fn forgetting_twice_is_forgetting_once() {
        let disconnect = Disconnect {
            store: FakeStore::default(),
            clock: TestClock::default(),
            metrics: FakeMetrics::default(),
        };
        for id in ["c1", "c2"] {
            disconnect.store.put(id, "alice").await;
        }
        for _ in 0..2 {
            disconnect.handle(&connection_id("c1")).await.unwrap();
            assert_eq!(disconnect.store.row("c1"), None);
        }
        assert!(disconnect.store.row("c2").is_some());
        // Each event that API Gateway sends counts.
        assert_eq!(
            disconnect.metrics.take(),
            [Measured::Ended, Measured::Ended]
        );
    }
}
