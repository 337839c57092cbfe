use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ports::Clock;
use crate::time::UnixMillis;

/// A clock for tests under tokio's paused time: waiting costs nothing, and
/// tests move it by hand. Clones share their time.
#[derive(Debug, Clone)]
pub struct TestClock {
    created: tokio::time::Instant,
    at_creation_ms: Arc<AtomicU64>,
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            created: tokio::time::Instant::now(),
            at_creation_ms: Arc::new(AtomicU64::new(super::START.0)),
        }
    }
}

impl TestClock {
    /// Moves the clock forward, waking nobody.
    pub fn advance(&self, duration: Duration) {
        self.set(self.now().plus(duration));
    }

    /// Sets the clock.
    pub fn set(&self, now: UnixMillis) {
        let elapsed = self.created.elapsed();
        self.at_creation_ms
            .store(now.minus(elapsed).0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.at_creation_ms.load(Ordering::SeqCst)).plus(self.created.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
