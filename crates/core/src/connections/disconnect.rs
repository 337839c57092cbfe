use belfry_protocol::ConnectionId;

use crate::ports::{Clock, Disconnections, MetricEvent, Metrics, StoreError};

/// Handles `$disconnect`: forgets the connection.
#[derive(Debug)]
pub struct Disconnect<S, C, M> {
    pub store: S,
    pub clock: C,
    pub metrics: M,
}

impl<S: Disconnections, C: Clock, M: Metrics> Disconnect<S, C, M> {
    /// Forgets the connection. API Gateway may send this event late, twice,
    /// never, or while `$connect` still runs. So an unknown connection is no
    /// error, and a `$connect` that comes later leaves no row.
    ///
    /// # Errors
    /// [`StoreError`]: the row may remain until a sweep or a broadcast finds
    /// the connection gone.
    pub async fn handle(&self, id: &ConnectionId) -> Result<(), StoreError> {
        self.store.disconnect(id, self.clock.now()).await?;
        self.metrics.record(MetricEvent::ConnectionEnded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeMetrics, FakeStore, TestClock, connection_id};

    #[tokio::test(start_paused = true)]
    async fn disconnecting_twice_is_disconnecting_once() {
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
        // Each event from API Gateway counts.
        assert_eq!(
            disconnect.metrics.take(),
            [MetricEvent::ConnectionEnded, MetricEvent::ConnectionEnded]
        );
    }
}
