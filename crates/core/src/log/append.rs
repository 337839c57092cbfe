use std::time::Duration;

use belfry_protocol::Position;
use futures_util::future::try_join_all;

use super::{AppendId, Entry, Head, LogKey, epoch};
use crate::ports::{
    Advanced, Clock, LogAppends, LogReads, Memory, MetricEvent, Metrics, Randomness, StoreError,
};
use crate::time::{UnixMillis, UnixSeconds};

/// How long an append is retried while others append to the same log.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The longest wait before the first retry. It doubles with each retry, up to
/// [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(10);

const MAX_BACKOFF: Duration = Duration::from_millis(200);

/// How long a head is kept after the last message. Within this time a log
/// knows that nothing was published, even if all its messages have expired.
pub(super) const HEAD_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Certainly shorter than any message is remembered. No more than the shortest
/// retention.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A message to append, or several that are appended together.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a, F> {
    pub id: &'a AppendId,
    pub retention: Duration,
    /// Set if the message may come again, in another invocation: until when it
    /// is remembered.
    pub remember_until: Option<UnixSeconds>,
    /// Makes the frames of the messages, at least one. The first one has this
    /// position, and the others those after it.
    pub frames: F,
}

/// Messages that are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// That of the newest one.
    pub position: Position,
    /// In the order of their positions.
    pub frames: Vec<String>,
    /// The head that was published, unless its entries are certainly stored, or
    /// another invocation appended them. Invariant: one who did not append a
    /// message never stores it from its own data: its clock is another one.
    unstored: Option<Head>,
}

impl Appended {
    fn new(head: Head) -> Self {
        Self {
            position: head.position(),
            frames: head.entries().map(|entry| entry.frame).collect(),
            unstored: Some(head),
        }
    }

    pub(crate) fn newest_frame(&self) -> &str {
        self.frames.last().map_or("", String::as_str)
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
    /// Publishes a message: gives it the next number and makes it the newest. Of
    /// several messages all are published at once, or none.
    ///
    /// [`Self::store`] then stores the entries. If that never happens, the next
    /// append does it.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append<F: Fn(&Position) -> Vec<String>>(
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
            let own = head
                .filter(|head| !may_be_forgotten(head, message, now))
                .and_then(|head| own(head, message));
            if let Some(own) = own {
                return Ok(own);
            }
            // Before the head moves, or its entry would be lost with it.
            if let Some(tail) = &tail
                && !tail.is_stored
                && !tail.head.newest.expires_at.has_passed(now)
            {
                self.store_entries(log, &tail.head).await?;
            }
            let from = head.map(Head::position);
            let to = self.next(from.as_ref(), message, now);
            let end = head_expires_at(now, message.retention);
            let memory = message.remember_until.map(|until| Memory {
                id: message.id,
                until,
                forgotten: Memory::forgotten(now),
            });
            let advanced = self.store.advance(log, from.as_ref(), &to, end, memory);
            match advanced.await? {
                Advanced::Yes => {
                    self.count_appended(&to, retries);
                    return Ok(Appended::new(to));
                }
                Advanced::Before(position) => {
                    let head = self.store.head(log).await?;
                    let count = to.frames_before.len() as u64;
                    let own = self.find_own(log, &position, count, message, head);
                    // If the log has it no more, nobody can tell the difference.
                    let own = own.await?;
                    return Ok(own.unwrap_or_else(|| made_again(&position, message)));
                }
                Advanced::Moved(head) => {
                    let count = to.frames_before.len() as u64;
                    let attempted = to.position();
                    let own = self.find_own(log, &attempted, count, message, head);
                    if let Some(own) = own.await? {
                        self.count_appended(&to, retries);
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
            back_off(self.clock, self.random, retries).await;
            retries += 1;
        }
    }

    /// Stores the entries of messages that were appended.
    ///
    /// # Errors
    /// [`StoreError`]. The messages are published all the same.
    pub async fn store(&self, log: &LogKey, appended: &Appended) -> Result<(), StoreError> {
        match &appended.unstored {
            Some(head) => self.store_entries(log, head).await,
            None => Ok(()),
        }
    }

    /// Stores the entries that a head holds, the newest one last: see the
    /// invariants of the log.
    async fn store_entries(&self, log: &LogKey, head: &Head) -> Result<(), StoreError> {
        if !head.frames_before.is_empty() {
            let before: Vec<_> = head.entries().take(head.frames_before.len()).collect();
            let stored = before
                .iter()
                .map(|entry| self.store.store(log, &head.epoch, entry));
            try_join_all(stored).await?;
        }
        self.store.store(log, &head.epoch, &head.newest).await
    }

    /// Each retry follows a conflict.
    fn count_appended(&self, head: &Head, retries: u32) {
        self.metrics.record(MetricEvent::MessagesAppended {
            messages: head.frames_before.len() as u64 + 1,
            conflicts: retries.into(),
        });
    }

    /// The head after the message was appended.
    fn next<F: Fn(&Position) -> Vec<String>>(
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
        let mut frames = (message.frames)(&position);
        let newest = frames.pop().expect("a message has a frame");
        Head {
            newest: Entry {
                seq: position.seq + frames.len() as u64,
                append_id: message.id.clone(),
                expires_at: now.plus(message.retention).to_seconds(),
                frame: newest,
            },
            frames_before: frames,
            epoch: position.epoch,
        }
    }

    /// The message as it was published, where an earlier attempt put it. Of
    /// several messages, `attempted` is the newest one's position, and `count`
    /// come before it. The answer to that attempt may have been lost, and the
    /// call repeated below this function or by the client, perhaps with other
    /// content. Others may have moved the head on since; before that, they stored
    /// the entries, unless they had expired. So this rests on a retention that is
    /// much longer than an attempt takes and than clocks differ: a minute at
    /// least.
    async fn find_own<F: Fn(&Position) -> Vec<String>>(
        &self,
        log: &LogKey,
        attempted: &Position,
        count: u64,
        message: &Message<'_, F>,
        head: Option<Head>,
    ) -> Result<Option<Appended>, StoreError> {
        let Some(head) = head else {
            return Ok(None);
        };
        let (epoch, seq) = (&attempted.epoch, attempted.seq);
        if head.epoch == *epoch && head.newest.seq <= seq {
            return Ok(own(&head, message));
        }
        // A purge has deleted it since, if it was appended.
        if head.is_purged() && head.newest.append_id == *message.id {
            return Ok(Some(made_again(attempted, message)));
        }
        let is_own = |entry: &Entry| entry.append_id == *message.id;
        let entries = self.store.entries(log, epoch, seq..=seq).await?;
        let Some(newest) = entries.into_iter().find(is_own) else {
            return Ok(None);
        };
        let mut frames = Vec::new();
        if count > 0 {
            let first = first(attempted, count);
            frames = (message.frames)(&first);
            let mut next = first.seq;
            // Those that the log has no more stay as they are made here.
            while next < seq {
                let page = self.store.entries(log, epoch, next..=seq - 1).await?;
                let Some(last) = page.last() else { break };
                next = last.seq + 1;
                for entry in page.into_iter().filter(is_own) {
                    let index = usize::try_from(entry.seq - first.seq).unwrap_or(usize::MAX);
                    if let Some(frame) = frames.get_mut(index) {
                        *frame = entry.frame;
                    }
                }
            }
            frames.pop();
        }
        frames.push(newest.frame);
        Ok(Some(Appended {
            position: attempted.clone(),
            frames,
            unstored: None,
        }))
    }
}

/// Waits with full jitter, so that publishers that met do not meet again.
pub(super) async fn back_off(clock: &impl Clock, random: &impl Randomness, retries: u32) {
    let longest = BACKOFF
        .saturating_mul(2_u32.saturating_pow(retries))
        .min(MAX_BACKOFF);
    clock.sleep(random.between(Duration::ZERO, longest)).await;
}

/// The position of the first of several messages, if this is that of the newest
/// one and `count` come before it.
fn first(newest: &Position, count: u64) -> Position {
    Position {
        epoch: newest.epoch.clone(),
        seq: newest.seq.saturating_sub(count),
    }
}

/// Whether the head's message is so old that it may be an earlier one whose id was
/// forgotten and is used again. Then the store decides: it remembers the others.
fn may_be_forgotten<F>(head: &Head, message: &Message<'_, F>, now: UnixMillis) -> bool {
    let kept_for = message.retention.saturating_sub(REMEMBERED);
    let appended_long_ago = head.newest.expires_at.to_millis() <= now.plus(kept_for);
    message.remember_until.is_some() && appended_long_ago
}

/// The head's message, if it is this one.
fn own<F: Fn(&Position) -> Vec<String>>(head: &Head, message: &Message<'_, F>) -> Option<Appended> {
    if head.newest.append_id != *message.id {
        None
    } else if head.is_purged() {
        Some(made_again(&head.position(), message))
    } else {
        Some(Appended::new(head.clone()))
    }
}

/// A message that the log has no more. Of several, this is the newest one's
/// position. Nobody can tell the difference.
fn made_again<F: Fn(&Position) -> Vec<String>>(
    newest: &Position,
    message: &Message<'_, F>,
) -> Appended {
    let count = (message.frames)(newest).len() as u64 - 1;
    Appended {
        position: newest.clone(),
        frames: (message.frames)(&first(newest, count)),
        unstored: None,
    }
}

fn head_expires_at(now: UnixMillis, retention: Duration) -> UnixSeconds {
    now.plus(HEAD_LIFETIME.max(retention * 2)).to_seconds()
}
