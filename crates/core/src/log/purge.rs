use belfry_protocol::Position;

use super::append::{HEAD_LIFETIME, PATIENCE, back_off};
use super::{AppendError, LogKey, epoch};
use crate::ports::{Advanced, Clock, LogAppends, LogReads, Randomness};

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
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Store`] the log may be purged.
    pub async fn purge(&self, log: &LogKey) -> Result<Option<Position>, AppendError> {
        let begun = self.clock.now();
        // The same at each attempt, so that one whose answer got lost is known.
        let epoch = epoch::new(begun, self.random);
        let mut attempted = None;
        let mut retries = 0;
        let mut head = self.store.head(log).await?;
        loop {
            let Some(old) = head else { return Ok(None) };
            if old.epoch == epoch {
                return Ok(attempted);
            }
            if old.is_purged() {
                return Ok(Some(old.position()));
            }
            let (from, new) = (old.position(), old.purged(epoch.clone()));
            // A position of an empty log may be older than the log, and is valid
            // for nearly as long as this head is kept.
            let end = self.clock.now().plus(HEAD_LIFETIME).to_seconds();
            attempted = Some(new.position());
            let advanced = self.store.advance(log, Some(&from), &new, end, None);
            head = match advanced.await? {
                Advanced::Yes => return Ok(attempted),
                Advanced::Moved(head) => head,
                // Only of messages that are remembered.
                Advanced::Before(_) => self.store.head(log).await?,
            };
            if self.clock.now().since(begun) >= PATIENCE {
                return Err(AppendError::Busy);
            }
            back_off(self.clock, self.random, retries).await;
            retries += 1;
        }
    }
}
