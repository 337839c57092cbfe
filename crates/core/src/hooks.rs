//! Hooks: the application is told who connects, joins, leaves and goes.
//!
//! An event is written in the same transaction as what makes it true, so there
//! is no event without its cause and no cause without its event. From then on
//! it waits in the store until a deliverer has told the application.
//!
//! Events have an order within their subject: a connection, or a user in a
//! channel.
//!
//! Invariants:
//! - An event is forgotten only after the application was told of it, or after
//!   it was kept as a dead letter. So a deliverer may die anywhere, and nothing
//!   is lost; the next one repeats what was not forgotten.
//! - **A deliverer tells of an event only if each earlier one of the same subject
//!   is forgotten or was told by itself.** So several may work on the same
//!   subject: the application may hear of an event twice, and of an old one
//!   after a new one, but never for the first time. That is why a deliverer
//!   stops at the first failure, and why the store never lists an event without
//!   the earlier ones.

mod pending;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

pub use pending::{HookSubject, PendingEvent};

use crate::ports::{
    Clock, DeadLetters, HOOK_TIME, HookEvents, Listener, MetricEvent, Metrics, PendingEvents,
    Randomness, StoreError, WaitingSubject,
};
use crate::time::UnixMillis;

/// Subjects that are served at once.
const CONCURRENCY: usize = 16;

/// When that many deliveries in a row have failed, the function is taken to be
/// down, and the run asks it nothing more.
const FAILURES_IN_A_ROW: u32 = 16;

/// A younger event was written a moment ago, and another invocation delivers it.
const FRESH: Duration = Duration::from_secs(5);

/// How long an event waits for the application before it becomes a dead letter.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Events that the application was told of.
    pub delivered: u64,
    /// Deliveries that failed. The event waits for the next run.
    pub failed: u64,
    /// Events that were kept as dead letters.
    pub given_up: u64,
}

impl Deliveries {
    fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.given_up += other.given_up;
    }
}

/// Tells the application of events.
#[derive(Debug)]
pub struct Deliverer<S, L, D, C, M, R> {
    pub store: S,
    pub listener: L,
    pub dead_letters: D,
    pub clock: C,
    pub metrics: M,
    pub random: R,
}

/// Failed deliveries in a row.
#[derive(Default)]
struct FailuresInARow(AtomicU32);

impl FailuresInARow {
    fn count(&self, has_failed: bool) {
        if has_failed {
            self.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn are_too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FAILURES_IN_A_ROW
    }
}

impl<S, L, D, C, M, R> Deliverer<S, L, D, C, M, R>
where
    S: HookEvents,
    L: Listener,
    D: DeadLetters,
    C: Clock,
    M: Metrics,
    R: Randomness,
{
    /// Tells of the events of one subject. No delivery begins that could end
    /// after `deadline`.
    ///
    /// # Errors
    /// [`StoreError`]. What was not forgotten is told again.
    pub async fn deliver(
        &self,
        subject: &HookSubject,
        deadline: UnixMillis,
    ) -> Result<Deliveries, StoreError> {
        let (done, result) = self
            .serve(subject, deadline, &FailuresInARow::default())
            .await;
        self.record(done);
        result.map(|()| done)
    }

    /// Tells of all events that wait, subject by subject in random order: the
    /// events that the application cannot handle must not keep the others
    /// waiting.
    ///
    /// # Errors
    /// [`StoreError`] if some events could not be listed or forgotten. Everything
    /// else was done.
    pub async fn deliver_all(&self, deadline: UnixMillis) -> Result<Deliveries, StoreError> {
        let mut waiting = self.store.waiting().await?;
        let now = self.clock.now();
        if let Some(since) = waiting.iter().map(|one| one.since).min() {
            self.metrics.record(MetricEvent::HookEventsWaiting {
                oldest: now.since(since),
            });
        }
        waiting.retain(|one| now.since(one.since) >= FRESH);
        self.shuffle(&mut waiting);
        let in_a_row = FailuresInARow::default();
        let (mut done, mut result) = (Deliveries::default(), Ok(()));
        let mut served = stream::iter(waiting)
            .map(async |one| self.serve_if_useful(&one, deadline, &in_a_row).await)
            .buffer_unordered(CONCURRENCY);
        while let Some((part, outcome)) = served.next().await {
            done.add(part);
            result = result.and(outcome);
        }
        self.record(done);
        result.map(|()| done)
    }

    fn shuffle(&self, waiting: &mut [WaitingSubject]) {
        for end in (1..waiting.len()).rev() {
            waiting.swap(end, self.random.index(end + 1));
        }
    }

    fn record(&self, done: Deliveries) {
        if done != Deliveries::default() {
            self.metrics.record(MetricEvent::HookEventsDelivered {
                delivered: done.delivered,
                failed: done.failed,
                given_up: done.given_up,
            });
        }
    }

    /// Serves a subject, unless the function is down and nothing has to be given
    /// up.
    async fn serve_if_useful(
        &self,
        waiting: &WaitingSubject,
        deadline: UnixMillis,
        in_a_row: &FailuresInARow,
    ) -> (Deliveries, Result<(), StoreError>) {
        let is_old = self.clock.now().since(waiting.since) >= GIVE_UP_AFTER;
        if in_a_row.are_too_many() && !is_old {
            return (Deliveries::default(), Ok(()));
        }
        self.serve(&waiting.subject, deadline, in_a_row).await
    }

    /// Returns what was done even if the rest could not be.
    async fn serve(
        &self,
        subject: &HookSubject,
        deadline: UnixMillis,
        in_a_row: &FailuresInARow,
    ) -> (Deliveries, Result<(), StoreError>) {
        let mut done = Deliveries::default();
        let result = self.tell_in_order(subject, deadline, in_a_row, &mut done);
        let result = result.await;
        (done, result)
    }

    /// See the invariants above: it stops at the first event that the
    /// application was not told of, and forgets none before it was told.
    async fn tell_in_order(
        &self,
        subject: &HookSubject,
        deadline: UnixMillis,
        in_a_row: &FailuresInARow,
        done: &mut Deliveries,
    ) -> Result<(), StoreError> {
        loop {
            let PendingEvents { events, more } = self.store.events_of(subject).await?;
            for pending in events {
                if self.clock.now().plus(HOOK_TIME) > deadline {
                    return Ok(());
                }
                if !self.tell_or_give_up(&pending, in_a_row, done).await {
                    return Ok(());
                }
                self.store.forget_event(&pending).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Returns whether the event may be forgotten.
    async fn tell_or_give_up(
        &self,
        pending: &PendingEvent,
        in_a_row: &FailuresInARow,
        done: &mut Deliveries,
    ) -> bool {
        let event = &pending.event;
        if !in_a_row.are_too_many() {
            let told = self.listener.tell(event).await;
            in_a_row.count(told.is_err());
            let Err(reason) = told else {
                done.delivered += 1;
                return true;
            };
            done.failed += 1;
            tracing::warn!(
                event = "hook.failed",
                eventId = event.id(),
                r#type = event.type_name(),
                reason,
                "could not tell the application of an event; the next run retries"
            );
        }
        if self.clock.now().since(pending.at) < GIVE_UP_AFTER {
            return false;
        }
        match self.dead_letters.keep(event).await {
            Ok(()) => {
                done.given_up += 1;
                tracing::error!(
                    event = "hook.given-up",
                    eventId = event.id(),
                    r#type = event.type_name(),
                    "could not tell the application of an event for a day; it is a dead letter"
                );
                true
            }
            Err(reason) => {
                tracing::warn!(
                    event = "hook.not-kept",
                    eventId = event.id(),
                    r#type = event.type_name(),
                    reason,
                    "could not keep a dead letter; the next run retries"
                );
                false
            }
        }
    }
}
