use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use belfry_protocol::{ConnectionId, UserId};

use crate::connection::{Connection, Recipient};
use crate::ports::{ConnectionStore, Cursor, Inserted, Page, Segment, StoreError};
use crate::time::{UnixMillis, UnixSeconds};

/// How many rows a page of the fake has: few, so that tests turn pages.
const PAGE: usize = 2;

type Change = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection store in memory.
#[derive(Default)]
pub struct FakeStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<ConnectionId, Connection>,
    failing: bool,
    removals_hang: bool,
    before_removal: BTreeMap<ConnectionId, Change>,
}

impl FakeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the store")
    }

    fn working(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        if state.failing {
            return Err(StoreError {
                operation,
                cause: "told to fail".into(),
            });
        }
        Ok(state)
    }

    /// The row, whether or not it is live.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<Connection> {
        self.state().rows.get(&super::connection_id(id)).cloned()
    }

    /// Whether there is no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().rows.is_empty()
    }

    /// Makes every later call fail.
    pub fn fail_from_now_on(&self) {
        self.state().failing = true;
    }

    /// Makes every later conditional removal take for ever.
    pub fn hang_on_removal(&self) {
        self.state().removals_hang = true;
    }

    /// Changes the row just before the next conditional removal looks at it.
    pub fn before_removal(&self, id: &str, change: impl FnOnce(&mut Connection) + Send + 'static) {
        self.state()
            .before_removal
            .insert(super::connection_id(id), Box::new(change));
    }
}

fn live(row: &&Connection, now: UnixMillis) -> bool {
    !row.expires_at.has_passed(now)
}

impl ConnectionStore for FakeStore {
    async fn insert(&self, connection: &Connection) -> Result<Inserted, StoreError> {
        let mut state = self.working("insert")?;
        match state.rows.get(&connection.id) {
            Some(row)
                if row.user_id == connection.user_id
                    && row.connected_at == connection.connected_at =>
            {
                Ok(Inserted::Yes)
            }
            Some(_) => Ok(Inserted::Taken),
            None => {
                state.rows.insert(connection.id.clone(), connection.clone());
                Ok(Inserted::Yes)
            }
        }
    }

    async fn touch(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<Option<Connection>, StoreError> {
        let mut state = self.working("touch")?;
        let Some(row) = state
            .rows
            .get_mut(id)
            .filter(|row| !row.expires_at.has_passed(now))
        else {
            return Ok(None);
        };
        row.last_seen_at = now;
        Ok(Some(row.clone()))
    }

    async fn extend_token(
        &self,
        seen: &Connection,
        expires_at: UnixSeconds,
        now: UnixMillis,
    ) -> Result<Option<UnixSeconds>, StoreError> {
        let mut state = self.working("extend_token")?;
        let row = state.rows.get_mut(&seen.id).filter(|row| {
            row.connected_at == seen.connected_at
                && !row.expires_at.has_passed(now)
                && !row.token_expires_at.has_passed(now)
        });
        Ok(row.map(|row| {
            row.token_expires_at = row.token_expires_at.max(expires_at);
            row.token_expires_at
        }))
    }

    async fn remove(&self, id: &ConnectionId) -> Result<(), StoreError> {
        self.working("remove")?.rows.remove(id);
        Ok(())
    }

    async fn remove_unchanged(&self, seen: &Recipient) -> Result<(), StoreError> {
        if self.state().removals_hang {
            std::future::pending::<()>().await;
        }
        let mut state = self.working("remove_unchanged")?;
        if let Some(change) = state.before_removal.remove(&seen.id)
            && let Some(row) = state.rows.get_mut(&seen.id)
        {
            change(row);
        }
        if state
            .rows
            .get(&seen.id)
            .is_some_and(|row| row.connected_at == seen.connected_at)
        {
            state.rows.remove(&seen.id);
        }
        Ok(())
    }

    async fn of_user(&self, user: &UserId, now: UnixMillis) -> Result<Vec<Recipient>, StoreError> {
        let state = self.working("of_user")?;
        let rows = state
            .rows
            .values()
            .filter(|row| row.user_id == *user && live(row, now));
        Ok(rows.map(Recipient::from).collect())
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        let state = self.working("of_ids")?;
        let rows = ids
            .iter()
            .filter_map(|id| state.rows.get(id))
            .filter(|row| live(row, now));
        Ok(rows.map(Recipient::from).collect())
    }

    async fn scan(
        &self,
        segment: Segment,
        from: Option<Cursor>,
        now: UnixMillis,
    ) -> Result<Page, StoreError> {
        let state = self.working("scan")?;
        let in_segment = |id: &ConnectionId| {
            let sum: u32 = id.as_str().bytes().map(u32::from).sum();
            sum % segment.total == segment.index
        };
        let mut rest = state
            .rows
            .values()
            .filter(|row| in_segment(&row.id))
            .filter(|row| from.as_ref().is_none_or(|Cursor(last)| row.id > *last));
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let next = match (page.last(), rest.next()) {
            (Some(last), Some(_)) => Some(Cursor(last.id.clone())),
            _ => None,
        };
        let recipients = page
            .into_iter()
            .filter(|row| live(row, now))
            .map(Recipient::from)
            .collect();
        Ok(Page { recipients, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        super::super::store_contract(async || FakeStore::default()).await;
    }
}
