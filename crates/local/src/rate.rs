//! Rates that must not be exceeded.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota};

/// A token bucket that any number of tasks may ask without waiting for each other.
pub(crate) struct Rate(Option<DefaultDirectRateLimiter>);

impl Rate {
    /// So many a second, and as many as `burst` at once. 0 a second is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota =
            NonZeroU32::new(per_second).map(|rate| Quota::per_second(rate).allow_burst(burst));
        Self(quota.map(DefaultDirectRateLimiter::direct))
    }

    /// Whether one more is within the rate; if so, it counts.
    pub(crate) fn allows(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|limiter| limiter.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_no_more() {
        let rate = Rate::new(1, 3);
        let allowed = (0..10).filter(|_| rate.allows()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = Rate::new(0, 1);
        assert!((0..100_000).all(|_| rate.allows()));
    }
}
