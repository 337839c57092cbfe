//! How many frames a connection may send.

use std::time::Duration;

use crate::time::UnixMillis;

/// The finest time that is kept.
const TICK: Duration = Duration::from_millis(1);

/// A token bucket. Each frame takes one token; they come back evenly.
///
/// What is kept of a bucket is one point in time: when it will be full again.
/// (The "theoretical arrival time" of the generic cell rate algorithm, ITU-T
/// I.371.) A full bucket may have any time that has passed, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How long a token takes to come back, in whole milliseconds.
    pub interval: Duration,
    /// How many tokens a full bucket holds, at least one.
    pub burst: u32,
}

/// What a frame finds in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Every token: afterwards the bucket is full again one interval from now.
    Full,
    /// Some tokens: afterwards it is full one interval later than before.
    Enough,
    /// None, for so long.
    Empty(Duration),
}

impl Budget {
    /// A bucket for so many frames a minute, and the frames of six seconds, at
    /// least five, at once: clients say several things when they begin.
    #[must_use]
    pub fn per_minute(frames: u32) -> Self {
        Self {
            interval: Duration::from_millis(60_000 / u64::from(frames.max(1))).max(TICK),
            burst: (frames / 10).max(5),
        }
    }

    /// What is in a bucket that will be full again at `full_at`.
    #[must_use]
    pub fn look(&self, full_at: UnixMillis, now: UnixMillis) -> Bucket {
        let latest = self.latest_full_at(now);
        if full_at <= now {
            Bucket::Full
        } else if full_at <= latest {
            Bucket::Enough
        } else {
            Bucket::Empty(full_at.since(latest))
        }
    }

    /// When a bucket with one token, no more, is full again.
    #[must_use]
    pub fn latest_full_at(&self, now: UnixMillis) -> UnixMillis {
        now.plus(self.interval * (self.burst - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::START;
    use proptest::prelude::*;

    /// What a store does with a bucket.
    fn take(budget: &Budget, full_at: &mut UnixMillis, now: UnixMillis) -> Result<(), Duration> {
        match budget.look(*full_at, now) {
            Bucket::Full => *full_at = now.plus(budget.interval),
            Bucket::Enough => *full_at = full_at.plus(budget.interval),
            Bucket::Empty(wait) => return Err(wait),
        }
        Ok(())
    }

    #[test]
    fn a_burst_then_one_by_one() {
        let budget = Budget::per_minute(600);
        assert_eq!((budget.interval.as_millis(), budget.burst), (100, 60));
        let mut full_at = UnixMillis(0);
        for _ in 0..60 {
            assert_eq!(take(&budget, &mut full_at, START), Ok(()));
        }
        let wait = take(&budget, &mut full_at, START).unwrap_err();
        assert_eq!(wait, budget.interval);
        assert_eq!(take(&budget, &mut full_at, START.plus(wait)), Ok(()));
        assert!(take(&budget, &mut full_at, START.plus(wait)).is_err());
    }

    proptest! {
        /// Against the plain form: a number of tokens that grows with time.
        #[test]
        fn it_is_a_token_bucket(
            per_minute in 1u32..5_000,
            pauses in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let budget = Budget::per_minute(per_minute);
            let interval = u64::try_from(budget.interval.as_millis()).unwrap();
            let capacity = interval * u64::from(budget.burst);
            let (mut now, mut full_at, mut level) = (START, UnixMillis(0), capacity);
            for pause in pauses {
                now = now.plus(Duration::from_millis(pause));
                level = capacity.min(level + pause);
                match take(&budget, &mut full_at, now) {
                    Ok(()) => { prop_assert!(level >= interval); level -= interval; }
                    Err(wait) => prop_assert_eq!(level + u64::try_from(wait.as_millis()).unwrap(), interval),
                }
            }
        }

        #[test]
        fn whoever_waits_as_told_is_served(
            per_minute in 1u32..60_000,
            ahead in 0u64..1_000_000,
        ) {
            let budget = Budget::per_minute(per_minute);
            let mut full_at = START.plus(Duration::from_millis(ahead));
            if let Err(wait) = take(&budget, &mut full_at, START) {
                prop_assert_eq!(take(&budget, &mut full_at, START.plus(wait)), Ok(()));
            }
        }
    }
}
