use belfry_protocol::Position;

use super::append::{HEAD_LIFETIME, PATIENCE, back_off};
use super::{AppendError, LogKey, epoch};
use crate::ports::{Advanced, Clock, LogAppends, LogReads, Randomness};

/// A log after a purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Where the new history begins, or where it is now.
    pub position: Position,
    /// Whether messages were appended to it already.
    pub is_followed: bool,
}

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
    /// Invariant: a request purges once. Its name is in the epoch that it begins,
    /// so an attempt whose answer got lost is known, and a request that is
    /// repeated, perhaps by another process, takes no newer messages. Only if
    /// another purge came between does it purge again.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Store`] the log may be purged.
    pub async fn purge(&self, log: &LogKey, request: &str) -> Result<Option<Purged>, AppendError> {
        let begun = self.clock.now();
        let epoch = epoch::of_request(begun, request);
        let mut retries = 0;
        let mut head = self.store.head(log).await?;
        loop {
            let Some(old) = head else { return Ok(None) };
            if old.is_purged() || epoch::is_of_request(&old.epoch, request) {
                return Ok(Some(Purged {
                    position: old.position(),
                    is_followed: !old.is_purged(),
                }));
            }
            let (from, new) = (old.position(), old.purged(epoch.clone()));
            // A position of an empty log may be older than the log, and is valid
            // for nearly as long as this head is kept.
            let end = self.clock.now().plus(HEAD_LIFETIME).to_seconds();
            let advanced = self.store.advance(log, Some(&from), &new, end, None);
            head = match advanced.await? {
                Advanced::Yes => {
                    return Ok(Some(Purged {
                        position: new.position(),
                        is_followed: false,
                    }));
                }
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
