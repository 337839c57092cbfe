use std::future::Future;
use std::time::Duration;

use crate::time::UnixMillis;

/// Tells the time and waits.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump in either direction.
    fn now(&self) -> UnixMillis;

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}
