use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ports::Clock;
use crate::time::UnixMillis;

/// A clock for tests under tokio's paused time: sleeping costs nothing, and
/// tests can set the time. Clones share it.
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
    /// Moves the clock forward without waking sleepers.
    pub fn advance(&self, duration: Duration) {
        self.set(self.now().plus(duration));
    }

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

/// Holds a clock to the promises of [`Clock`].
///
/// # Panics
/// If a promise is broken.
pub async fn clock_contract(clock: &impl Clock) {
    let before = clock.now();
    assert!(before >= super::START, "{before:?} is not this century's");
    let wait = Duration::from_millis(20);
    clock.sleep(wait).await;
    assert!(clock.now().since(before) >= wait);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract() {
        clock_contract(&TestClock::default()).await;
    }
}
