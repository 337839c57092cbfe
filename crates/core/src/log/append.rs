use std::time::Duration;

use belfry_protocol::Position;

use super::{AppendId, Entry, Head, LogKey, epoch};
use crate::ports::{
    Advanced, Clock, LogAppends, LogReads, MetricEvent, Metrics, Randomness, StoreError,
};
use crate::time::{UnixMillis, UnixSeconds};

/// How long an append is retried while others append to the same log.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest wait before the first retry. It doubles with each retry, up to
/// [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(10);

const MAX_BACKOFF: Duration = Duration::from_millis(200);

/// How long a head is kept after the last message. Within this time a log
/// knows that nothing was published, even if all its messages have expired.
pub(super) const HEAD_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A message to append.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a, F> {
    pub id: &'a AppendId,
    pub retention: Duration,
    /// Set if the message may come again, in another invocation: until when it
    /// is remembered.
    pub remember_until: Option<UnixSeconds>,
    /// Makes the frame of the message at a position.
    pub frame: F,
}

/// A message that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub position: Position,
    pub frame: String,
    /// When the message expires, unless its entry is certainly stored, or
    /// another invocation appended it. Invariant: one who did not append a
    /// message never stores it from its own data: its clock is another one.
    unstored: Option<(AppendId, UnixSeconds)>,
}

impl Appended {
    fn new(head: Head) -> Self {
        Self {
            position: head.position(),
            frame: head.newest.frame,
            unstored: Some((head.newest.append_id, head.newest.expires_at)),
        }
    }
}

/// Why a message was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Others appended to the log all the time. The message is not published.
    #[error("too many messages are published to this channel at the same time")]
    Busy,
    /// The message may have been published.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Appends messages to logs.
#[derive(Debug)]
pub struct Appender<'a, S, C, R, M> {
    pub store: &'a S,
    pub clock: &'a C,
    pub random: &'a R,
    pub metrics: &'a M,
}

impl<S, C, R, M> Appender<'_, S, C, R, M>
where
    S: LogAppends + LogReads,
    C: Clock,
    R: Randomness,
    M: Metrics,
{
    /// Publishes a message: gives it the next number and makes it the newest.
    ///
    /// [`Self::store`] then stores its entry. If that never happens, the next
    /// append does it.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append<F: Fn(&Position) -> String>(
        &self,
        log: &LogKey,
        message: &Message<'_, F>,
    ) -> Result<Appended, AppendError> {
        let begun = self.clock.now();
        let mut retries = 0;
        loop {
            let now = self.clock.now();
            let tail = self.store.tail(log).await?;
            let head = tail.as_ref().map(|tail| &tail.head);
            if let Some(own) = head.and_then(|head| own(head, message.id)) {
                return Ok(own);
            }
            // Before the head moves, or its entry would be lost with it.
            if let Some(tail) = &tail
                && !tail.is_stored
                && !tail.head.newest.expires_at.has_passed(now)
            {
                let (epoch, newest) = (&tail.head.epoch, &tail.head.newest);
                self.store.store(log, epoch, newest).await?;
            }
            let from = head.map(Head::position);
            let to = self.next(from.as_ref(), message, now);
            let end = head_expires_at(now, message.retention);
            let advanced = self
                .store
                .advance(log, from.as_ref(), &to, end, message.remember_until);
            match advanced.await? {
                Advanced::Yes => {
                    self.count_appended(retries);
                    return Ok(Appended::new(to));
                }
                Advanced::Before(position) => {
                    let head = self.store.head(log).await?;
                    let own = self.find_own(log, &position, message.id, head).await?;
                    // If the log has it no more, nobody can tell the difference.
                    return Ok(own.unwrap_or_else(|| Appended {
                        frame: (message.frame)(&position),
                        position,
                        unstored: None,
                    }));
                }
                Advanced::Moved(head) => {
                    let attempted = to.position();
                    let own = self.find_own(log, &attempted, message.id, head).await?;
                    if let Some(own) = own {
                        self.count_appended(retries);
                        return Ok(own);
                    }
                }
            }
            if self.clock.now().since(begun) >= PATIENCE {
                let conflicts = u64::from(retries) + 1;
                self.metrics
                    .record(MetricEvent::AppendRefused { conflicts });
                return Err(AppendError::Busy);
            }
            self.back_off(retries).await;
            retries += 1;
        }
    }

    /// Stores the entry of a message that was appended.
    ///
    /// # Errors
    /// [`StoreError`]. The message is published all the same.
    pub async fn store(&self, log: &LogKey, appended: &Appended) -> Result<(), StoreError> {
        let Some((id, expires_at)) = &appended.unstored else {
            return Ok(());
        };
        let entry = Entry {
            seq: appended.position.seq,
            append_id: id.clone(),
            expires_at: *expires_at,
            frame: appended.frame.clone(),
        };
        let epoch = &appended.position.epoch;
        self.store.store(log, epoch, &entry).await
    }

    /// Each retry follows a conflict.
    fn count_appended(&self, retries: u32) {
        let conflicts = retries.into();
        self.metrics
            .record(MetricEvent::MessageAppended { conflicts });
    }

    /// The head after the message was appended.
    fn next<F: Fn(&Position) -> String>(
        &self,
        from: Option<&Position>,
        message: &Message<'_, F>,
        now: UnixMillis,
    ) -> Head {
        let position = match from {
            Some(from) => Position {
                epoch: from.epoch.clone(),
                seq: from.seq + 1,
            },
            None => Position {
                epoch: epoch::new(now, self.random),
                seq: 1,
            },
        };
        Head {
            newest: Entry {
                seq: position.seq,
                append_id: message.id.clone(),
                expires_at: now.plus(message.retention).to_seconds(),
                frame: (message.frame)(&position),
            },
            epoch: position.epoch,
        }
    }

    /// The message as it was published, where an earlier attempt put it. The
    /// answer to that attempt may have been lost, and the call repeated below
    /// this function or by the client, perhaps with other content. Others may
    /// have moved the head on since; before that, they stored the entry, unless
    /// it had expired. So this rests on a retention that is much longer than an
    /// attempt takes and than clocks differ: a minute at least.
    async fn find_own(
        &self,
        log: &LogKey,
        attempted: &Position,
        id: &AppendId,
        head: Option<Head>,
    ) -> Result<Option<Appended>, StoreError> {
        let Some(head) = head.filter(|head| head.epoch == attempted.epoch) else {
            return Ok(None);
        };
        let seq = attempted.seq;
        if head.newest.seq <= seq {
            return Ok(own(&head, id));
        }
        let entries = self.store.entries(log, &head.epoch, seq..=seq).await?;
        let own = entries.into_iter().find(|entry| entry.append_id == *id);
        Ok(own.map(|entry| Appended {
            position: attempted.clone(),
            frame: entry.frame,
            unstored: None,
        }))
    }

    /// Waits with full jitter, so that publishers that met do not meet again.
    async fn back_off(&self, retries: u32) {
        let longest = BACKOFF
            .saturating_mul(2_u32.saturating_pow(retries))
            .min(MAX_BACKOFF);
        let wait = self.random.between(Duration::ZERO, longest);
        self.clock.sleep(wait).await;
    }
}

/// The head's message, if it is this one.
fn own(head: &Head, id: &AppendId) -> Option<Appended> {
    (head.newest.append_id == *id).then(|| Appended::new(head.clone()))
}

fn head_expires_at(now: UnixMillis, retention: Duration) -> UnixSeconds {
    now.plus(HEAD_LIFETIME.max(retention * 2)).to_seconds()
}
