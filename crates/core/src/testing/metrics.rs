use std::sync::atomic::{AtomicU64, Ordering};

use crate::ports::Metrics;

/// Remembers the last figures.
#[derive(Debug, Default)]
pub struct FakeMetrics {
    connections_open: AtomicU64,
}

impl FakeMetrics {
    /// The last count of open connections.
    #[must_use]
    pub fn last_connections_open(&self) -> u64 {
        self.connections_open.load(Ordering::SeqCst)
    }
}

impl Metrics for FakeMetrics {
    fn connections_open(&self, count: u64) {
        self.connections_open.store(count, Ordering::SeqCst);
    }
}
