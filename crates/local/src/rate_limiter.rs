//! A rate limiter for connections and requests.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota};

/// A token bucket that any number of tasks may check without waiting for each
/// other.
pub(crate) struct RateLimiter(Option<DefaultDirectRateLimiter>);

impl RateLimiter {
    /// With a rate of 0 there is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota =
            NonZeroU32::new(per_second).map(|rate| Quota::per_second(rate).allow_burst(burst));
        Self(quota.map(DefaultDirectRateLimiter::direct))
    }

    /// Counts one more if that is within the limit. Returns whether it is.
    pub(crate) fn allows(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|limiter| limiter.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_burst_is_allowed_at_once() {
        let limiter = RateLimiter::new(1, 3);
        let allowed = (0..10).filter(|_| limiter.allows()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let limiter = RateLimiter::new(0, 1);
        assert!((0..100_000).all(|_| limiter.allows()));
    }

    proptest! {
        #[test]
        fn any_rate_allows_its_burst(rate in 1..=u32::MAX, burst in 0..=u32::MAX) {
            let limiter = RateLimiter::new(rate, burst);
            prop_assert!((0..burst.clamp(1, 100)).all(|_| limiter.allows()));
        }
    }
}
