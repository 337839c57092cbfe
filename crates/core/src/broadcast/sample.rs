//! How long posts took, without remembering each.

use std::sync::Mutex;
use std::time::Duration;

/// How many a sample holds: as many values as one metric of a log line may
/// have (AWS: "Specification: Embedded metric format").
const SIZE: usize = 100;

/// A uniform sample of what it was given (reservoir sampling): each post of a
/// broadcast has the same chance to be in it, however many there are, so the
/// percentiles of the sample are those of all, as well as 100 can tell.
#[derive(Debug, Default)]
pub(super) struct Sample(Mutex<Reservoir>);

#[derive(Debug, Default)]
struct Reservoir {
    seen: usize,
    kept: Vec<Duration>,
}

impl Sample {
    pub(super) fn add(&self, value: Duration) {
        let Ok(mut reservoir) = self.0.lock() else {
            return;
        };
        reservoir.seen += 1;
        if reservoir.kept.len() < SIZE {
            reservoir.kept.push(value);
            return;
        }
        let place = fastrand::usize(0..reservoir.seen);
        if let Some(kept) = reservoir.kept.get_mut(place) {
            *kept = value;
        }
    }

    pub(super) fn into_values(self) -> Vec<Duration> {
        self.0.into_inner().map_or_else(|_| vec![], |r| r.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_all_there() {
        let sample = Sample::default();
        for n in 0..100 {
            sample.add(Duration::from_millis(n));
        }
        let expected: Vec<_> = (0..100).map(Duration::from_millis).collect();
        assert_eq!(sample.into_values(), expected);
    }

    #[test]
    fn of_many_early_and_late_ones_are_as_likely() {
        let (mut early, total) = (0, 200 * SIZE);
        for _ in 0..200 {
            let sample = Sample::default();
            for n in 0..1_000 {
                sample.add(Duration::from_millis(n));
            }
            let values = sample.into_values();
            assert_eq!(values.len(), SIZE);
            early += values.iter().filter(|v| v.as_millis() < 500).count();
        }
        // Half of 20,000; 500 are seven standard deviations.
        assert!(early.abs_diff(total / 2) < 500, "{early} of {total}");
    }
}
