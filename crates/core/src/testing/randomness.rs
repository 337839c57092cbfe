use std::sync::Mutex;
use std::time::Duration;

use crate::ports::Randomness;

/// Repeatable randomness.
#[derive(Debug)]
pub struct SeededRandomness(Mutex<fastrand::Rng>);

impl SeededRandomness {
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Default for SeededRandomness {
    fn default() -> Self {
        Self::with_seed(0)
    }
}

impl Randomness for SeededRandomness {
    fn fraction(&self) -> f64 {
        self.0.lock().expect("no panic while it draws").f64()
    }
}

/// Holds a source of randomness to the promises of [`Randomness`].
///
/// # Panics
/// If a promise is broken.
pub fn randomness_contract(random: &impl Randomness) {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(2));
    let mut below_half = 0;
    let mut indices = [0; 4];
    for _ in 0..1_000 {
        let fraction = random.fraction();
        assert!((0.0..1.0).contains(&fraction), "{fraction}");
        below_half += u32::from(fraction < 0.5);
        indices[random.index(indices.len())] += 1;
        let between = random.between(shortest, longest);
        assert!((shortest..=longest).contains(&between), "{between:?}");
    }
    // More than six standard deviations from the mean.
    assert!((400..600).contains(&below_half), "{below_half} of 1,000");
    assert!(
        indices.iter().all(|n| (160..340).contains(n)),
        "{indices:?}"
    );
    assert_eq!(random.index(1), 0);
    assert_eq!(random.between(longest, shortest), longest, "no underflow");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fake_keeps_the_contract() {
        randomness_contract(&SeededRandomness::default());
    }
}
