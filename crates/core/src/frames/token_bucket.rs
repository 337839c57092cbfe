use std::time::Duration;

use crate::time::UnixMillis;

const MINUTE_MS: u64 = 60_000;

/// The message rate limit of a connection: each frame takes a token, and
/// tokens come back evenly.
///
/// All that is stored of a bucket is the time at which it will be full again
/// (the "theoretical arrival time" of the generic cell rate algorithm, ITU-T
/// I.371). For a full bucket it is any time in the past, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Time until one token comes back, in whole milliseconds.
    pub interval: Duration,
    /// Tokens in a full bucket, at least one.
    pub burst: u32,
}

/// What a frame finds in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketLevel {
    /// Every token. Afterwards the bucket is full one interval from now.
    Full,
    /// Some tokens. Afterwards the bucket is full one interval later than before.
    Partial,
    /// No token, for this long.
    Empty(Duration),
}

impl TokenBucket {
    /// A bucket for at most this many frames a minute. It holds the frames of
    /// six seconds, at least five: clients send several frames when they start.
    ///
    /// Times are stored in milliseconds, so the interval is rounded up: the
    /// bucket never lets more through than the limit says. How many it does let
    /// through is [`Self::frames_per_minute`].
    #[must_use]
    pub fn per_minute(frames: u32) -> Self {
        let interval_ms = MINUTE_MS.div_ceil(u64::from(frames.max(1)));
        let mut bucket = Self {
            interval: Duration::from_millis(interval_ms),
            burst: 0,
        };
        bucket.burst = (bucket.frames_per_minute() / 10).max(5);
        bucket
    }

    /// The number of tokens that come back in a minute, rounded to a whole one.
    #[must_use]
    pub fn frames_per_minute(&self) -> u32 {
        let interval_ms = self.interval.as_millis().max(1);
        let frames = (u128::from(MINUTE_MS) + interval_ms / 2) / interval_ms;
        u32::try_from(frames).unwrap_or(u32::MAX)
    }

    /// The level of a bucket that will be full at `full_at`.
    #[must_use]
    pub fn level(&self, full_at: UnixMillis, now: UnixMillis) -> BucketLevel {
        let latest = self.latest_full_at(now);
        if full_at <= now {
            BucketLevel::Full
        } else if full_at <= latest {
            BucketLevel::Partial
        } else {
            BucketLevel::Empty(full_at.since(latest))
        }
    }

    /// When a bucket with exactly one token will be full.
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

    /// Does what a store does with a bucket.
    fn take(
        bucket: &TokenBucket,
        full_at: &mut UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Duration> {
        match bucket.level(*full_at, now) {
            BucketLevel::Full => *full_at = now.plus(bucket.interval),
            BucketLevel::Partial => *full_at = full_at.plus(bucket.interval),
            BucketLevel::Empty(wait) => return Err(wait),
        }
        Ok(())
    }

    #[test]
    fn a_burst_then_one_by_one() {
        let bucket = TokenBucket::per_minute(600);
        assert_eq!((bucket.interval.as_millis(), bucket.burst), (100, 60));
        let mut full_at = UnixMillis(0);
        for _ in 0..60 {
            assert_eq!(take(&bucket, &mut full_at, START), Ok(()));
        }
        let wait = take(&bucket, &mut full_at, START).unwrap_err();
        assert_eq!(wait, bucket.interval);
        assert_eq!(take(&bucket, &mut full_at, START.plus(wait)), Ok(()));
        assert!(take(&bucket, &mut full_at, START.plus(wait)).is_err());
    }

    #[test]
    fn no_limit_is_exceeded_and_whole_milliseconds_are_exact() {
        for limit in 1..=60_000 {
            let in_force = TokenBucket::per_minute(limit).frames_per_minute();
            assert!(in_force <= limit, "{limit}: {in_force}");
            if 60_000 % limit == 0 {
                assert_eq!(in_force, limit);
            }
            if limit <= 600 {
                assert!(
                    limit - in_force <= limit.div_ceil(100),
                    "{limit}: {in_force}"
                );
            }
        }
        for (limit, in_force) in [(30_001, 30_000), (59_999, 30_000), (700, 698), (7, 7)] {
            assert_eq!(TokenBucket::per_minute(limit).frames_per_minute(), in_force);
        }
    }

    proptest! {
        /// Compared with the plain form: a number of tokens that grows with time.
        #[test]
        fn it_is_a_token_bucket(
            per_minute in 1u32..5_000,
            pauses in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let bucket = TokenBucket::per_minute(per_minute);
            let interval = u64::try_from(bucket.interval.as_millis()).unwrap();
            let capacity = interval * u64::from(bucket.burst);
            let (mut now, mut full_at, mut level) = (START, UnixMillis(0), capacity);
            for pause in pauses {
                now = now.plus(Duration::from_millis(pause));
                level = capacity.min(level + pause);
                match take(&bucket, &mut full_at, now) {
                    Ok(()) => { prop_assert!(level >= interval); level -= interval; }
                    Err(wait) => prop_assert_eq!(level + u64::try_from(wait.as_millis()).unwrap(), interval),
                }
            }
        }

        #[test]
        fn a_client_that_waits_as_told_is_served(
            per_minute in 1u32..60_000,
            ahead in 0u64..1_000_000,
        ) {
            let bucket = TokenBucket::per_minute(per_minute);
            let mut full_at = START.plus(Duration::from_millis(ahead));
            if let Err(wait) = take(&bucket, &mut full_at, START) {
                prop_assert_eq!(take(&bucket, &mut full_at, START.plus(wait)), Ok(()));
            }
        }
    }
}
