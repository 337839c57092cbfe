//! What follows a post: the recipient is counted, or waits for a retry.

use std::time::Duration;

use super::super::Close;
use super::super::circuit_breaker::Learned;
use super::super::retry_queue::{Attempt, Failure};
use super::super::tally::{PostOutcome, Tally};
use super::{Delivery, Posted};
use crate::connections::confirm_after;
use crate::ports::{Clock, Metrics, Outbox, PostError, Randomness};
use crate::time::UnixMillis;

/// How long a throttled connection is retried while others get through.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same while the account is throttled.
const PATIENCE_IF_SLOWED: Duration = Duration::from_secs(60);

/// How often the API may fail at one connection while it answers others.
const MAX_FAILURES: u32 = 10;

/// How long a connection that refuses everything is retried, however it
/// refuses, and at least [`MAX_FAILURES`] times.
///
/// An outage counts against nobody, but if fewer connections are left than the
/// breaker needs, it cannot be told from their own trouble. Then this bounds
/// how long they keep a broadcast from its end. It is long enough for most
/// outages. It is less than a worker's time, so no connection is handed from
/// worker to worker for ever, although each begins to count anew.
pub(super) const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How long a frame may fail, and how often at least, before the connection is
/// closed without it.
const LONGEST_BEFORE_CLOSE: Duration = Duration::from_secs(5);
const FAILURES_BEFORE_CLOSE: u32 = 3;

/// The longest wait before the first retry of a refused post. It doubles
/// with each retry, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

const MAX_BACKOFF: Duration = Duration::from_secs(2);

impl<O: Outbox, C: Clock, M: Metrics, R: Randomness> Delivery<'_, O, C, M, R> {
    /// Counts the recipient, or queues a retry.
    pub(super) fn settle(
        &mut self,
        mut attempt: Attempt,
        (posted, latency): Posted,
        tally: &mut Tally,
    ) {
        let now = self.clock.now();
        if !attempt.confirming {
            let refused = matches!(
                posted,
                Err(PostError::Throttled | PostError::Unavailable(_))
            );
            let is_first = attempt.refused == 0 && attempt.failure.is_none();
            self.rate_limiter.learn(is_first, refused, now);
        }
        let begun = now.minus(latency);
        self.learn_of_outage(&attempt, &posted, tally, begun, now);
        if let Close::Now(told) = &attempt.post.close {
            let told = told.clone();
            return self.settle_close(attempt, told, posted, begun, tally);
        }
        tally.measure(latency, self.random);
        let outcome = match posted {
            Ok(()) if attempt.post.accepted + 1 < attempt.post.frames.len() => {
                // It is due now, and retries go first.
                return self.retries.push(attempt.next_frame(now));
            }
            Ok(()) => PostOutcome::Accepted,
            Err(PostError::TooLarge) => PostOutcome::TooLarge,
            Err(error @ PostError::TimedOut) => {
                attempt.failure = Some(self.failure(&attempt, error.to_string()));
                attempt.at = now;
                if self.breaker.is_open() {
                    return self.retries.push(attempt);
                }
                if attempt.post.close == Close::Never {
                    return self.timed_out.push(attempt);
                }
                PostOutcome::Failed(PostError::TimedOut.to_string())
            }
            Err(PostError::Failed(cause)) => PostOutcome::Failed(cause),
            Err(PostError::Gone) if attempt.post.recipient.may_be_pending(begun) => {
                // What is to be closed is told when the handshake is complete: a
                // client that completes it later would stay.
                if attempt.confirming && attempt.post.close == Close::Never {
                    PostOutcome::GoneUnconfirmed("its handshake may still be pending".into())
                } else {
                    attempt.confirming = true;
                    attempt.at = now.plus(confirm_after(self.random));
                    return self.retries.push(attempt);
                }
            }
            // This can be wrong, so a connection is closed all the same.
            Err(PostError::Gone) if attempt.post.close == Close::AfterFrames => PostOutcome::Gone,
            Err(PostError::Gone) => return tally.gone(attempt.post.recipient),
            Err(PostError::Throttled) => {
                if self.is_patient(&mut attempt, now) {
                    return self.retries.push(attempt);
                }
                PostOutcome::Throttled
            }
            Err(PostError::Unavailable(cause)) => {
                if self.may_recover(&mut attempt, &cause, now) {
                    return self.retries.push(attempt);
                }
                PostOutcome::Failed(cause)
            }
        };
        if attempt.post.close == Close::AfterFrames {
            attempt.post.close = Close::Now(outcome);
            return self.retries.push(Attempt::first(attempt.post, now));
        }
        tally.count(&attempt.post.recipient.id, outcome);
    }

    /// Counts the recipient, or queues another close.
    fn settle_close(
        &mut self,
        mut attempt: Attempt,
        told: PostOutcome,
        closed: Result<(), PostError>,
        begun: UnixMillis,
        tally: &mut Tally,
    ) {
        let now = self.clock.now();
        let recipient = &attempt.post.recipient;
        let (waits, outcome) = match closed {
            // A close succeeds whether or not there is a connection, so only a
            // client that was told proves that there was one to close. Another may
            // complete its handshake yet.
            Ok(()) if told != PostOutcome::Accepted && recipient.may_be_pending(begun) => {
                attempt.at = recipient.handshake_ends_at();
                (true, told)
            }
            Ok(()) if told == PostOutcome::Gone => return tally.gone(attempt.post.recipient),
            Ok(()) => (false, told),
            Err(error @ (PostError::Unavailable(_) | PostError::TimedOut)) => {
                let cause = error.to_string();
                let waits = self.may_recover(&mut attempt, &cause, now);
                (waits, PostOutcome::Failed(format!("not closed: {cause}")))
            }
            Err(PostError::Throttled) => {
                (self.is_patient(&mut attempt, now), PostOutcome::Throttled)
            }
            Err(error) => {
                let waits = self.is_patient(&mut attempt, now);
                (waits, PostOutcome::Failed(format!("not closed: {error}")))
            }
        };
        if waits {
            return self.retries.push(attempt);
        }
        tally.count(&attempt.post.recipient.id, outcome);
    }

    /// Queues a connection that was throttled. Returns whether there is patience
    /// left for it.
    fn is_patient(&self, attempt: &mut Attempt, now: UnixMillis) -> bool {
        if attempt.refused == 0 || attempt.failure.is_some() {
            attempt.throttled_since = now;
        }
        let patience = if self.rate_limiter.is_slowed() {
            PATIENCE_IF_SLOWED
        } else {
            PATIENCE
        };
        attempt.failure = None;
        self.may_be_retried(attempt, now) && now.since(attempt.throttled_since) < patience
    }

    /// The same after the API failed.
    fn may_recover(&self, attempt: &mut Attempt, cause: &str, now: UnixMillis) -> bool {
        let failure = self.failure(attempt, cause.to_owned());
        let is_alone = failure.alone >= MAX_FAILURES;
        attempt.failure = Some(failure);
        let may_be_retried = self.may_be_retried(attempt, now);
        let is_untold = attempt.post.close == Close::AfterFrames
            && attempt.refused >= FAILURES_BEFORE_CLOSE
            && self.refused_for(attempt, now) >= LONGEST_BEFORE_CLOSE;
        may_be_retried && !is_alone && !is_untold
    }

    /// Sets when the next attempt at a connection that was refused is due.
    /// Returns whether it may have one, whatever the refusals were: throttled or
    /// failed, by turns or not. The time of an outage does not count.
    fn may_be_retried(&self, attempt: &mut Attempt, now: UnixMillis) -> bool {
        if attempt.refused == 0 {
            attempt.since = now;
        }
        attempt.refused += 1;
        attempt.at = now.plus(self.backoff(attempt.refused));
        self.refused_for(attempt, now) < LONGEST || attempt.refused < MAX_FAILURES
    }

    /// How long a connection has been refused since the last outage.
    fn refused_for(&self, attempt: &Attempt, now: UnixMillis) -> Duration {
        if self.breaker.is_open() {
            return Duration::ZERO;
        }
        let resumed_at = self.breaker.resumed_at().unwrap_or(attempt.since);
        now.since(attempt.since.max(resumed_at))
    }

    /// The API has failed at a connection, once more. It counts only if the API
    /// has answered another one meanwhile, and does not fail at many.
    fn failure(&self, attempt: &Attempt, cause: String) -> Failure {
        let answers = self.breaker.answers();
        let alone = match &attempt.failure {
            _ if self.breaker.is_open() || self.rate_limiter.is_slowed() => 0,
            Some(last) => last.alone + u32::from(answers > last.answers),
            None => 0,
        };
        Failure {
            cause,
            answers,
            alone,
        }
    }

    /// Opens the breaker if the API fails as a whole, and closes it when the
    /// API answers. Decides what becomes of posts that timed out.
    fn learn_of_outage(
        &mut self,
        attempt: &Attempt,
        posted: &Result<(), PostError>,
        tally: &mut Tally,
        begun: UnixMillis,
        now: UnixMillis,
    ) {
        let id = &attempt.post.recipient.id;
        let learned = self
            .breaker
            .learn(id, posted, begun, now, self.random, self.metrics);
        match learned {
            Learned::Answered => self.count_timed_out(tally),
            Learned::Failed => {}
            Learned::Paused => {
                for attempt in self.timed_out.drain(..) {
                    self.retries.push(attempt);
                }
            }
        }
    }

    /// Counts the posts that timed out although the API works.
    pub(super) fn count_timed_out(&mut self, tally: &mut Tally) {
        for Attempt { post, .. } in self.timed_out.drain(..) {
            let outcome = PostOutcome::Failed(PostError::TimedOut.to_string());
            tally.count(&post.recipient.id, outcome);
        }
    }

    /// Full jitter, so that many connections that were refused together are
    /// not retried together.
    fn backoff(&self, refused: u32) -> Duration {
        let longest = BACKOFF * 2_u32.saturating_pow(refused.saturating_sub(1).min(10));
        self.random
            .between(Duration::ZERO, longest.min(MAX_BACKOFF))
    }

    /// Counts every recipient that waits, by what is known of it.
    pub(in crate::broadcast) fn give_up(&mut self, tally: &mut Tally) {
        self.count_timed_out(tally);
        let unattempted = std::mem::take(&mut self.unattempted).into_iter();
        let unattempted = unattempted.map(|post| {
            let tried = self.tried.remove(&post.recipient.id);
            tried.unwrap_or_else(|| Attempt::first(post, self.clock.now()))
        });
        for left in self.retries.drain().chain(unattempted) {
            let outcome = match left {
                Attempt {
                    failure: Some(ref failure),
                    ..
                } => PostOutcome::Failed(failure.cause.clone()),
                Attempt { refused: 1.., .. } => PostOutcome::Throttled,
                Attempt {
                    confirming: true, ..
                } => PostOutcome::GoneUnconfirmed("no time to confirm it".into()),
                Attempt { ref post, .. } if post.accepted > 0 => {
                    PostOutcome::Failed("no time to post all of the messages".into())
                }
                _ => PostOutcome::NotAttempted,
            };
            tally.count(&left.post.recipient.id, outcome);
        }
    }
}
