//! One message to one connection.

use std::time::Duration;

use crate::connection::{Recipient, confirm_after};
use crate::ports::{Clock, ConnectionStore, Metrics, Outbox, PostError};
use crate::time::UnixMillis;

use super::Broadcaster;
use super::sample::Sample;

/// How often a throttled post is tried in all.
const THROTTLED_TRIES: u32 = 6;

/// The longest wait before the first retry of a throttled post; it doubles
/// with each try.
const BACKOFF: Duration = Duration::from_millis(100);

/// How posts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// How many posts are under way at a time, at least one.
    pub concurrency: usize,
    /// How long a post may take.
    pub post_timeout: Duration,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    Accepted,
    /// The connection is not there, and neither is its row.
    Gone,
    /// The connection is not there, and its row still is; why.
    GoneRowKept(String),
    Throttled,
    TooLarge,
    /// It may have arrived; why that is not known.
    Failed(String),
    NotAttempted,
}

impl<S: ConnectionStore, O: Outbox, C: Clock, M: Metrics> Broadcaster<S, O, C, M> {
    /// Posts until the outcome is certain or time is up.
    ///
    /// A post that may have arrived (timeout, unknown failure) is never
    /// repeated; one that certainly did not (throttled, a 410 on a young row)
    /// is. Only a 410 that is believed removes the row, and only the row that
    /// was read: a connection that came back under the same id keeps its own.
    pub(super) async fn deliver(
        &self,
        recipient: &Recipient,
        frame: &str,
        deadline: UnixMillis,
        times: &Sample,
    ) -> Delivery {
        let mut so_far = Delivery::NotAttempted;
        let mut throttled = 0;
        let mut confirming = false;
        loop {
            let now = self.clock.now();
            let left = deadline.since(now);
            if left.is_zero() {
                return so_far;
            }
            // A broadcast to many takes a while, and sessions end meanwhile.
            if recipient.token_expires_at.has_passed(now) {
                return Delivery::Gone;
            }
            let timeout = left.min(self.delivery.post_timeout);
            let posted = self.outbox.post(&recipient.id, frame, timeout).await;
            times.add(self.clock.now().since(now));
            let wait = match posted {
                Ok(()) => return Delivery::Accepted,
                Err(PostError::TooLarge) => return Delivery::TooLarge,
                Err(error @ PostError::TimedOut) => return Delivery::Failed(error.to_string()),
                Err(PostError::Failed(cause)) => return Delivery::Failed(cause),
                Err(PostError::Gone) if !confirming && recipient.is_young(self.clock.now()) => {
                    so_far = Delivery::GoneRowKept("no time to ask again".into());
                    confirming = true;
                    confirm_after()
                }
                Err(PostError::Gone) => return self.forget(recipient, deadline).await,
                Err(PostError::Throttled) => {
                    so_far = Delivery::Throttled;
                    throttled += 1;
                    if throttled == THROTTLED_TRIES {
                        return so_far;
                    }
                    jittered(BACKOFF * 2u32.pow(throttled - 1))
                }
            };
            let left = deadline.since(self.clock.now());
            self.clock.sleep(wait.min(left)).await;
        }
    }

    /// Removes the row of a connection that is gone. Where that fails or takes
    /// too long the row expires by itself, and the next broadcast tries again:
    /// the report must not come late for it.
    async fn forget(&self, recipient: &Recipient, deadline: UnixMillis) -> Delivery {
        match self
            .before(deadline, self.store.remove_unchanged(recipient))
            .await
        {
            Some(Ok(())) => Delivery::Gone,
            Some(Err(error)) => Delivery::GoneRowKept(error.to_string()),
            None => Delivery::GoneRowKept("time ran out".into()),
        }
    }
}

/// Anything from nothing to the whole wait ("full jitter"), so that many
/// senders that were refused together do not come back together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(fastrand::f64())
}
