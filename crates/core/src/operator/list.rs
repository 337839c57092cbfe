use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use belfry_protocol::{
    Bounded, ChannelName, ConnectionId, ConnectionList, ListConnections, ListedConnection, Target,
    UserId,
};
use futures_util::future::try_join_all;

use super::list_cursor::{InvalidListCursor, ListCursor};
use crate::broadcast::Share;
use crate::connections::Connection;
use crate::ports::{
    Clock, ConnectionListing, Consistency, Listing, Recipients, Segment, StoreError, Subscribers,
};
use crate::time::UnixMillis;

/// Connections in a page, if the caller does not say.
const LIMIT: u32 = 100;

/// Connections that are read together.
const READ: usize = 500;

/// How often connections are read for one page. Filters may leave none of them.
const READS: usize = 5;

/// From then on nothing more is read for a page.
const TIME: Duration = Duration::from_secs(10);

/// Maximum concurrent queries of users.
const USERS: usize = 8;

/// Lists connections for operators.
#[derive(Debug)]
pub struct List<S, C> {
    pub store: S,
    pub clock: C,
}

/// Why connections were not listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Cursor(#[from] InvalidListCursor),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Connections that were read, in the order of the listing.
struct Read {
    rows: Vec<(ListCursor, Connection)>,
    next: Option<ListCursor>,
}

impl<S, C> List<S, C>
where
    S: ConnectionListing + Recipients + Subscribers,
    C: Clock,
{
    /// A page of connections. Fewer than the limit, or none, if filters leave out
    /// most of those that were read.
    ///
    /// # Errors
    /// [`ListError`].
    pub async fn handle(&self, request: &ListConnections) -> Result<ConnectionList, ListError> {
        let now = self.clock.now();
        let mut cursor = match &request.cursor {
            Some(text) => ListCursor::parse(text, &request.target)?,
            None => ListCursor::start(&request.target),
        };
        let limit = request.limit.map_or(LIMIT, Bounded::get) as usize;
        let mut list = ConnectionList::default();
        for _ in 0..READS {
            let read = self.read(&request.target, &cursor, now).await?;
            for (at, row) in read.rows {
                if !is_wanted(&row, request, now) {
                    continue;
                }
                if list.connections.len() == limit {
                    list.cursor = Some(cursor.to_string());
                    return Ok(list);
                }
                list.connections.push(listed(&row));
                cursor = at;
            }
            let Some(next) = read.next else {
                return Ok(list);
            };
            cursor = next;
            if list.connections.len() == limit || self.clock.now().since(now) >= TIME {
                break;
            }
        }
        list.cursor = Some(cursor.to_string());
        Ok(list)
    }

    async fn read(
        &self,
        target: &Target,
        from: &ListCursor,
        now: UnixMillis,
    ) -> Result<Read, StoreError> {
        match target {
            Target::All {} => self.everyone(from, now).await,
            Target::Channel { channel } => self.subscribers(channel, from, now).await,
            Target::User { user_id } => self.users(&[user_id], from, now).await,
            Target::Users { user_ids } => {
                let distinct: BTreeSet<_> = user_ids.as_slice().iter().collect();
                let users: Vec<_> = distinct.into_iter().collect();
                self.users(&users, from, now).await
            }
            Target::Connections { connection_ids } => {
                let distinct: BTreeSet<_> = connection_ids.as_slice().iter().collect();
                let ids = distinct.into_iter().cloned();
                let begin = from.index.saturating_add(usize::from(from.after.is_some()));
                let ids = (begin..)
                    .zip(ids.skip(begin))
                    .map(|(index, id)| from.at(index).after(id));
                self.rows(ids.collect(), None, now).await
            }
        }
    }

    async fn everyone(&self, from: &ListCursor, now: UnixMillis) -> Result<Read, StoreError> {
        let page = self.store.row_page(from.after.as_ref(), now).await?;
        let rows = page.connections.into_iter();
        Ok(Read {
            rows: rows.map(|row| (from.after(row.id.clone()), row)).collect(),
            next: page.next.map(|id| from.after(id)),
        })
    }

    async fn subscribers(
        &self,
        channel: &ChannelName,
        from: &ListCursor,
        now: UnixMillis,
    ) -> Result<Read, StoreError> {
        let whole = Segment { index: 0, total: 1 };
        let after = from.after.as_ref();
        let page = self
            .store
            .subscribers(channel, Listing::All, whole, after, READ, now)
            .await?;
        let ids = page.recipients.into_iter().map(|one| from.after(one.id));
        let next = page.next.map(|id| from.after(id));
        self.rows(ids.collect(), next, now).await
    }

    /// The connections of some users, beginning with that of the cursor.
    async fn users(
        &self,
        users: &[&UserId],
        from: &ListCursor,
        now: UnixMillis,
    ) -> Result<Read, StoreError> {
        let some = users.iter().skip(from.index).take(USERS);
        let found = some.map(|user| self.store.of_user(user, Consistency::Strong, now));
        let found = try_join_all(found).await?;
        let end = from.index.saturating_add(found.len());
        let next = (end < users.len()).then(|| from.at(end));
        let ids = (from.index..).zip(found).flat_map(|(index, recipients)| {
            let ids: BTreeSet<_> = recipients.into_iter().map(|one| one.id).collect();
            let ids = ids.into_iter().map(move |id| from.at(index).after(id));
            ids.filter(|at| at.index > from.index || at.after > from.after)
        });
        self.rows(ids.collect(), next, now).await
    }

    /// The rows of connections, or of the first of them.
    async fn rows(
        &self,
        mut places: Vec<ListCursor>,
        mut next: Option<ListCursor>,
        now: UnixMillis,
    ) -> Result<Read, StoreError> {
        if places.len() > READ {
            places.truncate(READ);
            next = places.last().cloned();
        }
        let ids: Vec<_> = places.iter().filter_map(|at| at.after.clone()).collect();
        let rows = self.store.rows(&ids, now).await?;
        let rows = rows.into_iter().map(|row| (row.id.clone(), row));
        let mut rows: HashMap<ConnectionId, Connection> = rows.collect();
        let rows = places.into_iter().filter_map(|at| {
            let row = rows.remove(at.after.as_ref()?)?;
            Some((at, row))
        });
        Ok(Read {
            rows: rows.collect(),
            next,
        })
    }
}

fn is_wanted(row: &Connection, request: &ListConnections, now: UnixMillis) -> bool {
    let seconds = |limit: u32| Duration::from_secs(limit.into());
    let age = request.min_age_seconds.map(|age| seconds(age.get()));
    let silence = request.min_silence_seconds.map(|age| seconds(age.get()));
    request
        .origin
        .as_ref()
        .is_none_or(|origin| row.origin.as_ref() == Some(origin))
        && request
            .percent
            .is_none_or(|percent| Share::of(percent.get()).has(&row.id))
        && age.is_none_or(|age| now.since(row.connected_at) >= age)
        && silence.is_none_or(|age| now.since(row.last_seen_at) >= age)
}

/// What operators see of a connection.
pub(super) fn listed(row: &Connection) -> ListedConnection {
    ListedConnection {
        connection_id: row.id.clone(),
        user_id: row.user_id.clone(),
        connected_at: row.connected_at.to_timestamp(),
        last_seen_at: row.last_seen_at.to_timestamp(),
        token_expires_at: row.token_expires_at.to_millis().to_timestamp(),
        origin: row.origin.clone(),
        source_ip: row.source_ip.clone(),
        user_agent: row.user_agent.clone(),
    }
}

#[cfg(test)]
mod tests;
