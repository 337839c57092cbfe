//! How long posts took, without remembering each.

use std::time::Duration;

/// How many a sample holds: as many values as one metric of a log line may
/// have (AWS: "Specification: Embedded metric format").
const SIZE: usize = 100;

/// A uniform sample of what it was given (reservoir sampling): each post of a
/// broadcast has the same chance to be in it, however many there are, so the
/// percentiles of the sample are those of all, as well as 100 can tell.
#[derive(Debug, Default)]
pub(super) struct Sample {
    seen: usize,
    kept: Vec<Duration>,
}

impl Sample {
    pub(super) fn add(&mut self, value: Duration) {
        self.seen += 1;
        if self.kept.len() < SIZE {
            self.kept.push(value);
            return;
        }
        let place = fastrand::usize(0..self.seen);
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = value;
        }
    }

    pub(super) fn into_values(self) -> Vec<Duration> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(of: u64) -> Vec<Duration> {
        let mut sample = Sample::default();
        for n in 0..of {
            sample.add(Duration::from_millis(n));
        }
        sample.into_values()
    }

    #[test]
    fn few_are_all_there() {
        let expected: Vec<_> = (0..100).map(Duration::from_millis).collect();
        assert_eq!(sample(100), expected);
    }

    #[test]
    fn of_many_early_and_late_ones_are_as_likely() {
        let (mut early, total) = (0, 200 * SIZE);
        for _ in 0..200 {
            let values = sample(1_000);
            assert_eq!(values.len(), SIZE);
            early += values.iter().filter(|v| v.as_millis() < 500).count();
        }
        // Half of 20,000; 500 are seven standard deviations.
        assert!(early.abs_diff(total / 2) < 500, "{early} of {total}");
    }
}
