use std::time::Duration;

use crate::time::UnixMillis;

/// Capacity of the bucket, as time at the present rate.
const BURST: Duration = Duration::from_millis(20);

/// How long outcomes are gathered before the rate is adjusted.
const WINDOW: Duration = Duration::from_secs(1);

/// If at least this share of posts is throttled, the account is throttled and
/// not single clients.
const TOO_MANY: f64 = 0.1;

/// Fewer throttled posts than this prove nothing.
const FEWEST: u32 = 5;

/// If at least the first share of retries is throttled, and less than the
/// second share of first attempts, single clients are not reading. If the
/// account is throttled, chance decides which posts are refused, and a retry is
/// as likely to get through as a first attempt.
const STUCK: f64 = 0.9;
const MOST_ARE_FINE: f64 = 0.5;

/// The rate never falls below this share of the configured one.
const FLOOR: f64 = 0.05;

/// Limits the rate of posts: a bucket of tokens that fills at a rate, which
/// falls while API Gateway throttles the account and rises again afterwards.
///
/// First attempts decide, since each of them is another connection's: a client
/// whose own buffer is full slows nobody down, however often it is retried.
/// Nor do many such clients, whose retries tell them from a throttled account.
#[derive(Debug)]
pub(super) struct RateLimiter {
    configured: f64,
    per_second: f64,
    tokens: f64,
    filled_at: UnixMillis,
    window: Window,
}

#[derive(Debug)]
struct Window {
    since: UnixMillis,
    first_attempts: Attempts,
    retries: Attempts,
}

#[derive(Debug, Default)]
struct Attempts {
    posts: u32,
    throttled: u32,
}

impl Attempts {
    /// The share that was throttled, if there are enough to tell.
    fn throttled_share(&self) -> Option<f64> {
        let enough = self.posts >= FEWEST;
        enough.then(|| f64::from(self.throttled) / f64::from(self.posts))
    }
}

impl RateLimiter {
    pub(super) fn new(per_second: f64, now: UnixMillis) -> Self {
        Self {
            configured: per_second,
            per_second,
            tokens: 1.0,
            filled_at: now,
            window: Window::new(now),
        }
    }

    /// Takes a token, or returns the wait for one.
    pub(super) fn take(&mut self, now: UnixMillis) -> Result<(), Duration> {
        let earned = now.since(self.filled_at).as_secs_f64() * self.per_second;
        let most = (BURST.as_secs_f64() * self.per_second).max(1.0);
        self.tokens = (self.tokens + earned).min(most);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - self.tokens) / self.per_second);
        Err(wait.max(Duration::from_millis(1)))
    }

    /// Learns whether a connection's first attempt, or a retry, was throttled.
    pub(super) fn learn(&mut self, is_first: bool, throttled: bool, now: UnixMillis) {
        let attempts = if is_first {
            &mut self.window.first_attempts
        } else {
            &mut self.window.retries
        };
        attempts.posts += 1;
        attempts.throttled += u32::from(throttled);
        if now.since(self.window.since) < WINDOW {
            return;
        }
        self.per_second = match self.window.is_account_throttled() {
            Some(true) => (self.per_second * 0.7).max(self.configured * FLOOR),
            Some(false) => (self.per_second + self.configured * 0.1).min(self.configured),
            None => self.per_second,
        };
        self.window = Window::new(now);
    }

    /// Whether the rate is below the configured one. Throttled posts then say
    /// nothing about the client.
    pub(super) fn is_slowed(&self) -> bool {
        self.per_second < self.configured
    }
}

impl Window {
    fn new(since: UnixMillis) -> Self {
        Self {
            since,
            first_attempts: Attempts::default(),
            retries: Attempts::default(),
        }
    }

    /// Whether the account is throttled, if there are enough posts to tell.
    fn is_account_throttled(&self) -> Option<bool> {
        let retries = self.retries.throttled_share();
        let Some(share) = self.first_attempts.throttled_share() else {
            // So many wait that there were no first attempts. If the retries
            // get through, first attempts would, too.
            let get_through = retries.is_none_or(|share| share < TOO_MANY);
            return get_through.then_some(false);
        };
        let are_stuck = retries.is_some_and(|share| share >= STUCK) && share < MOST_ARE_FINE;
        let are_many = self.first_attempts.throttled >= FEWEST && share >= TOO_MANY;
        Some(are_many && !are_stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::START;

    fn after(ms: u64) -> UnixMillis {
        START.plus(Duration::from_millis(ms))
    }

    /// The number of posts in a period, each as early as allowed.
    fn posts(limiter: &mut RateLimiter, from: u64, until: u64) -> u32 {
        let (mut now, mut count) = (from, 0);
        while now < until {
            match limiter.take(after(now)) {
                Ok(()) => count += 1,
                Err(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
            }
        }
        count
    }

    #[test]
    fn any_rate_is_kept() {
        for rate in [1.0, 1.75, 7.0, 100.0, 999.0, 2_500.0, 25_000.0] {
            let mut limiter = RateLimiter::new(rate, START);
            let count = posts(&mut limiter, 0, 10_000);
            let most = rate * 10.0;
            let burst = f64::max(rate * 0.02, 1.0);
            assert!(f64::from(count) <= most + burst + 1.0, "{rate}: {count}");
            assert!(f64::from(count) >= most * 0.98 - 1.0, "{rate}: {count}");
        }
    }

    #[test]
    fn unused_tokens_do_not_pile_up() {
        let mut limiter = RateLimiter::new(1_000.0, START);
        limiter.take(START).unwrap();
        assert_eq!(posts(&mut limiter, 60_000, 60_001), 20);
    }

    #[test]
    fn many_throttled_clients_slow_it_down_and_one_does_not() {
        let mut limiter = RateLimiter::new(1_000.0, START);
        // One in a hundred: a client that does not read.
        for n in 0..3_000 {
            limiter.learn(true, n % 100 == 0, after(n));
        }
        assert!(!limiter.is_slowed());
        for n in 3_000..20_000 {
            limiter.learn(true, n % 2 == 0, after(n));
        }
        assert!(limiter.is_slowed());
        let slow = posts(&mut limiter, 20_000, 30_000);
        assert!((490..=530).contains(&slow), "a twentieth: {slow}");
        for n in 30_000..50_000 {
            limiter.learn(true, false, after(n));
        }
        assert!(!limiter.is_slowed());
    }

    #[test]
    fn retries_tell_stuck_clients_from_a_throttled_account() {
        let mut limiter = RateLimiter::new(1_000.0, START);
        // A tenth is throttled, and again at every retry.
        for n in 0..3_000 {
            limiter.learn(true, n % 10 == 0, after(n));
            limiter.learn(false, true, after(n));
        }
        assert!(!limiter.is_slowed());
        // Everyone is throttled, and so is every retry.
        for n in 3_000..6_000 {
            limiter.learn(true, true, after(n));
            limiter.learn(false, true, after(n));
        }
        assert!(limiter.is_slowed());
        // No first attempt is made; retries get through.
        for n in 6_000..30_000 {
            limiter.learn(false, false, after(n));
        }
        assert!(!limiter.is_slowed());
    }

    #[test]
    fn a_few_posts_say_nothing() {
        let mut limiter = RateLimiter::new(1_000.0, START);
        for n in 0..4 {
            limiter.learn(true, true, after(n * 2_000));
        }
        assert!(!limiter.is_slowed());
    }
}
