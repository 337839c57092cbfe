use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use belfry_protocol::{ConnectionId, UserId};

use super::broadcasts::Broadcasts;
use super::{PLACES, START, connection};
use crate::budget::{Bucket, Budget};
use crate::connection::{Connection, Recipient, Watch};
use crate::ports::{
    Admission, ConnectionStore, Cursor, DueCursor, DuePage, Extended, Extension, Inserted,
    NotServed, PARTS, Page, Places, RecipientStore, Segment, StoreError, SweepStore, Touched,
};
use crate::time::{UnixMillis, UnixSeconds};

/// How many rows a page of the fake has: few, so that tests turn pages.
const PAGE: usize = 2;

type Change = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection store in memory.
#[derive(Default)]
pub struct FakeStore {
    state: Mutex<State>,
    broadcasts: Mutex<Broadcasts>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<ConnectionId, Row>,
    ended: HashSet<ConnectionId>,
    signed_out: HashMap<UserId, UnixSeconds>,
    failing: bool,
    fails_next: Option<&'static str>,
    removals_hang: bool,
    before_removal: BTreeMap<ConnectionId, Change>,
}

struct Row {
    connection: Connection,
    full_at: UnixMillis,
    refusals: u32,
}

impl Row {
    fn holds_a_place(&self) -> bool {
        self.connection.watch.replaced_at.is_none()
    }

    /// What a frame finds before its budget is looked at.
    fn standing(&self, now: UnixMillis) -> Option<NotServed> {
        if self.connection.expires_at.has_passed(now) {
            Some(NotServed::Unknown)
        } else if self.connection.token_expires_at.has_passed(now) {
            Some(NotServed::TokenExpired)
        } else {
            None
        }
    }

    /// Takes a frame from the budget, or says that it is over it.
    fn spend(&mut self, budget: &Budget, now: UnixMillis) -> Option<NotServed> {
        self.connection.last_seen_at = now;
        self.connection.watch.pinged_at = None;
        self.connection.watch.unreachable_since = None;
        match budget.look(self.full_at, now) {
            Bucket::Full => {
                self.full_at = now.plus(budget.interval);
                self.refusals = 0;
                None
            }
            Bucket::Enough => {
                self.full_at = self.full_at.plus(budget.interval);
                None
            }
            Bucket::Empty(retry_after) => {
                self.refusals += 1;
                Some(NotServed::OverBudget {
                    retry_after,
                    refusals: self.refusals,
                })
            }
        }
    }
}

impl FakeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the store")
    }

    /// The broadcasts, while the store works.
    pub(super) fn broadcasts(
        &self,
        operation: &'static str,
    ) -> Result<MutexGuard<'_, Broadcasts>, StoreError> {
        drop(self.working(operation)?);
        let broadcasts = self.broadcasts.lock();
        Ok(broadcasts.expect("no test panics while it holds the store"))
    }

    fn working(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        let fails_now = state.fails_next.take_if(|next| *next == operation);
        if state.failing || fails_now.is_some() {
            return Err(StoreError {
                operation,
                cause: "told to fail".into(),
            });
        }
        Ok(state)
    }

    /// Lets a connection in that began at [`START`].
    ///
    /// # Panics
    /// If it is refused.
    pub async fn put(&self, id: &str, user: &str) {
        self.put_row(&connection(id, user)).await;
    }

    /// Lets a connection in.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn put_row(&self, row: &Connection) {
        let admission = Admission {
            connection: row,
            token_issued_at: START.to_seconds(),
            replaces: None,
        };
        let inserted = self.insert(admission, PLACES).await;
        assert_eq!(inserted, Ok(Inserted::Yes));
    }

    /// Removes a row that nobody has disconnected.
    pub fn forget(&self, id: &str) {
        self.state().rows.remove(&super::connection_id(id));
    }

    /// The row, whether or not it is live.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<Connection> {
        let state = self.state();
        let row = state.rows.get(&super::connection_id(id));
        row.map(|row| row.connection.clone())
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

    /// Makes the next call of an operation fail.
    pub fn fail_next(&self, operation: &'static str) {
        self.state().fails_next = Some(operation);
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
    async fn insert(
        &self,
        admission: Admission<'_>,
        places: Places,
    ) -> Result<Inserted, StoreError> {
        let mut state = self.working("insert")?;
        let new = admission.connection;
        if let Some(Row {
            connection: old, ..
        }) = state.rows.get(&new.id)
        {
            let same = old.user_id == new.user_id && old.connected_at == new.connected_at;
            return Ok(if same { Inserted::Yes } else { Inserted::Taken });
        }
        if state.ended.contains(&new.id) {
            return Ok(Inserted::Ended);
        }
        if let Some(mark) = state.signed_out.get(&new.user_id)
            && admission.token_issued_at <= *mark
        {
            return Ok(Inserted::SignedOut);
        }
        let count = |matches: &dyn Fn(&Row) -> bool| {
            state.rows.values().filter(|row| matches(row)).count() as u64
        };
        let total = count(&Row::holds_a_place);
        let of_user = count(&|row| row.connection.user_id == new.user_id);
        let replaced = admission
            .replaces
            .and_then(|id| state.rows.get_mut(id))
            .filter(|row| row.connection.user_id == new.user_id && row.holds_a_place());
        if let Some(row) = replaced {
            if of_user >= 2 * places.per_user {
                return Ok(Inserted::UserFull);
            }
            row.connection.watch.replaced_at = Some(new.connected_at);
        } else if of_user >= places.per_user {
            return Ok(Inserted::UserFull);
        } else if total >= places.total {
            return Ok(Inserted::Full);
        }
        let row = Row {
            connection: new.clone(),
            full_at: new.connected_at,
            refusals: 0,
        };
        state.rows.insert(new.id.clone(), row);
        Ok(Inserted::Yes)
    }

    async fn touch(
        &self,
        id: &ConnectionId,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let mut state = self.working("touch")?;
        let Some(row) = state.rows.get_mut(id) else {
            return Ok(Err(NotServed::Unknown));
        };
        if let Some(standing) = row.standing(now) {
            return Ok(Err(standing));
        }
        let over = row.spend(budget, now);
        Ok(over.map_or_else(|| Ok(row.connection.clone()), Err))
    }

    async fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        budget: &Budget,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        let mut state = self.working("extend")?;
        let Some(row) = state.rows.get_mut(id) else {
            return Ok(Extended::Not(NotServed::Unknown));
        };
        if let Some(standing) = row.standing(now) {
            return Ok(Extended::Not(standing));
        }
        if row.connection.user_id != extension.user_id {
            return Ok(Extended::OtherUser);
        }
        Ok(match row.spend(budget, now) {
            Some(over) => Extended::Not(over),
            None => {
                let end = &mut row.connection.token_expires_at;
                *end = extension.expires_at.max(*end);
                Extended::Until(*end)
            }
        })
    }

    async fn signed_out_at(&self, user: &UserId) -> Result<Option<UnixSeconds>, StoreError> {
        let state = self.working("signed_out_at")?;
        Ok(state.signed_out.get(user).copied())
    }

    async fn disconnect(&self, id: &ConnectionId, _now: UnixMillis) -> Result<(), StoreError> {
        let mut state = self.working("disconnect")?;
        state.rows.remove(id);
        state.ended.insert(id.clone());
        Ok(())
    }
}

impl RecipientStore for FakeStore {
    async fn remove_unchanged(&self, seen: &Recipient) -> Result<(), StoreError> {
        if self.state().removals_hang {
            std::future::pending::<()>().await;
        }
        let mut state = self.working("remove_unchanged")?;
        if let Some(change) = state.before_removal.remove(&seen.id)
            && let Some(row) = state.rows.get_mut(&seen.id)
        {
            change(&mut row.connection);
        }
        if state
            .rows
            .get(&seen.id)
            .is_some_and(|row| row.connection.connected_at == seen.connected_at)
        {
            state.rows.remove(&seen.id);
        }
        Ok(())
    }

    async fn of_user(&self, user: &UserId, now: UnixMillis) -> Result<Vec<Recipient>, StoreError> {
        let state = self.working("of_user")?;
        let rows = state.rows.values().map(|row| &row.connection);
        let rows = rows.filter(|row| row.user_id == *user && live(row, now));
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
            .map(|row| &row.connection)
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
        let mut rest = state
            .rows
            .values()
            .map(|row| &row.connection)
            .filter(|row| part_of(&row.id, segment.total) == segment.index)
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

    async fn count(&self) -> Result<u64, StoreError> {
        let state = self.working("count")?;
        Ok(state
            .rows
            .values()
            .filter(|row| row.holds_a_place())
            .count() as u64)
    }
}

fn part_of(id: &ConnectionId, parts: u32) -> u32 {
    id.as_str().bytes().map(u32::from).sum::<u32>() % parts
}

impl SweepStore for FakeStore {
    async fn due(
        &self,
        part: u32,
        from: Option<DueCursor>,
        now: UnixMillis,
    ) -> Result<DuePage, StoreError> {
        let state = self.working("due")?;
        let mut due: Vec<_> = state
            .rows
            .values()
            .map(|row| (row.connection.watch.due_at, row.connection.id.clone()))
            .filter(|(due_at, id)| *due_at <= now && part_of(id, PARTS) == part)
            .collect();
        due.sort_unstable();
        let begin = from.map_or(0, |from| {
            due.partition_point(|entry| *entry <= (from.due_at, from.id.clone()))
        });
        let page = &due[begin..due.len().min(begin + PAGE)];
        let next = page.last().filter(|_| begin + PAGE < due.len());
        Ok(DuePage {
            next: next.cloned().map(|(due_at, id)| DueCursor { id, due_at }),
            ids: page.iter().map(|(_, id)| id.clone()).collect(),
        })
    }

    async fn read(&self, id: &ConnectionId) -> Result<Option<Connection>, StoreError> {
        let state = self.working("read")?;
        Ok(state.rows.get(id).map(|row| row.connection.clone()))
    }

    async fn watch(&self, seen: &Connection, next: &Watch) -> Result<bool, StoreError> {
        let mut state = self.working("watch")?;
        let row = state.rows.get_mut(&seen.id).filter(|row| {
            let now = &row.connection;
            now.watch.due_at == seen.watch.due_at
                && (next.pinged_at.is_none() || now.last_seen_at == seen.last_seen_at)
        });
        let noted = row.map(|row| {
            row.connection.watch = Watch {
                replaced_at: row.connection.watch.replaced_at,
                ..*next
            }
        });
        Ok(noted.is_some())
    }

    async fn sign_out(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let mut state = self.working("sign_out")?;
        let mark = state
            .signed_out
            .entry(user.clone())
            .or_insert(now.to_seconds());
        *mark = now.to_seconds().max(*mark);
        let rows = state.rows.values().map(|row| &row.connection);
        let rows = rows.filter(|row| row.user_id == *user);
        Ok(rows.map(|row| row.id.clone()).collect())
    }

    async fn end_session(&self, seen: &Connection, now: UnixMillis) -> Result<(), StoreError> {
        let mut state = self.working("end_session")?;
        if let Some(row) = state.rows.get_mut(&seen.id) {
            row.connection.token_expires_at = now.to_seconds().min(row.connection.token_expires_at);
        }
        Ok(())
    }

    async fn audit(&self, _now: UnixMillis) -> Result<(), StoreError> {
        self.working("audit").map(drop)
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
