//! Looking after connections that nobody else looks after.

#[cfg(test)]
mod tests;

use std::time::Duration;

use belfry_protocol::{
    Bare, ConnectionId, Envelope, ErrorCode, Reconnect, ServerFrame, SignOutReport, SweepReport,
    UserId, Version,
};
use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::connection::{Connection, Recipient, Watch, confirm_after};
use crate::last_words::{self, Closing};
use crate::ports::{
    Clock, ConnectionStore, DueCursor, Measured, Metrics, Outbox, PARTS, PostError, StoreError,
    SweepStore,
};
use crate::schedule::{End, Schedule, Step};
use crate::time::UnixMillis;

/// How many parts of the index are swept at a time.
const PARTS_AT_A_TIME: usize = 4;

/// How many connections are looked after at a time.
const VISITS_AT_A_TIME: usize = 64;

/// How long a connection is tried that API Gateway takes nothing for.
const UNREACHABLE: Duration = Duration::from_secs(5 * 60);

/// When it is tried again: by the next sweep of a schedule of a minute.
const POSTPONED: Duration = Duration::from_secs(55);

/// How long a post may take.
const POST_TIMEOUT: Duration = Duration::from_secs(3);

/// The use case: end the connections that have to end, ask those that are
/// silent for a sign of life, and tell those that will be cut to move.
///
/// What a sweep does is done first and written down afterwards, on condition
/// that the row is still as it was read. So a sweep may die at any point, and
/// two may run at once: a client may get a ping twice, but nobody is closed
/// who was not pinged, and nothing that is due is lost.
#[derive(Debug)]
pub struct Sweeper<S, O, C, M> {
    /// Keeps the rows.
    pub store: S,
    /// Reaches the sockets.
    pub outbox: O,
    /// Tells the time.
    pub clock: C,
    /// Shows the operator what was done and how many connections there are.
    pub metrics: M,
    /// When what is to be done.
    pub schedule: Schedule,
}

/// What became of one connection that was listed as due.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Visit {
    Kept,
    Pinged,
    ToldToReconnect,
    Ended(End),
    /// API Gateway does not know it.
    Gone,
    /// The next sweep tries again; why.
    Failed(String),
}

impl<S: ConnectionStore + SweepStore, O: Outbox, C: Clock, M: Metrics> Sweeper<S, O, C, M> {
    /// Looks after everything that is due, beginning nothing new after
    /// `deadline`.
    ///
    /// # Errors
    /// [`StoreError`] if a part of what is due could not be listed, or the
    /// places not counted. Everything else was done.
    pub async fn sweep(&self, deadline: UnixMillis) -> Result<SweepReport, StoreError> {
        let begun = self.clock.now();
        let (mut report, mut complete, mut unlisted) = (SweepReport::default(), true, None);
        {
            // What is under way at the deadline is finished.
            let in_time = |_: &_| {
                complete = self.clock.now() < deadline;
                ready(complete)
            };
            let mut visits = self
                .everything_due()
                .take_while(in_time)
                .map(async |listed| Ok(self.visit(&listed?).await))
                .buffer_unordered(VISITS_AT_A_TIME);
            while let Some(visit) = visits.next().await {
                match visit {
                    Ok(visit) => count(&mut report, visit),
                    Err(error) => unlisted = Some(error),
                }
            }
        }
        report.complete = complete;
        report.connections = self.store.count().await?;
        if self.clock.now() < deadline
            && let Err(error) = self.store.audit(self.clock.now()).await
        {
            tracing::warn!(reason = %error, "the counters were not compared");
        }
        let took = self.clock.now().since(begun);
        self.metrics.record(Measured::Swept { report, took });
        unlisted.map_or(Ok(report), Err)
    }

    /// The connections that are due, page by page, several parts at a time and
    /// from another part each time, so that no part is always the last.
    fn everything_due(&self) -> impl Stream<Item = Result<ConnectionId, StoreError>> {
        let first = fastrand::u32(0..PARTS);
        stream::iter(0..PARTS)
            .map(move |n| self.due_in((first + n) % PARTS).boxed())
            .flatten_unordered(PARTS_AT_A_TIME)
    }

    fn due_in(&self, part: u32) -> impl Stream<Item = Result<ConnectionId, StoreError>> {
        // Outside: whether there is a next page; inside: where it begins.
        let begin: Option<Option<DueCursor>> = Some(None);
        let pages = stream::try_unfold(begin, move |from| async move {
            let Some(from) = from else { return Ok(None) };
            let page = self.store.due(part, from, self.clock.now()).await?;
            let ids = stream::iter(page.ids.into_iter().map(Ok));
            Ok(Some((ids, page.next.map(Some))))
        });
        pages.try_flatten()
    }

    async fn visit(&self, id: &ConnectionId) -> Visit {
        let visit = match self.store.read(id).await {
            Ok(Some(row)) => self.look_after(&row).await,
            Ok(None) => Ok(Visit::Kept),
            Err(error) => Err(error),
        };
        let visit = visit.unwrap_or_else(|error| Visit::Failed(error.to_string()));
        if let Visit::Failed(reason) = &visit {
            tracing::warn!(connectionId = %id, reason, "a connection could not be looked after");
        }
        visit
    }

    async fn look_after(&self, row: &Connection) -> Result<Visit, StoreError> {
        let now = self.clock.now();
        // Another sweep was faster than the index.
        if row.watch.due_at > now {
            return Ok(Visit::Kept);
        }
        let timestamp = Some(now.to_timestamp());
        match self.schedule.step(row, now) {
            Step::Wait => self.note(row, row.watch, Visit::Kept).await,
            Step::End(end) => self.end(row, end).await,
            Step::Ping => {
                let ping = ServerFrame::Ping(Bare {
                    timestamp,
                    ..Bare::default()
                });
                let watch = Watch {
                    pinged_at: Some(now),
                    ..row.watch
                };
                self.say(row, &ping, watch, Visit::Pinged).await
            }
            Step::Reconnect => {
                let reconnect = ServerFrame::Reconnect(Envelope {
                    version: Version,
                    id: None,
                    timestamp,
                    data: Reconnect {
                        deadline: self.schedule.ends_at(row).to_timestamp(),
                    },
                    correlation_id: None,
                });
                let watch = Watch {
                    told_to_reconnect: true,
                    ..row.watch
                };
                self.say(row, &reconnect, watch, Visit::ToldToReconnect)
                    .await
            }
        }
    }

    /// Posts a frame, and notes it if it was taken.
    async fn say(
        &self,
        row: &Connection,
        frame: &ServerFrame,
        watch: Watch,
        said: Visit,
    ) -> Result<Visit, StoreError> {
        let (recipient, frame) = (Recipient::from(row), frame.to_json());
        let mut posted = self.outbox.post(&row.id, &frame, POST_TIMEOUT).await;
        if posted == Err(PostError::Gone) && recipient.is_young(self.clock.now()) {
            self.clock.sleep(confirm_after()).await;
            posted = self.outbox.post(&row.id, &frame, POST_TIMEOUT).await;
        }
        match posted {
            Ok(()) => {
                let watch = Watch {
                    unreachable_since: None,
                    ..watch
                };
                self.note(row, watch, said).await
            }
            Err(PostError::Gone) => {
                self.store.remove_unchanged(&recipient).await?;
                Ok(Visit::Gone)
            }
            Err(error) => self.not_reached(row, error).await,
        }
    }

    /// API Gateway takes nothing for the connection: it has too much to do, or
    /// the client reads nothing. It is tried again, behind what else is due,
    /// and given up after a while.
    async fn not_reached(&self, row: &Connection, error: PostError) -> Result<Visit, StoreError> {
        let now = self.clock.now();
        let since = row.watch.unreachable_since.unwrap_or(now);
        if since.plus(UNREACHABLE) <= now {
            return self.end(row, End::Silent).await;
        }
        let watch = Watch {
            unreachable_since: Some(since),
            due_at: now.plus(POSTPONED),
            ..row.watch
        };
        self.store.watch(row, &watch).await?;
        Ok(Visit::Failed(error.to_string()))
    }

    /// Writes down what was done, and when the connection is due next.
    async fn note(&self, row: &Connection, watch: Watch, done: Visit) -> Result<Visit, StoreError> {
        let mut next = row.clone();
        next.watch = watch;
        next.watch.due_at = self.schedule.next_due(&next);
        // Otherwise another sweep has noted it, or a frame came meanwhile, and
        // then the row is due as before and the next sweep sees the frame.
        let noted = self.store.watch(row, &next.watch).await?;
        Ok(if noted { done } else { Visit::Kept })
    }

    /// Closes, then removes the row: whoever dies between the two leaves a row
    /// that is still due.
    async fn end(&self, row: &Connection, end: End) -> Result<Visit, StoreError> {
        let closing = match end {
            End::TokenExpired => {
                let why = "the token has expired; connect again with a new one";
                let code = ErrorCode::TokenExpired;
                last_words::close(&self.outbox, &self.clock, &row.id, code, why).await
            }
            // Nobody listens, or nobody needs to be told.
            End::Silent | End::Replaced | End::Outlived => match self.outbox.close(&row.id).await {
                Ok(()) => Closing::Closed,
                Err(error) => Closing::Failed(error),
            },
        };
        if let Closing::Failed(error) = closing {
            return Ok(Visit::Failed(format!("it could not be closed: {error}")));
        }
        self.store.remove_unchanged(&Recipient::from(row)).await?;
        tracing::info!(connectionId = %row.id, reason = ?end, "connection ended");
        Ok(Visit::Ended(end))
    }

    /// Closes a user's connections and refuses every token that was made until
    /// now. Doing it again closes what was left, and what came since.
    ///
    /// # Errors
    /// [`StoreError`] if the tokens could not be made void; then nothing was
    /// closed.
    pub async fn sign_out(&self, user: &UserId) -> Result<SignOutReport, StoreError> {
        let ids = self.store.sign_out(user, self.clock.now()).await?;
        let mut endings = stream::iter(&ids)
            .map(async |id| (id, self.end_signed_out(id).await))
            .buffer_unordered(VISITS_AT_A_TIME);
        let mut report = SignOutReport::default();
        while let Some((id, ended)) = endings.next().await {
            match ended {
                Ok(()) => report.closed += 1,
                Err(reason) => {
                    report.failed += 1;
                    tracing::warn!(connectionId = %id, reason, "a connection of a user who was signed out is still there");
                }
            }
        }
        Ok(report)
    }

    /// The row's session first: from then on nobody serves it or sends to it,
    /// even if the connection cannot be closed now.
    async fn end_signed_out(&self, id: &ConnectionId) -> Result<(), String> {
        let failed = |error: StoreError| error.to_string();
        let row = self.store.read(id).await.map_err(failed)?;
        if let Some(row) = &row {
            let ended = self.store.end_session(row, self.clock.now()).await;
            ended.map_err(failed)?;
        }
        let why = "signed out; sign in again";
        let code = ErrorCode::Unauthorized;
        let closing = last_words::close(&self.outbox, &self.clock, id, code, why).await;
        if let Closing::Failed(error) = closing {
            return Err(error.to_string());
        }
        match &row {
            Some(row) => {
                let removed = self.store.remove_unchanged(&Recipient::from(row)).await;
                removed.map_err(failed)
            }
            None => Ok(()),
        }
    }
}

fn count(report: &mut SweepReport, visit: Visit) {
    let counter = match visit {
        Visit::Kept => &mut report.kept,
        Visit::Pinged => &mut report.pinged,
        Visit::ToldToReconnect => &mut report.told_to_reconnect,
        Visit::Ended(End::TokenExpired) => &mut report.expired,
        Visit::Ended(End::Silent) => &mut report.silent,
        Visit::Ended(End::Replaced) => &mut report.replaced,
        Visit::Ended(End::Outlived) => &mut report.outlived,
        Visit::Gone => &mut report.gone,
        Visit::Failed(_) => &mut report.failed,
    };
    *counter += 1;
}
