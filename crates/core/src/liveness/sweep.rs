use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use belfry_protocol::{Action, ConnectionId, SweepReport};
use futures_util::future::{Either, FutureExt, ready, select};
use futures_util::stream::{self, StreamExt};

use super::LivenessSettings;
use super::check::{Check, Checked};
use super::deadlines::EndReason;
use super::watched::WatchedOutbox;
use crate::broadcast::{DeliverySettings, Fanout, FanoutSettings};
use crate::frames::lock::{released, to_frame};
use crate::locks::release_all;
use crate::ports::{
    Capacity, Clock, ConnectionLookup, Departure, Departures, Due, DueConnections, FreeLock,
    Listing, Locks, MetricEvent, Metrics, NewBroadcasts, Outbox, Presence, Randomness, Removals,
    SegmentOffers, StoreError, Subscribers, Waiting, Workers,
};
use crate::presence::{Announcer, PresenceSettings};
use crate::time::UnixMillis;

/// Maximum concurrent checks.
const CONCURRENCY: usize = 64;

/// Time for checks that are under way at the deadline. The others are dropped:
/// their connections are still due.
const GRACE: Duration = Duration::from_secs(10);

/// How long checks wait for an API that answers nothing. What else a sweep does
/// needs no API, and has the rest of its time.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(10);

/// Polling interval while a probe is under way.
const PROBE_POLL: Duration = Duration::from_millis(250);

/// Ends the connections that must end, pings the silent ones, and asks those
/// that will be cut to reconnect.
///
/// A sweep acts first and records afterwards, on condition that the row is
/// still as it was read. So a sweep may die at any point, and two may run at
/// once: a client may be pinged twice, but none is closed without a ping, and
/// nothing that is due is lost.
///
/// If the management API fails as a whole, checks pause, and one at a time
/// probes it. After ten seconds the others are left to the next sweep.
#[derive(Debug)]
pub struct Sweeper<S, O, C, M, W, R> {
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    /// Tell the users in large channels who has left.
    pub workers: W,
    pub random: R,
    pub settings: LivenessSettings,
    /// How the users in small channels are told.
    pub delivery: DeliverySettings,
    pub fanout: FanoutSettings,
    pub presence: PresenceSettings,
}

impl<S, O, C, M, W, R> Sweeper<S, O, C, M, W, R>
where
    S: DueConnections
        + ConnectionLookup
        + Removals
        + Capacity
        + Departures
        + Locks
        + NewBroadcasts
        + Presence
        + SegmentOffers
        + Subscribers,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Checks every connection that is due. No check begins after `deadline`, and
    /// none continues for more than ten seconds after it.
    ///
    /// # Errors
    /// [`StoreError`] if some due connections could not be listed, or the open
    /// ones not counted. Everything else was done.
    pub async fn sweep(&self, deadline: UnixMillis) -> Result<SweepReport, StoreError> {
        let begun = self.clock.now();
        let (mut report, mut unlisted) = (SweepReport::default(), None);
        let all_begun = AtomicBool::new(true);
        let mut all_ended = true;
        {
            let (outbox, under_way) = (self.watched(), AtomicUsize::new(0));
            let may_begin = |_: &_| {
                let may_begin = self.may_begin(&outbox, &under_way, deadline);
                may_begin.inspect(|may_begin| all_begun.store(*may_begin, Ordering::Relaxed))
            };
            let checks = self
                .store
                .due(begun)
                .take_while(may_begin)
                .map(async |listed| {
                    let checked = match listed {
                        Ok(id) => Ok(self.check(&id, &outbox).await),
                        Err(error) => Err(error),
                    };
                    under_way.fetch_sub(1, Ordering::Relaxed);
                    checked
                })
                .buffer_unordered(CONCURRENCY);
            let mut checks = pin!(checks);
            let grace = deadline.plus(GRACE).since(begun);
            let mut time_is_up = pin!(self.clock.sleep(grace));
            loop {
                match select(checks.next(), &mut time_is_up).await {
                    Either::Left((Some(Ok(checked)), _)) => count(&mut report, checked),
                    Either::Left((Some(Err(error)), _)) => unlisted = Some(error),
                    Either::Left((None, _)) => break,
                    Either::Right(_) => {
                        all_ended = false;
                        break;
                    }
                }
            }
        }
        let mut complete = all_begun.into_inner() && all_ended;
        let now = self.clock.now();
        let (departures, leaves) = match self.store.due_list(now).await {
            Ok(due) => {
                complete &= self.process(&due, deadline).await;
                let departures = due.departures.iter().map(|one| one.due_at);
                let leaves = due.leaves.iter().map(|one| one.due_at);
                (waiting(departures, now), waiting(leaves, now))
            }
            Err(error) => {
                unlisted = Some(error);
                Default::default()
            }
        };
        report.complete = complete;
        report.connections = self.store.open_connections().await?;
        let took = self.clock.now().since(begun);
        self.metrics.record(MetricEvent::SweepDone {
            report,
            took,
            departures,
            leaves,
        });
        unlisted.map_or(Ok(report), Err)
    }

    /// Processes what is due, leaves after departures. Returns whether there was
    /// time for all of it.
    async fn process(&self, due: &Due, deadline: UnixMillis) -> bool {
        let departures = self.each(&due.departures, deadline, async |departure| {
            if let Err(error) = self.depart(departure).await {
                let id = &departure.connection;
                tracing::warn!(event = "connection.subscriptions-left", connectionId = %id, reason = %error, "could not end the subscriptions of a connection; the next sweep retries");
            }
        });
        let mut complete = departures.await;
        let announcer = self.announcer();
        complete &= self
            .each(&due.leaves, deadline, async |leave| {
                self.not_announced(announcer.leave(leave).await);
            })
            .await;
        complete &= self
            .each(&due.counts, deadline, async |count| {
                self.not_announced(announcer.count(count).await);
            })
            .await;
        complete
    }

    /// Does something with each of them. Nothing begins after `deadline`, and
    /// nothing continues for more than ten seconds after it. Returns whether
    /// there was time for all.
    async fn each<T>(&self, due: &[T], deadline: UnixMillis, action: impl AsyncFn(&T)) -> bool {
        let mut complete = true;
        let in_time = |_: &_| {
            complete = self.clock.now() < deadline;
            ready(complete)
        };
        let actions = stream::iter(due)
            .take_while(in_time)
            .for_each_concurrent(CONCURRENCY, |one| action(one));
        let grace = deadline.plus(GRACE).since(self.clock.now());
        let time_is_up = pin!(self.clock.sleep(grace));
        let all_ended = matches!(select(pin!(actions), time_is_up).await, Either::Left(_));
        complete && all_ended
    }

    /// Ends the subscriptions, releases the locks that are left, tells of those,
    /// and then forgets the departure: a sweep that dies before that is repeated
    /// by the next one.
    async fn depart(&self, departure: &Departure) -> Result<(), StoreError> {
        let locks = self.store.depart(departure).await?;
        let free = release_all(&self.store, &departure.lock_owner, &locks).await?;
        for lock in &free {
            self.announce(lock).await?;
        }
        self.store.forget_departure(departure).await
    }

    /// Tells the subscribers of a channel that may lock that a lock is free.
    async fn announce(&self, lock: &FreeLock) -> Result<(), StoreError> {
        let frame = to_frame(released(lock), self.clock.now());
        let (channel, fanout) = (&lock.key.channel, self.fanout());
        let (listing, id) = (Listing::Allowed(Action::Lock), fanout.new_id());
        fanout.run(channel, listing, frame, None, &id).await
    }

    fn not_announced(&self, announced: Result<(), StoreError>) {
        if let Err(error) = announced {
            self.metrics.record(MetricEvent::AnnouncementFailed);
            tracing::warn!(event = "presence.not-announced", reason = %error, "could not announce who is present in a channel; the next sweep retries");
        }
    }

    fn fanout(&self) -> Fanout<'_, S, O, C, M, W, R> {
        Fanout {
            store: &self.store,
            outbox: &self.outbox,
            clock: &self.clock,
            metrics: &self.metrics,
            workers: &self.workers,
            random: &self.random,
            delivery: self.delivery,
            settings: self.fanout,
        }
    }

    fn announcer(&self) -> Announcer<'_, S, O, C, M, W, R> {
        Announcer {
            fanout: self.fanout(),
            settings: self.presence,
        }
    }

    fn watched(&self) -> WatchedOutbox<'_, O, C, M, R> {
        WatchedOutbox::new(&self.outbox, &self.clock, &self.metrics, &self.random)
    }

    /// Waits while the API fails as a whole. Returns whether there is time for a
    /// check, which is then under way.
    async fn may_begin(
        &self,
        outbox: &WatchedOutbox<'_, O, C, M, R>,
        under_way: &AtomicUsize,
        deadline: UnixMillis,
    ) -> bool {
        while self.clock.now() < deadline {
            let Some(wait) = outbox.wait(under_way.load(Ordering::Relaxed)) else {
                under_way.fetch_add(1, Ordering::Relaxed);
                return true;
            };
            let ends_at = outbox.failing_since().map(|at| at.plus(OUTAGE_PATIENCE));
            let left = ends_at.unwrap_or(deadline).since(self.clock.now());
            if left.is_zero() {
                return false;
            }
            self.clock.sleep(wait.max(PROBE_POLL).min(left)).await;
        }
        false
    }

    async fn check(&self, id: &ConnectionId, outbox: &WatchedOutbox<'_, O, C, M, R>) -> Checked {
        let check = Check {
            store: &self.store,
            outbox,
            clock: &self.clock,
            random: &self.random,
            settings: &self.settings,
        };
        let checked = check.run(id).await;
        let checked = checked.unwrap_or_else(|error| Checked::Failed(error.to_string()));
        if let Checked::Failed(reason) = &checked {
            tracing::warn!(event = "connection.check-failed", connectionId = %id, reason, "could not check a connection; the next sweep retries");
        }
        checked
    }
}

fn waiting(due: impl ExactSizeIterator<Item = UnixMillis>, now: UnixMillis) -> Waiting {
    Waiting {
        number: due.len() as u64,
        oldest: due.map(|at| now.since(at)).max().unwrap_or_default(),
    }
}

fn count(report: &mut SweepReport, checked: Checked) {
    let counter = match checked {
        Checked::Kept => &mut report.kept,
        Checked::Pinged => &mut report.pinged,
        Checked::AskedToReconnect => &mut report.reconnect_sent,
        Checked::Ended(EndReason::TokenExpired) => &mut report.expired,
        Checked::Ended(EndReason::Silent) => &mut report.silent,
        Checked::Ended(EndReason::Replaced) => &mut report.replaced,
        Checked::Ended(EndReason::Outlived) => &mut report.outlived,
        Checked::Gone => &mut report.gone,
        Checked::Failed(_) => &mut report.failed,
    };
    *counter += 1;
}
