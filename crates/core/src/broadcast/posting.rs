//! One frame to many connections.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::ConnectionId;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::pace::Pace;
use super::tally::{Delivery, Tally};
use crate::connection::{Recipient, confirm_after};
use crate::ports::{Clock, Outbox, PostError};
use crate::time::UnixMillis;

/// How many connections may wait for another try. Beyond that nothing new is
/// begun: so many are throttled that it is no client's own fault.
const LANE: usize = 256;

/// How long a connection is tried that API Gateway takes nothing for, while it
/// takes messages for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same while it takes few messages for anyone.
const PATIENCE_IF_SLOWED: Duration = Duration::from_secs(60);

/// The longest wait before the second try of a throttled post; it doubles with
/// each try, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// How posts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// How many posts are under way at a time, at least one.
    pub concurrency: usize,
    /// How long a post may take.
    pub post_timeout: Duration,
    /// How many posts may begin in a second, at least one.
    pub posts_per_second: u32,
}

/// Posts a frame, and repeats what certainly did not arrive.
///
/// A post that may have arrived (timeout, unknown failure) is never repeated;
/// one that certainly did not (throttled, a 410 on a young row) waits in a
/// lane beside the others, which go on meanwhile.
pub(super) struct Posting<'a, O, C> {
    outbox: &'a O,
    clock: &'a C,
    settings: DeliverySettings,
    frame: &'a str,
    deadline: UnixMillis,
    /// After this no post begins: one that has not all of its time may arrive
    /// and count as failed.
    begins_until: UnixMillis,
    pace: Pace,
    lane: BinaryHeap<Reverse<Waiting>>,
    /// Those whose turn had not come when time was up.
    unattempted: Vec<Recipient>,
}

/// A connection on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// When it is tried (again).
    at: UnixMillis,
    recipient: Recipient,
    /// How often it was throttled, and since when.
    throttled: u32,
    since: UnixMillis,
    /// A first 410 was not believed.
    confirming: bool,
}

impl<'a, O: Outbox, C: Clock> Posting<'a, O, C> {
    pub(super) fn new(
        outbox: &'a O,
        clock: &'a C,
        settings: DeliverySettings,
        frame: &'a str,
        deadline: UnixMillis,
    ) -> Self {
        let now = clock.now();
        // Where there is less time than two posts may take, a post gets half.
        let last = settings.post_timeout.min(deadline.since(now) / 2);
        Self {
            outbox,
            clock,
            settings,
            frame,
            deadline,
            begins_until: deadline.minus(last),
            pace: Pace::new(settings.posts_per_second, now),
            lane: BinaryHeap::new(),
            unattempted: Vec::new(),
        }
    }

    /// Whether no post may begin any more at this time.
    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.begins_until
    }

    /// Tries each of these once, while posts may begin. Who is not counted
    /// then is [`Self::waiting`].
    pub(super) async fn post(&mut self, recipients: Vec<Recipient>, tally: &mut Tally) {
        self.run(recipients, false, tally).await;
    }

    /// Tries those who wait until each is counted, or no post may begin.
    pub(super) async fn finish(&mut self, tally: &mut Tally) {
        self.run(Vec::new(), true, tally).await;
    }

    /// Those who were posted to in vain, or not at all, and are not counted.
    pub(super) fn waiting(&self) -> Vec<ConnectionId> {
        let lane = self.lane.iter().map(|Reverse(waiting)| &waiting.recipient);
        let all = lane.chain(&self.unattempted);
        all.map(|recipient| recipient.id.clone()).collect()
    }

    async fn run(&mut self, recipients: Vec<Recipient>, drain: bool, tally: &mut Tally) {
        let mut fresh = recipients.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = self.clock.now();
            let (mut wait, mut paused) = (self.begins_until.since(now), false);
            while under_way.len() < self.settings.concurrency && !wait.is_zero() {
                let Some(next) = self.due(&mut fresh, now) else {
                    break;
                };
                // A broadcast to many takes a while, and sessions end meanwhile.
                if next.recipient.token_expires_at.has_passed(now) {
                    tally.count(&next.recipient.id, Delivery::Gone);
                    continue;
                }
                if let Err(pause) = self.pace.take(now) {
                    // Its turn comes as soon as there is a token.
                    self.lane.push(Reverse(next));
                    (wait, paused) = (wait.min(pause), true);
                    break;
                }
                under_way.push(self.attempt(next));
            }
            match self.lane.peek() {
                Some(Reverse(next)) if !paused && next.at > now => {
                    wait = wait.min(next.at.since(now));
                }
                _ => {}
            }
            if under_way.is_empty() {
                let idle = self.lane.is_empty() || !drain;
                if wait.is_zero() || (idle && fresh.len() == 0 && !paused) {
                    break;
                }
                self.clock.sleep(wait).await;
                continue;
            }
            // Every post has a timeout: where no more may begin, an end is all
            // that there is to wait for.
            let full = under_way.len() == self.settings.concurrency || wait.is_zero();
            let ended = if full {
                under_way.next().await
            } else {
                match select(under_way.next(), pin!(self.clock.sleep(wait))).await {
                    Either::Left((ended, _)) => ended,
                    Either::Right(_) => None,
                }
            };
            if let Some((tried, outcome)) = ended {
                self.settle(tried, outcome, tally);
            }
        }
        self.unattempted.extend(fresh);
    }

    /// What is to be tried next: who waits and is due, else somebody new.
    fn due(
        &mut self,
        fresh: &mut impl Iterator<Item = Recipient>,
        now: UnixMillis,
    ) -> Option<Waiting> {
        if self.lane.peek().is_some_and(|Reverse(w)| w.at <= now) {
            return self.lane.pop().map(|Reverse(waiting)| waiting);
        }
        if self.lane.len() >= LANE {
            return None;
        }
        fresh.next().map(|recipient| Waiting {
            at: now,
            recipient,
            throttled: 0,
            since: now,
            confirming: false,
        })
    }

    /// One post. It borrows nothing that the loop changes.
    fn attempt(
        &self,
        waiting: Waiting,
    ) -> impl Future<Output = (Waiting, (Result<(), PostError>, Duration))> + use<'a, O, C> {
        let (outbox, clock, frame) = (self.outbox, self.clock, self.frame);
        let (deadline, longest) = (self.deadline, self.settings.post_timeout);
        async move {
            let begun = clock.now();
            let timeout = deadline.since(begun).min(longest);
            let outcome = outbox.post(&waiting.recipient.id, frame, timeout).await;
            (waiting, (outcome, clock.now().since(begun)))
        }
    }

    fn settle(
        &mut self,
        mut tried: Waiting,
        (outcome, took): (Result<(), PostError>, Duration),
        tally: &mut Tally,
    ) {
        let now = self.clock.now();
        tally.time(took);
        let throttled = outcome == Err(PostError::Throttled);
        if !tried.confirming {
            self.pace.learn(tried.throttled == 0, throttled, now);
        }
        let delivery = match outcome {
            Ok(()) => Delivery::Accepted,
            Err(PostError::TooLarge) => Delivery::TooLarge,
            Err(error @ PostError::TimedOut) => Delivery::Failed(error.to_string()),
            Err(PostError::Failed(cause)) => Delivery::Failed(cause),
            Err(PostError::Gone) if !tried.confirming && tried.recipient.is_young(now) => {
                tried.confirming = true;
                tried.at = now.plus(confirm_after());
                return self.lane.push(Reverse(tried));
            }
            Err(PostError::Gone) => return tally.gone(tried.recipient),
            Err(PostError::Throttled) => {
                if tried.throttled == 0 {
                    tried.since = now;
                }
                let patience = if self.pace.is_slowed() {
                    PATIENCE_IF_SLOWED
                } else {
                    PATIENCE
                };
                let patient = now.since(tried.since) < patience;
                tried.throttled += 1;
                tried.at = now.plus(backoff(tried.throttled));
                if patient {
                    return self.lane.push(Reverse(tried));
                }
                Delivery::Throttled
            }
        };
        tally.count(&tried.recipient.id, delivery);
    }

    /// Counts everyone who waits, by what is known of them.
    pub(super) fn give_up(&mut self, tally: &mut Tally) {
        for Reverse(left) in self.lane.drain() {
            let delivery = match left {
                Waiting { throttled: 1.., .. } => Delivery::Throttled,
                Waiting {
                    confirming: true, ..
                } => Delivery::GoneRowKept("no time to ask again".into()),
                _ => Delivery::NotAttempted,
            };
            tally.count(&left.recipient.id, delivery);
        }
        for recipient in self.unattempted.drain(..) {
            tally.count(&recipient.id, Delivery::NotAttempted);
        }
    }
}

/// Anything from nothing to the whole wait ("full jitter"), so that many who
/// were refused together do not come back together.
fn backoff(throttled: u32) -> Duration {
    let wait = BACKOFF * 2_u32.saturating_pow(throttled.saturating_sub(1).min(10));
    wait.min(MAX_BACKOFF).mul_f64(fastrand::f64())
}
