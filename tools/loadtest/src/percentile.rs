//! Percentiles of durations.

use std::time::Duration;

/// The time in milliseconds that `percent` percent of the times do not exceed.
/// The times must be sorted.
///
/// # Panics
/// If there are no times.
#[must_use]
pub fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}
