use std::time::Duration;

use belfry_protocol::Position;

use super::append::{HEAD_LIFETIME, PATIENCE, back_off};
use super::{AppendError, AppendId, LogKey, epoch};
use crate::ports::{Advanced, Clock, LogAppends, LogReads, Memory, Randomness};

/// How long a purge is remembered. Lambda repeats an invocation for six hours at
/// most.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Begins new histories.
#[derive(Debug)]
pub struct Purger<'a, S, C, R> {
    pub store: &'a S,
    pub clock: &'a C,
    pub random: &'a R,
}

impl<S, C, R> Purger<'_, S, C, R>
where
    S: LogAppends + LogReads,
    C: Clock,
    R: Randomness,
{
    /// Makes every message of the log unreadable. Returns where the new history
    /// begins, or `None` if there is none. A log to which nothing was appended
    /// since it was purged stays as it is.
    ///
    /// Invariant: a request moves the head once, and its repetition returns the
    /// same position, so it deletes no message that was appended since. The store
    /// remembers the request in the write that moves the head.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Store`] the log may be purged.
    pub async fn purge(
        &self,
        log: &LogKey,
        request_id: &str,
    ) -> Result<Option<Position>, AppendError> {
        let begun = self.clock.now();
        let id = AppendId(format!("purge#{request_id}"));
        let epoch = epoch::new(begun, self.random);
        let mut retries = 0;
        let mut head = self.store.head(log).await?;
        loop {
            let Some(old) = head else { return Ok(None) };
            if old.is_purged() {
                return Ok(Some(old.position()));
            }
            let (from, new) = (old.position(), old.purged(epoch.clone()));
            // A position of an empty log may be older than the log, and is valid
            // for nearly as long as this head is kept.
            let now = self.clock.now();
            let end = now.plus(HEAD_LIFETIME).to_seconds();
            let memory = Memory {
                id: &id,
                until: now.plus(REMEMBERED).to_seconds(),
                forgotten: Memory::forgotten(now),
            };
            let advanced = self
                .store
                .advance(log, Some(&from), &new, end, Some(memory));
            head = match advanced.await? {
                Advanced::Yes => return Ok(Some(new.position())),
                Advanced::Before(position) => return Ok(Some(position)),
                Advanced::Moved(head) => head,
            };
            if self.clock.now().since(begun) >= PATIENCE {
                return Err(AppendError::Busy);
            }
            back_off(self.clock, self.random, retries).await;
            retries += 1;
        }
    }
}
