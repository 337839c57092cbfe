//! How fast posts are made.

use std::time::Duration;

use crate::time::UnixMillis;

/// How much may come at once, as time: what was not used is kept for so long.
const BURST: Duration = Duration::from_millis(20);

/// How long outcomes are gathered before they are judged.
const WINDOW: Duration = Duration::from_secs(1);

/// From which share of throttled posts on the account, and not a client, has
/// too much to do.
const TOO_MANY: f64 = 0.1;

/// The fewest throttled posts that say anything.
const FEWEST: u32 = 5;

/// From which share of throttled repetitions on, and up to which share of
/// throttled first tries, it is the clients who take nothing: where the
/// account has too much to do, chance decides who is throttled, and whoever
/// is tried again is as likely to get through as anyone.
const STUCK: f64 = 0.9;
const MOST_ARE_FINE: f64 = 0.5;

/// A rate is never cut below this share of what was given.
const FLOOR: f64 = 0.05;

/// A bucket of tokens, one for each post, filled at a rate that goes down
/// while API Gateway throttles and up again when it does not.
///
/// First tries are judged. So each throttled post that counts is another
/// connection's: a client whose own buffer is full, however often it is tried,
/// slows nobody down. Nor do many such clients, whom their repetitions tell
/// from an account that has too much to do.
#[derive(Debug)]
pub(super) struct Pace {
    given: f64,
    per_second: f64,
    tokens: f64,
    filled_at: UnixMillis,
    window: Window,
}

#[derive(Debug)]
struct Window {
    since: UnixMillis,
    first: Tries,
    again: Tries,
}

#[derive(Debug, Default)]
struct Tries {
    posts: u32,
    throttled: u32,
}

impl Tries {
    /// Which share was throttled, where there are enough to say.
    fn share(&self) -> Option<f64> {
        let says_something = self.posts >= FEWEST;
        says_something.then(|| f64::from(self.throttled) / f64::from(self.posts))
    }
}

impl Pace {
    pub(super) fn new(per_second: u32, now: UnixMillis) -> Self {
        let given = f64::from(per_second.max(1));
        Self {
            given,
            per_second: given,
            tokens: 1.0,
            filled_at: now,
            window: Window::new(now),
        }
    }

    /// Takes a token, or tells how long to wait for one.
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

    /// Learns what became of a connection's first try, or of another one.
    pub(super) fn learn(&mut self, is_first: bool, throttled: bool, now: UnixMillis) {
        let tries = if is_first {
            &mut self.window.first
        } else {
            &mut self.window.again
        };
        tries.posts += 1;
        tries.throttled += u32::from(throttled);
        if now.since(self.window.since) < WINDOW {
            return;
        }
        self.per_second = match self.window.is_too_much() {
            Some(true) => (self.per_second * 0.7).max(self.given * FLOOR),
            Some(false) => (self.per_second + self.given * 0.1).min(self.given),
            None => self.per_second,
        };
        self.window = Window::new(now);
    }

    /// Whether the rate is below what was given: throttled posts then say
    /// nothing about the client.
    pub(super) fn is_slowed(&self) -> bool {
        self.per_second < self.given
    }
}

impl Window {
    fn new(since: UnixMillis) -> Self {
        Self {
            since,
            first: Tries::default(),
            again: Tries::default(),
        }
    }

    /// Whether the account has too much to do, where that can be told.
    fn is_too_much(&self) -> Option<bool> {
        let again = self.again.share();
        let Some(share) = self.first.share() else {
            // Nobody new was begun, since so many wait: if these get through,
            // so would others.
            let get_through = again.is_none_or(|again| again < TOO_MANY);
            return get_through.then_some(false);
        };
        let are_stuck = again.is_some_and(|again| again >= STUCK) && share < MOST_ARE_FINE;
        let are_many = self.first.throttled >= FEWEST && share >= TOO_MANY;
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

    /// How many posts there are in a time, each as early as it may be.
    fn posts(pace: &mut Pace, from: u64, until: u64) -> u32 {
        let (mut now, mut count) = (from, 0);
        while now < until {
            match pace.take(after(now)) {
                Ok(()) => count += 1,
                Err(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
            }
        }
        count
    }

    #[test]
    fn the_rate_is_kept_whatever_it_is() {
        for rate in [1, 7, 100, 999, 2_500, 25_000] {
            let mut pace = Pace::new(rate, START);
            let count = posts(&mut pace, 0, 10_000);
            let most = f64::from(rate) * 10.0;
            let burst = (f64::from(rate) * 0.02).max(1.0);
            assert!(f64::from(count) <= most + burst + 1.0, "{rate}: {count}");
            assert!(f64::from(count) >= most * 0.98 - 1.0, "{rate}: {count}");
        }
    }

    #[test]
    fn what_was_not_used_is_soon_lost() {
        let mut pace = Pace::new(1_000, START);
        pace.take(START).unwrap();
        assert_eq!(posts(&mut pace, 60_000, 60_001), 20);
    }

    #[test]
    fn it_slows_down_for_many_and_not_for_one() {
        let mut pace = Pace::new(1_000, START);
        // One in a hundred: somebody who does not read.
        for n in 0..3_000 {
            pace.learn(true, n % 100 == 0, after(n));
        }
        assert!(!pace.is_slowed());
        for n in 3_000..20_000 {
            pace.learn(true, n % 2 == 0, after(n));
        }
        assert!(pace.is_slowed());
        let slow = posts(&mut pace, 20_000, 30_000);
        assert!((490..=530).contains(&slow), "a twentieth: {slow}");
        for n in 30_000..50_000 {
            pace.learn(true, false, after(n));
        }
        assert!(!pace.is_slowed());
    }

    #[test]
    fn repetitions_tell_clients_from_the_account() {
        let mut pace = Pace::new(1_000, START);
        // A tenth are throttled, and again whenever they are tried.
        for n in 0..3_000 {
            pace.learn(true, n % 10 == 0, after(n));
            pace.learn(false, true, after(n));
        }
        assert!(!pace.is_slowed());
        // Everyone is throttled, and again.
        for n in 3_000..6_000 {
            pace.learn(true, true, after(n));
            pace.learn(false, true, after(n));
        }
        assert!(pace.is_slowed());
        // Nobody new is begun; those who wait get through.
        for n in 6_000..30_000 {
            pace.learn(false, false, after(n));
        }
        assert!(!pace.is_slowed());
    }

    #[test]
    fn a_few_posts_say_nothing() {
        let mut pace = Pace::new(1_000, START);
        for n in 0..4 {
            pace.learn(true, true, after(n * 2_000));
        }
        assert!(!pace.is_slowed());
    }
}
