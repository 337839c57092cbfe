use std::pin::pin;
use std::time::Duration;

use belfry_protocol::{ConnectionId, SweepReport};
use futures_util::future::{Either, ready, select};
use futures_util::stream::{self, StreamExt};

use super::LivenessSettings;
use super::check::{Check, Checked};
use super::deadlines::EndReason;
use crate::ports::{
    Capacity, Clock, ConnectionLookup, Departure, Departures, DueConnections, MetricEvent, Metrics,
    Outbox, Randomness, Removals, StoreError, WaitingDepartures,
};
use crate::time::UnixMillis;

/// Maximum concurrent checks.
const CONCURRENCY: usize = 64;

/// Time for checks that are under way at the deadline. The others are dropped:
/// their connections are still due.
const GRACE: Duration = Duration::from_secs(10);

/// Ends the connections that must end, pings the silent ones, and asks those
/// that will be cut to reconnect.
///
/// A sweep acts first and records afterwards, on condition that the row is
/// still as it was read. So a sweep may die at any point, and two may run at
/// once: a client may be pinged twice, but none is closed without a ping, and
/// nothing that is due is lost.
#[derive(Debug)]
pub struct Sweeper<S, O, C, M, R> {
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    pub random: R,
    pub settings: LivenessSettings,
}

impl<S, O, C, M, R> Sweeper<S, O, C, M, R>
where
    S: DueConnections + ConnectionLookup + Removals + Capacity + Departures,
    O: Outbox,
    C: Clock,
    M: Metrics,
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
        let (mut report, mut complete, mut unlisted) = (SweepReport::default(), true, None);
        let mut all_ended = true;
        {
            let in_time = |_: &_| {
                complete = self.clock.now() < deadline;
                ready(complete)
            };
            let checks = self
                .store
                .due(begun)
                .take_while(in_time)
                .map(async |listed| Ok(self.check(&listed?).await))
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
        let now = self.clock.now();
        let departures = match self.store.due_departures(now).await {
            Ok(due) => {
                complete &= self.process_departures(&due, deadline).await;
                waiting(&due, now)
            }
            Err(error) => {
                unlisted = Some(error);
                WaitingDepartures::default()
            }
        };
        report.complete = complete && all_ended;
        report.connections = self.store.open_connections().await?;
        let took = self.clock.now().since(begun);
        self.metrics.record(MetricEvent::SweepDone {
            report,
            took,
            departures,
        });
        unlisted.map_or(Ok(report), Err)
    }

    /// Ends the subscriptions that are left of connections that have ended.
    /// Returns whether there was time for all.
    async fn process_departures(&self, due: &[Departure], deadline: UnixMillis) -> bool {
        let mut complete = true;
        let in_time = |_: &_| {
            complete = self.clock.now() < deadline;
            ready(complete)
        };
        let departures = stream::iter(due)
            .take_while(in_time)
            .map(async |departure| (departure, self.store.depart(departure).await))
            .buffer_unordered(CONCURRENCY);
        let grace = deadline.plus(GRACE).since(self.clock.now());
        let mut time_is_up = pin!(self.clock.sleep(grace));
        let all_ended = {
            let mut departures = pin!(departures);
            loop {
                match select(departures.next(), &mut time_is_up).await {
                    Either::Left((Some((_, Ok(()))), _)) => {}
                    Either::Left((Some((departure, Err(error))), _)) => {
                        let id = &departure.connection;
                        tracing::warn!(event = "connection.subscriptions-left", connectionId = %id, reason = %error, "could not end the subscriptions of a connection; the next sweep retries");
                    }
                    Either::Left((None, _)) => break true,
                    Either::Right(_) => break false,
                }
            }
        };
        complete && all_ended
    }

    async fn check(&self, id: &ConnectionId) -> Checked {
        let check = Check {
            store: &self.store,
            outbox: &self.outbox,
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

fn waiting(due: &[Departure], now: UnixMillis) -> WaitingDepartures {
    let ages = due.iter().map(|departure| now.since(departure.due_at));
    WaitingDepartures {
        number: due.len() as u64,
        oldest: ages.max().unwrap_or_default(),
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
