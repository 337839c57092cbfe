//! The time of day.

use std::time::{Duration, SystemTime};

/// Time since 1970.
///
/// # Panics
/// If the system's clock is set before 1970.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970")
}
