#[cfg(test)]
mod tests;

use std::pin::pin;
use std::time::Duration;

use belfry_protocol::ConnectionId;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Post;
use super::rate_limiter::RateLimiter;
use super::retry_queue::{Attempt, RetryQueue};
use super::tally::{PostOutcome, Tally};
use crate::connections::confirm_after;
use crate::ports::{Clock, Outbox, PostError, Randomness};
use crate::time::UnixMillis;

/// How long a throttled connection is retried while others get through.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same while the account is throttled.
const PATIENCE_IF_SLOWED: Duration = Duration::from_secs(60);

/// The longest wait before the first retry of a throttled post. It doubles
/// with each retry, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How posts are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeliverySettings {
    /// Maximum concurrent posts, at least one.
    pub concurrency: usize,
    pub post_timeout: Duration,
    /// Posts that may begin in a second, more than zero.
    pub posts_per_second: f64,
}

/// Posts to many connections.
///
/// Of several frames to a connection, each is posted when the one before it was
/// accepted. If one fails, those after it are not posted.
///
/// A post that may have arrived (timeout, unknown failure) is never retried. A
/// post that certainly did not arrive (throttled, or a 410 while the
/// handshake may be pending) waits in the retry queue while the others go on.
pub(super) struct Delivery<'a, O, C, R> {
    outbox: &'a O,
    clock: &'a C,
    random: &'a R,
    settings: DeliverySettings,
    deadline: UnixMillis,
    /// No post begins later: with less than its full timeout it might arrive and
    /// still count as failed.
    begins_until: UnixMillis,
    rate_limiter: RateLimiter,
    retries: RetryQueue,
    /// Posts whose turn had not come when time ran out or their page was too
    /// old.
    unattempted: Vec<Post>,
}

/// A post that has ended: its result and its latency.
type Posted = (Result<(), PostError>, Duration);

impl<'a, O: Outbox, C: Clock, R: Randomness> Delivery<'a, O, C, R> {
    pub(super) fn new(
        outbox: &'a O,
        clock: &'a C,
        random: &'a R,
        settings: DeliverySettings,
        deadline: UnixMillis,
    ) -> Self {
        let now = clock.now();
        // With less time than two posts may take, a post gets half of it.
        let last = settings.post_timeout.min(deadline.since(now) / 2);
        Self {
            outbox,
            clock,
            random,
            settings,
            deadline,
            begins_until: deadline.minus(last),
            rate_limiter: RateLimiter::new(settings.posts_per_second, now),
            retries: RetryQueue::default(),
            unattempted: Vec::new(),
        }
    }

    /// Whether no post may begin at this time or later.
    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.begins_until
    }

    /// Makes each post once, while posts may begin, and none for the first time
    /// after `fresh_until`. Recipients that are not counted then are in
    /// [`Self::waiting`].
    pub(super) async fn post(
        &mut self,
        posts: Vec<Post>,
        fresh_until: UnixMillis,
        tally: &mut Tally,
    ) {
        self.run(posts, fresh_until, false, tally).await;
    }

    /// Retries until every waiting recipient is counted, or no post may begin.
    pub(super) async fn retry_waiting(&mut self, tally: &mut Tally) {
        self.run(Vec::new(), self.deadline, true, tally).await;
    }

    /// Recipients that were not reached yet and are not counted.
    pub(super) fn waiting(&self) -> Vec<ConnectionId> {
        let unattempted = self.unattempted.iter().map(|post| &post.recipient);
        let all = self.retries.recipients().chain(unattempted);
        all.map(|recipient| recipient.id.clone()).collect()
    }

    pub(super) fn has_unattempted(&self) -> bool {
        !self.unattempted.is_empty()
    }

    /// Takes the recipients whose turn had not come.
    pub(super) fn take_unattempted(&mut self) -> impl Iterator<Item = ConnectionId> {
        self.unattempted.drain(..).map(|post| post.recipient.id)
    }

    async fn run(
        &mut self,
        posts: Vec<Post>,
        fresh_until: UnixMillis,
        drain: bool,
        tally: &mut Tally,
    ) {
        let mut fresh = posts.into_iter();
        let mut in_flight = FuturesUnordered::new();
        loop {
            let now = self.clock.now();
            if now >= fresh_until {
                self.unattempted.extend(fresh.by_ref());
            }
            let (mut wait, mut paused) = (self.begins_until.since(now), false);
            while in_flight.len() < self.settings.concurrency && !wait.is_zero() {
                let Some(next) = self.next(&mut fresh, now) else {
                    break;
                };
                // It waited for the rate limiter.
                if next.is_first() && now >= fresh_until {
                    self.unattempted.push(next.post);
                    continue;
                }
                // A large broadcast takes a while, and sessions end meanwhile.
                let recipient = &next.post.recipient;
                if recipient.token_expires_at.has_passed(now) {
                    tally.count(&recipient.id, PostOutcome::Gone);
                    continue;
                }
                if let Err(pause) = self.rate_limiter.take(now) {
                    // It is due: it goes first when there is a token.
                    self.retries.push(next);
                    (wait, paused) = (wait.min(pause), true);
                    break;
                }
                in_flight.push(self.attempt(next));
            }
            if !paused && let Some(next) = self.retries.wait(now) {
                wait = wait.min(next);
            }
            if in_flight.is_empty() {
                let idle = self.retries.is_empty() || !drain;
                if wait.is_zero() || (idle && fresh.len() == 0 && !paused) {
                    break;
                }
                self.clock.sleep(wait).await;
                continue;
            }
            // Every post has a timeout. If no more may begin, wait for one to
            // end.
            let full = in_flight.len() == self.settings.concurrency || wait.is_zero();
            let ended = if full {
                in_flight.next().await
            } else {
                match select(in_flight.next(), pin!(self.clock.sleep(wait))).await {
                    Either::Left((ended, _)) => ended,
                    Either::Right(_) => None,
                }
            };
            if let Some((attempt, posted)) = ended {
                self.settle(attempt, posted, tally);
            }
        }
        self.unattempted.extend(fresh);
    }

    /// The next attempt: a retry that is due, or else a new post.
    fn next(&mut self, fresh: &mut impl Iterator<Item = Post>, now: UnixMillis) -> Option<Attempt> {
        if let Some(retry) = self.retries.pop_due(now) {
            return Some(retry);
        }
        if self.retries.is_full() {
            return None;
        }
        fresh.next().map(|post| Attempt::first(post, now))
    }

    /// One post. It borrows nothing that the loop changes.
    fn attempt(
        &self,
        attempt: Attempt,
    ) -> impl Future<Output = (Attempt, Posted)> + use<'a, O, C, R> {
        let (outbox, clock) = (self.outbox, self.clock);
        let (deadline, longest) = (self.deadline, self.settings.post_timeout);
        async move {
            let begun = clock.now();
            let timeout = deadline.since(begun).min(longest);
            let (id, frame) = (&attempt.post.recipient.id, attempt.post.next_frame());
            let posted = outbox.post(id, frame, timeout).await;
            (attempt, (posted, clock.now().since(begun)))
        }
    }

    /// Counts the recipient, or queues a retry.
    fn settle(&mut self, mut attempt: Attempt, (posted, latency): Posted, tally: &mut Tally) {
        let now = self.clock.now();
        tally.measure(latency, self.random);
        let throttled = posted == Err(PostError::Throttled);
        if !attempt.confirming {
            let is_first = attempt.throttled == 0;
            self.rate_limiter.learn(is_first, throttled, now);
        }
        let outcome = match posted {
            Ok(()) if attempt.post.accepted + 1 < attempt.post.frames.len() => {
                attempt.post.accepted += 1;
                // It is due now, and retries go first.
                return self.retries.push(Attempt::first(attempt.post, now));
            }
            Ok(()) => PostOutcome::Accepted,
            Err(PostError::TooLarge) => PostOutcome::TooLarge,
            Err(error @ PostError::TimedOut) => PostOutcome::Failed(error.to_string()),
            Err(PostError::Failed(cause)) => PostOutcome::Failed(cause),
            Err(PostError::Gone) if attempt.post.recipient.may_be_pending(now.minus(latency)) => {
                if attempt.confirming {
                    PostOutcome::GoneUnconfirmed("its handshake may still be pending".into())
                } else {
                    attempt.confirming = true;
                    attempt.at = now.plus(confirm_after(self.random));
                    return self.retries.push(attempt);
                }
            }
            Err(PostError::Gone) => return tally.gone(attempt.post.recipient),
            Err(PostError::Throttled) => {
                if attempt.throttled == 0 {
                    attempt.since = now;
                }
                let patience = if self.rate_limiter.is_slowed() {
                    PATIENCE_IF_SLOWED
                } else {
                    PATIENCE
                };
                let is_patient = now.since(attempt.since) < patience;
                attempt.throttled += 1;
                attempt.at = now.plus(self.backoff(attempt.throttled));
                if is_patient {
                    return self.retries.push(attempt);
                }
                PostOutcome::Throttled
            }
        };
        tally.count(&attempt.post.recipient.id, outcome);
    }

    /// Full jitter, so that many connections that were throttled together are
    /// not retried together.
    fn backoff(&self, throttled: u32) -> Duration {
        let longest = BACKOFF * 2_u32.saturating_pow(throttled.saturating_sub(1).min(10));
        self.random
            .between(Duration::ZERO, longest.min(MAX_BACKOFF))
    }

    /// Counts every recipient that waits, by what is known of it.
    pub(super) fn give_up(&mut self, tally: &mut Tally) {
        for left in self.retries.drain() {
            let outcome = match left {
                Attempt { throttled: 1.., .. } => PostOutcome::Throttled,
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
        for post in self.unattempted.drain(..) {
            tally.count(&post.recipient.id, PostOutcome::NotAttempted);
        }
    }
}
