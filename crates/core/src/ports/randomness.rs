use std::time::Duration;

/// Source of jitter and samples. Not for secrets.
pub trait Randomness: Send + Sync {
    /// A uniformly distributed number from 0 up to, but not including, 1.
    fn fraction(&self) -> f64;

    /// A uniformly distributed index below `len`, which must not be zero.
    fn index(&self, len: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "lengths here are far below 2^52, and a fraction is never negative"
        )]
        let index = (self.fraction() * len as f64) as usize;
        index.min(len - 1)
    }

    /// A duration between the two.
    fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + longest.saturating_sub(shortest).mul_f64(self.fraction())
    }
}
