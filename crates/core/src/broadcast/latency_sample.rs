use std::time::Duration;

use crate::ports::Randomness;

/// Size of a sample: the most values that one metric of a log line may have
/// (AWS: "Specification: Embedded metric format").
const SIZE: usize = 100;

/// A uniform sample of post latencies (reservoir sampling). Every post of a
/// broadcast is in it with the same probability, however many there are, so
/// its percentiles estimate those of all posts.
#[derive(Debug, Default)]
pub(super) struct LatencySample {
    seen: usize,
    kept: Vec<Duration>,
}

impl LatencySample {
    pub(super) fn add(&mut self, latency: Duration, random: &impl Randomness) {
        self.seen += 1;
        if self.kept.len() < SIZE {
            self.kept.push(latency);
            return;
        }
        if let Some(kept) = self.kept.get_mut(random.index(self.seen)) {
            *kept = latency;
        }
    }

    pub(super) fn into_values(self) -> Vec<Duration> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandomness;

    fn sample(of: u64, random: &SeededRandomness) -> Vec<Duration> {
        let mut sample = LatencySample::default();
        for n in 0..of {
            sample.add(Duration::from_millis(n), random);
        }
        sample.into_values()
    }

    #[test]
    fn few_latencies_are_all_kept() {
        let expected: Vec<_> = (0..100).map(Duration::from_millis).collect();
        assert_eq!(sample(100, &SeededRandomness::default()), expected);
    }

    #[test]
    fn early_and_late_latencies_are_equally_likely() {
        let random = SeededRandomness::default();
        let (mut early, total) = (0, 200 * SIZE);
        for _ in 0..200 {
            let values = sample(1_000, &random);
            assert_eq!(values.len(), SIZE);
            early += values.iter().filter(|v| v.as_millis() < 500).count();
        }
        // Half of 20,000; 500 are seven standard deviations.
        assert!(early.abs_diff(total / 2) < 500, "{early} of {total}");
    }
}
