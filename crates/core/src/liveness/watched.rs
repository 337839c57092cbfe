use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belfry_protocol::ConnectionId;

use crate::broadcast::CircuitBreaker;
use crate::ports::{Clock, Metrics, Outbox, PostError, Randomness};
use crate::time::UnixMillis;

/// An outbox whose answers show whether the API works.
pub(super) struct WatchedOutbox<'a, O, C, M, R> {
    outbox: &'a O,
    clock: &'a C,
    metrics: &'a M,
    random: &'a R,
    breaker: Mutex<CircuitBreaker>,
}

impl<'a, O: Outbox, C: Clock, M: Metrics, R: Randomness> WatchedOutbox<'a, O, C, M, R> {
    pub(super) fn new(outbox: &'a O, clock: &'a C, metrics: &'a M, random: &'a R) -> Self {
        Self {
            outbox,
            clock,
            metrics,
            random,
            breaker: Mutex::default(),
        }
    }

    /// The wait until another check may begin beside those under way; `None` if
    /// one may begin now.
    pub(super) fn wait(&self, under_way: usize) -> Option<Duration> {
        self.breaker().wait(under_way, self.clock.now())
    }

    /// When the API first failed after its last answer.
    pub(super) fn failing_since(&self) -> Option<UnixMillis> {
        self.breaker().failing_since()
    }

    fn learn(&self, id: &ConnectionId, posted: &Result<(), PostError>, begun: UnixMillis) {
        let (now, mut breaker) = (self.clock.now(), self.breaker());
        breaker.learn(id, posted, begun, now, self.random, self.metrics);
    }

    /// A breaker is whole whatever panicked.
    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Outbox, C: Clock, M: Metrics, R: Randomness> Outbox for WatchedOutbox<'_, O, C, M, R> {
    async fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let begun = self.clock.now();
        let posted = self.outbox.post(id, frame, timeout).await;
        self.learn(id, &posted, begun);
        posted
    }

    async fn close(&self, id: &ConnectionId) -> Result<(), PostError> {
        let begun = self.clock.now();
        let closed = self.outbox.close(id).await;
        self.learn(id, &closed, begun);
        closed
    }
}
