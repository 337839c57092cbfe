use std::sync::Mutex;

use crate::ports::{Measured, Metrics};

/// Remembers what was measured.
#[derive(Debug, Default)]
pub struct FakeMetrics {
    measured: Mutex<Vec<Measured>>,
}

impl FakeMetrics {
    /// What was measured since this was last asked.
    ///
    /// # Panics
    /// If a thread panicked while it recorded.
    #[must_use]
    pub fn take(&self) -> Vec<Measured> {
        std::mem::take(&mut *self.measured.lock().expect("a whole list"))
    }
}

impl Metrics for FakeMetrics {
    fn record(&self, measured: Measured) {
        let mut list = self.measured.lock().expect("a whole list");
        list.push(measured);
    }
}
