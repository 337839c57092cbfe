use std::time::Duration;

use belfry_protocol::{Bare, ConnectionId, Envelope, Reconnect, ServerFrame, Version};

use super::deadlines::{Action, EndReason};
use super::{Liveness, LivenessSettings};
use crate::connections::{
    Closed, Connection, Recipient, SIGNED_OUT, TOKEN_EXPIRED, close_with_reason, confirm_after,
};
use crate::ports::{
    Clock, ConnectionLookup, DueConnections, Outbox, PostError, Randomness, Removals, StoreError,
};

/// How long a connection may be unreachable before it is given up.
const UNREACHABLE: Duration = Duration::from_secs(5 * 60);

/// When an unreachable connection is checked again: by the next sweep, if
/// there is one each minute.
const RECHECK: Duration = Duration::from_secs(55);

const POST_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks one connection that was listed as due.
pub(super) struct Check<'a, S, O, C, R> {
    pub(super) store: &'a S,
    pub(super) outbox: &'a O,
    pub(super) clock: &'a C,
    pub(super) random: &'a R,
    pub(super) settings: &'a LivenessSettings,
}

/// Result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    /// Nothing was due, or another sweep did it.
    Kept,
    Pinged,
    AskedToReconnect,
    Ended(EndReason),
    /// API Gateway does not know the connection.
    Gone,
    /// The check failed for this reason; the next sweep retries.
    Failed(String),
}

impl<S, O, C, R> Check<'_, S, O, C, R>
where
    S: DueConnections + ConnectionLookup + Removals,
    O: Outbox,
    C: Clock,
    R: Randomness,
{
    pub(super) async fn run(&self, id: &ConnectionId) -> Result<Checked, StoreError> {
        let Some(row) = self.store.find(id).await? else {
            return Ok(Checked::Kept);
        };
        let now = self.clock.now();
        // The listing lags: another sweep may have checked the row already.
        if row.liveness.due_at > now {
            return Ok(Checked::Kept);
        }
        let timestamp = Some(now.to_timestamp());
        // `Admissions::admit` makes a row due early if nobody may be behind it.
        let in_doubt = || row.is_unproven().then_some(Action::Ping);
        match self.settings.due_action(&row, now).or_else(in_doubt) {
            None => self.record(&row, row.liveness, Checked::Kept).await,
            Some(Action::End(reason)) => self.end(&row, reason).await,
            Some(Action::Ping) => {
                let ping = ServerFrame::Ping(Bare {
                    timestamp,
                    ..Bare::default()
                });
                let next = Liveness {
                    pinged_at: Some(now),
                    ..row.liveness
                };
                self.post(&row, &ping, next, Checked::Pinged).await
            }
            Some(Action::AskToReconnect) => {
                let reconnect = ServerFrame::Reconnect(Envelope {
                    version: Version,
                    id: None,
                    timestamp,
                    data: Reconnect {
                        deadline: self.settings.ends_at(&row).to_timestamp(),
                        within_ms: None,
                    },
                    correlation_id: None,
                });
                let next = Liveness {
                    reconnect_sent: true,
                    ..row.liveness
                };
                let done = Checked::AskedToReconnect;
                self.post(&row, &reconnect, next, done).await
            }
        }
    }

    /// Posts a frame and, if it was accepted, records that.
    async fn post(
        &self,
        row: &Connection,
        frame: &ServerFrame,
        next: Liveness,
        done: Checked,
    ) -> Result<Checked, StoreError> {
        let (recipient, frame) = (Recipient::from(row), frame.to_json());
        let mut begun = self.clock.now();
        let mut posted = self.outbox.post(&row.id, &frame, POST_TIMEOUT).await;
        if posted == Err(PostError::Gone) && recipient.may_be_pending(begun) {
            self.clock.sleep(confirm_after(self.random)).await;
            begun = self.clock.now();
            posted = self.outbox.post(&row.id, &frame, POST_TIMEOUT).await;
        }
        match posted {
            Ok(()) => {
                let reached = Liveness {
                    unreachable_since: None,
                    ..next
                };
                self.record(row, reached, done).await
            }
            // The row stays due, and the next sweep checks it again.
            Err(PostError::Gone) if recipient.may_be_pending(begun) => Ok(Checked::Kept),
            Err(PostError::Gone) => {
                let now = self.clock.now();
                self.store.remove_unchanged(&recipient, now).await?;
                Ok(Checked::Gone)
            }
            Err(error) => self.unreachable(row, error).await,
        }
    }

    /// API Gateway accepts no message for the connection: the account is
    /// throttled, or the client does not read. Later sweeps retry, after
    /// everything else that is due, and give up after a while.
    async fn unreachable(&self, row: &Connection, error: PostError) -> Result<Checked, StoreError> {
        let now = self.clock.now();
        let since = row.liveness.unreachable_since.unwrap_or(now);
        if since.plus(UNREACHABLE) <= now {
            return self.end(row, EndReason::Silent).await;
        }
        let next = Liveness {
            unreachable_since: Some(since),
            due_at: now.plus(RECHECK),
            ..row.liveness
        };
        self.store.record_liveness(row, &next).await?;
        Ok(Checked::Failed(error.to_string()))
    }

    /// Records what was done and when the connection is due next.
    async fn record(
        &self,
        row: &Connection,
        liveness: Liveness,
        done: Checked,
    ) -> Result<Checked, StoreError> {
        let mut next = Connection {
            liveness,
            ..row.clone()
        };
        next.liveness.due_at = self.settings.next_due(&next);
        // If this is refused, another sweep was faster, or a frame came in
        // between: then the row is still due and the next sweep sees the frame.
        let recorded = self.store.record_liveness(row, &next.liveness).await?;
        Ok(if recorded { done } else { Checked::Kept })
    }

    /// Closes the connection, then removes its row: if the sweep dies between
    /// the two, the row is still due.
    async fn end(&self, row: &Connection, reason: EndReason) -> Result<Checked, StoreError> {
        let begun = self.clock.now();
        let closed = match reason {
            EndReason::TokenExpired => {
                let why = if row.is_signed_out() {
                    SIGNED_OUT
                } else {
                    TOKEN_EXPIRED
                };
                close_with_reason(self.outbox, self.clock, &row.id, why).await
            }
            // Nobody listens, or nobody needs to be told.
            EndReason::Silent | EndReason::Replaced | EndReason::Outlived => {
                match self.outbox.close(&row.id).await {
                    Ok(()) => Closed::Yes,
                    Err(error) => Closed::Failed(error),
                }
            }
        };
        if let Closed::Failed(error) = closed {
            return Ok(Checked::Failed(format!("could not be closed: {error}")));
        }
        let recipient = Recipient::from(row);
        if !closed.is_final(&recipient, begun) {
            return Ok(Checked::Kept);
        }
        let now = self.clock.now();
        self.store.remove_unchanged(&recipient, now).await?;
        tracing::info!(event = "connection.swept", connectionId = %row.id, reason = ?reason, "a sweep ended a connection");
        Ok(Checked::Ended(reason))
    }
}
