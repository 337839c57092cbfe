use std::collections::BTreeSet;
use std::time::Duration;

use belfry_protocol::ConnectionId;

use crate::ports::{MetricEvent, Metrics, PostError, Randomness};
use crate::time::{UnixMillis, millis};

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
pub(crate) struct CircuitBreaker {
    /// Connections whose posts failed since the last answer, if posting is not
    /// paused.
    failed: BTreeSet<ConnectionId>,
    pause: Option<Pause>,
    answers: u64,
    failing_since: Option<UnixMillis>,
    resumed_at: Option<UnixMillis>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: UnixMillis,
    longest: Duration,
}

/// What a post tells about the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It works.
    Answered,
    /// It has failed, at this connection or as a whole.
    Failed,
    /// It fails as a whole: a pause begins.
    Paused,
}

impl CircuitBreaker {
    /// Learns from a post, or a close, that began at a time and has ended.
    pub(crate) fn learn(
        &mut self,
        id: &ConnectionId,
        posted: &Result<(), PostError>,
        begun: UnixMillis,
        now: UnixMillis,
        random: &impl Randomness,
        metrics: &impl Metrics,
    ) -> Learned {
        let Err(error @ (PostError::Unavailable(_) | PostError::TimedOut)) = posted else {
            if self.answered(now) {
                tracing::info!(event = "posting.resumed", "posting goes on");
            }
            return Learned::Answered;
        };
        let Some(pause) = self.failed(id, random, begun, now) else {
            return Learned::Failed;
        };
        tracing::warn!(
            event = "posting.paused",
            reason = %error,
            pauseMs = millis(pause),
            "API Gateway's management API fails; posting pauses"
        );
        metrics.record(MetricEvent::PostingPaused);
        Learned::Paused
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pause.is_some()
    }

    /// How many posts the API has answered.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    /// When the API first failed after its last answer.
    pub(crate) fn failing_since(&self) -> Option<UnixMillis> {
        self.failing_since
    }

    /// When the last pause ended: the API worked again.
    pub(crate) fn resumed_at(&self) -> Option<UnixMillis> {
        self.resumed_at
    }

    /// The wait until a post may begin; `None` if one may begin now. While the
    /// breaker is open, that is only one, when no other post is in flight.
    pub(crate) fn wait(&self, in_flight: usize, now: UnixMillis) -> Option<Duration> {
        let Pause { until, .. } = self.pause?;
        (in_flight > 0 || now < until).then(|| until.since(now))
    }

    /// The API answered a post. Returns whether that ended a pause.
    fn answered(&mut self, now: UnixMillis) -> bool {
        self.answers += 1;
        self.failing_since = None;
        self.failed.clear();
        let was_open = self.pause.take().is_some();
        if was_open {
            self.resumed_at = Some(now);
        }
        was_open
    }

    /// The API failed to answer a post that began at a time. Returns the pause
    /// that begins, if one does.
    ///
    /// Invariant: only a probe makes the pause longer. A post that began before
    /// the end of the pause is none, however late it fails: it says nothing
    /// about the API now.
    fn failed(
        &mut self,
        id: &ConnectionId,
        random: &impl Randomness,
        begun: UnixMillis,
        now: UnixMillis,
    ) -> Option<Duration> {
        self.failing_since.get_or_insert(now);
        let longest = match self.pause {
            Some(Pause { until, .. }) if begun < until => return None,
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
        breaker.failed(&id, &SeededRandomness::default(), now, now)
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
                assert!(!breaker.answered(START));
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
        assert_eq!(breaker.resumed_at(), None);
        assert!(breaker.answered(after(1_000)));
        assert_eq!(breaker.resumed_at(), Some(after(1_000)));
        assert_eq!(breaker.wait(64, after(1_000)), None);
    }

    #[test]
    fn a_post_from_before_the_end_of_a_pause_does_not_make_it_longer() {
        let (mut breaker, random) = (open(), SeededRandomness::default());
        for begun in [START, after(499)] {
            let late = breaker.failed(&connection_id("c9"), &random, begun, after(3_000));
            assert_eq!(late, None);
        }
        assert_eq!(breaker.wait(0, after(3_000)), None, "the probe is next");
        let pause = fail(&mut breaker, 0, after(3_000)).unwrap();
        assert!((PAUSE..=PAUSE * 2).contains(&pause), "{pause:?}");
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
        assert!(breaker.answered(now));
        for n in 1..CONNECTIONS {
            assert_eq!(fail(&mut breaker, n, now), None);
        }
        assert!(fail(&mut breaker, 0, now).unwrap() <= PAUSE);
    }
}
