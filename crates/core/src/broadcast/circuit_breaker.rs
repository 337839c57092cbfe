use std::collections::BTreeSet;
use std::time::Duration;

use belfry_protocol::ConnectionId;

use crate::ports::Randomness;
use crate::time::UnixMillis;

/// So many connections whose posts fail in a row mean that the API fails, and
/// not the connections.
const CONNECTIONS: usize = 5;

/// The longest first pause. Each pause after a failed probe may be twice as
/// long, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);

const MAX_PAUSE: Duration = Duration::from_secs(16);

/// Pauses posting while the API fails as a whole. After the pause one post goes
/// alone, as a probe. If the API answers it, posting goes on.
///
/// Any answer about a connection counts: "gone" and "throttled" come from an API
/// that works.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    /// Connections whose posts failed since the last answer, if posting is not
    /// paused.
    failed: BTreeSet<ConnectionId>,
    pause: Option<Pause>,
    answers: u64,
    failing_since: Option<UnixMillis>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: UnixMillis,
    longest: Duration,
}

impl CircuitBreaker {
    pub(super) fn is_open(&self) -> bool {
        self.pause.is_some()
    }

    /// How many posts the API has answered.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// When the API first failed after its last answer.
    pub(super) fn failing_since(&self) -> Option<UnixMillis> {
        self.failing_since
    }

    /// The wait until a post may begin; `None` if one may begin now. While the
    /// breaker is open, that is only one, when no other post is in flight.
    pub(super) fn wait(&self, in_flight: usize, now: UnixMillis) -> Option<Duration> {
        let Pause { until, .. } = self.pause?;
        (in_flight > 0 || now < until).then(|| until.since(now))
    }

    /// The API answered a post. Returns whether that ended a pause.
    pub(super) fn answered(&mut self) -> bool {
        self.answers += 1;
        self.failing_since = None;
        self.failed.clear();
        self.pause.take().is_some()
    }

    /// The API failed to answer a post. Returns the pause that begins, if one
    /// does.
    pub(super) fn failed(
        &mut self,
        id: &ConnectionId,
        random: &impl Randomness,
        now: UnixMillis,
    ) -> Option<Duration> {
        self.failing_since.get_or_insert(now);
        let longest = match self.pause {
            // The post began before the pause.
            Some(Pause { until, .. }) if now < until => return None,
            Some(Pause { longest, .. }) => (longest * 2).min(MAX_PAUSE),
            None => {
                self.failed.insert(id.clone());
                if self.failed.len() < CONNECTIONS {
                    return None;
                }
                self.failed.clear();
                PAUSE
            }
        };
        // With jitter, so that workers do not probe together.
        let pause = random.between(longest / 2, longest);
        self.pause = Some(Pause {
            until: now.plus(pause),
            longest,
        });
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, SeededRandomness, connection_id};

    fn after(ms: u64) -> UnixMillis {
        START.plus(Duration::from_millis(ms))
    }

    /// A breaker that has opened at the start.
    fn open() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        for n in 0..CONNECTIONS {
            fail(&mut breaker, n, START);
        }
        breaker
    }

    fn fail(breaker: &mut CircuitBreaker, connection: usize, now: UnixMillis) -> Option<Duration> {
        let id = connection_id(&format!("c{connection}"));
        breaker.failed(&id, &SeededRandomness::default(), now)
    }

    #[test]
    fn several_connections_in_a_row_open_it() {
        let mut breaker = CircuitBreaker::default();
        for n in 1..CONNECTIONS {
            assert_eq!(fail(&mut breaker, n, START), None);
        }
        assert_eq!(breaker.wait(64, START), None);
        let pause = fail(&mut breaker, 0, START).unwrap();
        assert!((PAUSE / 2..=PAUSE).contains(&pause), "{pause:?}");
        assert!(breaker.wait(0, START).is_some_and(|wait| wait <= pause));
    }

    #[test]
    fn one_connection_does_not_open_it() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, 0, START), None);
        }
    }

    #[test]
    fn an_answer_in_between_keeps_it_closed() {
        let mut breaker = CircuitBreaker::default();
        for n in 0..100 {
            assert_eq!(fail(&mut breaker, n, START), None);
            if n % (CONNECTIONS - 1) == 0 {
                assert!(!breaker.answered());
            }
        }
    }

    #[test]
    fn a_probe_goes_alone_and_an_answer_closes_it() {
        let mut breaker = open();
        // Posts that began before the pause prolong nothing.
        assert_eq!(fail(&mut breaker, 9, after(1)), None);
        assert!(breaker.wait(0, after(499)).is_some());
        assert!(breaker.wait(1, after(1_000)).is_some());
        assert_eq!(breaker.wait(0, after(1_000)), None);
        assert!(breaker.answered());
        assert_eq!(breaker.wait(64, after(1_000)), None);
    }

    #[test]
    fn failed_probes_make_the_pause_longer_up_to_a_bound() {
        let mut breaker = open();
        let mut now = after(1_000);
        for longest in [2, 4, 8, 16, 16, 16].map(Duration::from_secs) {
            let pause = fail(&mut breaker, 0, now).unwrap();
            assert!((longest / 2..=longest).contains(&pause), "{pause:?}");
            assert!(breaker.wait(0, now.plus(pause / 2)).is_some());
            now = now.plus(pause);
        }
        // The next outage begins with a short one.
        assert!(breaker.answered());
        for n in 1..CONNECTIONS {
            assert_eq!(fail(&mut breaker, n, now), None);
        }
        assert!(fail(&mut breaker, 0, now).unwrap() <= PAUSE);
    }
}
