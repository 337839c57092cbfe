use std::time::{Duration, SystemTime};

use belfry_core::UnixMillis;
use belfry_core::ports::Clock;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        // A clock before 1970 reads as 1970. Tokens are then not yet valid, which is safe.
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        UnixMillis(0).plus(since_epoch)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
