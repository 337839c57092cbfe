mod settle;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::ConnectionId;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Post;
use super::circuit_breaker::CircuitBreaker;
use super::rate_limiter::RateLimiter;
use super::retry_queue::{Attempt, RetryQueue};
use super::tally::{PostOutcome, Tally};
use crate::ports::{Clock, Metrics, Outbox, PostError, Randomness};
use crate::time::UnixMillis;

/// How long a broadcast that nobody would resume waits for an API that answers
/// nothing.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How long the row of a connection that waits for a retry is believed: a
/// sign-out may have ended the session.
///
/// Invariant: nothing is posted because of a row that was read more than this
/// and the 30 seconds before its first turn ago.
const BELIEVED: Duration = Duration::from_secs(60);

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
/// accepted. If one fails, those after it are not posted. A connection that is
/// to be closed is closed although its client could not be told why; closing it
/// twice does no harm, so that is retried after every failure.
///
/// A post that was not accepted (throttled, a failure of the API, or a 410 while
/// the handshake may be pending) waits in the retry queue while the others go
/// on. A timeout is retried only if the API fails as a whole: otherwise the
/// message has probably arrived.
pub(super) struct Delivery<'a, O, C, M, R> {
    outbox: &'a O,
    clock: &'a C,
    metrics: &'a M,
    random: &'a R,
    settings: DeliverySettings,
    deadline: UnixMillis,
    /// No post begins later: with less than its full timeout it might arrive and
    /// still count as failed.
    begins_until: UnixMillis,
    /// Whether it waits for no outage to end.
    at_once: bool,
    rate_limiter: RateLimiter,
    breaker: CircuitBreaker,
    retries: RetryQueue,
    /// Posts that timed out since the API last answered. The next answer, or
    /// the breaker, tells whether the API fails as a whole.
    timed_out: Vec<Attempt>,
    /// Posts whose turn had not come when time ran out or their rows were too
    /// old.
    unattempted: Vec<Post>,
    /// What was tried at connections whose rows are read again.
    tried: HashMap<ConnectionId, Attempt>,
}

/// A post that has ended: its result and its latency.
type Posted = (Result<(), PostError>, Duration);

impl<'a, O: Outbox, C: Clock, M: Metrics, R: Randomness> Delivery<'a, O, C, M, R> {
    pub(super) fn new(
        outbox: &'a O,
        clock: &'a C,
        metrics: &'a M,
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
            metrics,
            random,
            settings,
            deadline,
            begins_until: deadline.minus(last),
            at_once: false,
            rate_limiter: RateLimiter::new(settings.posts_per_second, now),
            breaker: CircuitBreaker::default(),
            retries: RetryQueue::default(),
            timed_out: Vec::new(),
            unattempted: Vec::new(),
            tried: HashMap::new(),
        }
    }

    /// Waits for no outage to end, since nobody would resume the broadcast.
    pub(super) fn at_once(mut self) -> Self {
        self.at_once = true;
        self
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

    /// Retries until every waiting recipient is counted or its row must be read
    /// again, or no post may begin.
    pub(super) async fn retry_waiting(&mut self, tally: &mut Tally) {
        self.run(Vec::new(), self.deadline, true, tally).await;
        self.count_timed_out(tally);
    }

    /// Recipients that were not reached yet and are not counted.
    pub(super) fn waiting(&self) -> Vec<ConnectionId> {
        let timed_out = self.timed_out.iter().map(|attempt| &attempt.post.recipient);
        let unattempted = self.unattempted.iter().map(|post| &post.recipient);
        let waiting = self.retries.recipients().chain(timed_out);
        let all = waiting.chain(unattempted);
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
            let (mut wait, mut paused) = (self.gives_up_at().since(now), false);
            while in_flight.len() < self.settings.concurrency && !wait.is_zero() {
                if let Some(pause) = self.breaker.wait(in_flight.len(), now) {
                    wait = wait.min(pause);
                    break;
                }
                let Some(next) = self.next(&mut fresh, now) else {
                    break;
                };
                // It waited for the rate limiter.
                if next.is_first() && now >= fresh_until {
                    self.unattempted.push(next.post);
                    continue;
                }
                // It waited for a retry. What is to be closed needs no session.
                if !next.is_close() && now.since(next.begun) >= BELIEVED {
                    self.unattempted.push(next.post.clone());
                    self.tried.insert(next.post.recipient.id.clone(), next);
                    continue;
                }
                // A large broadcast takes a while, and sessions end meanwhile.
                if !next.post.may_be_made(now) {
                    tally.count(&next.post.recipient.id, PostOutcome::Gone);
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

    /// When the last post may begin.
    fn gives_up_at(&self) -> UnixMillis {
        match self.breaker.failing_since() {
            Some(since) if self.at_once => since.plus(AT_ONCE).min(self.begins_until),
            _ => self.begins_until,
        }
    }

    /// The next attempt: a retry that is due, or else a new post.
    fn next(&mut self, fresh: &mut impl Iterator<Item = Post>, now: UnixMillis) -> Option<Attempt> {
        if let Some(retry) = self.retries.pop_due(now) {
            return Some(retry);
        }
        if self.retries.is_full() {
            return None;
        }
        let post = fresh.next()?;
        Some(match self.tried.remove(&post.recipient.id) {
            Some(tried) => tried.read_again(post, now),
            None => Attempt::first(post, now),
        })
    }

    /// One post or close. It borrows nothing that the loop changes.
    fn attempt(
        &self,
        attempt: Attempt,
    ) -> impl Future<Output = (Attempt, Posted)> + use<'a, O, C, M, R> {
        let (outbox, clock) = (self.outbox, self.clock);
        let (deadline, longest) = (self.deadline, self.settings.post_timeout);
        async move {
            let begun = clock.now();
            let timeout = deadline.since(begun).min(longest);
            let (id, frame) = (&attempt.post.recipient.id, attempt.post.next_frame());
            let posted = if attempt.is_close() {
                outbox.close(id).await
            } else {
                outbox.post(id, frame, timeout).await
            };
            (attempt, (posted, clock.now().since(begun)))
        }
    }
}
