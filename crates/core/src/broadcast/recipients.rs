use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use belfry_protocol::{ChannelName, ConnectionId, List, Target, UserId};
use futures_util::future::try_join_all;

use crate::connections::Recipient;
use crate::ports::{Cursor, Recipients, Segment, StoreError, Subscribers};
use crate::time::UnixMillis;

/// Maximum concurrent queries if a broadcast names many users. Their connections
/// become one page, which must fit into a checkpoint if time runs out: 8 users
/// have at most 16,000, at twice the highest `MaxConnectionsPerUser`.
const QUERIES: usize = 8;

/// Connections in a page. Of named users there may be more: the last users of
/// a page may have as many as `MaxConnectionsPerUser` allows.
const PAGE: usize = 1_000;

/// How long after it was read a page is posted to. If posts are slow, what is
/// left is read again: the row alone tells that its session has ended if a
/// sign-out could not close the connection.
const FRESH: Duration = Duration::from_secs(30);

/// The recipients of a broadcast, each once.
#[derive(Debug)]
pub(super) struct Audience {
    members: Members,
    excluded: HashSet<ConnectionId>,
}

#[derive(Debug)]
enum Members {
    Everyone,
    Users(Vec<UserId>),
    Connections(Vec<ConnectionId>),
    Subscribers(ChannelName),
}

/// A page of the recipients.
#[derive(Debug)]
pub(super) struct AudiencePage {
    /// Open connections.
    pub(super) found: Vec<Recipient>,
    /// Connections that the caller named and that are not open.
    pub(super) missing: Vec<ConnectionId>,
    /// Where the listing continues; `None` at the end.
    pub(super) next: Option<Cursor>,
    read_at: UnixMillis,
}

impl AudiencePage {
    /// A page of connections whose listing is done.
    pub(super) async fn of_ids<S: Recipients>(
        store: &S,
        ids: &[ConnectionId],
        next: Option<Cursor>,
        now: UnixMillis,
    ) -> Result<Self, StoreError> {
        let (found, missing) = split_live(store, ids, now).await?;
        Ok(Self {
            found,
            missing,
            next,
            read_at: now,
        })
    }

    /// From then on nobody is posted to because of this page.
    pub(super) fn fresh_until(&self) -> UnixMillis {
        self.read_at.plus(FRESH)
    }
}

impl Audience {
    pub(super) fn new(target: Target, exclude: Option<List<ConnectionId, 0, 1_000>>) -> Self {
        // Sorted and distinct, so that an index says what comes next.
        fn distinct<T: Ord>(list: Vec<T>) -> Vec<T> {
            BTreeSet::from_iter(list).into_iter().collect()
        }
        let members = match target {
            Target::All {} => Members::Everyone,
            Target::User { user_id } => Members::Users(vec![user_id]),
            Target::Users { user_ids } => Members::Users(distinct(user_ids.into_vec())),
            Target::Connections { connection_ids } => {
                Members::Connections(distinct(connection_ids.into_vec()))
            }
        };
        let excluded = exclude.map(List::into_vec).unwrap_or_default();
        Self {
            members,
            excluded: excluded.into_iter().collect(),
        }
    }

    /// The subscribers of a channel.
    pub(super) fn subscribers(channel: ChannelName, exclude: Option<ConnectionId>) -> Self {
        Self {
            members: Members::Subscribers(channel),
            excluded: exclude.into_iter().collect(),
        }
    }

    /// The channel whose subscribers these are.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match &self.members {
            Members::Subscribers(channel) => Some(channel),
            _ => None,
        }
    }

    /// The number of users or connections that were named; `None` for everyone
    /// and for subscribers.
    pub(super) fn named(&self) -> Option<usize> {
        match &self.members {
            Members::Everyone | Members::Subscribers(_) => None,
            Members::Users(users) => Some(users.len()),
            Members::Connections(ids) => Some(ids.len()),
        }
    }

    /// A page of a segment: connections whose row is live and whose token has
    /// not expired.
    pub(super) async fn page<S: Recipients + Subscribers>(
        &self,
        store: &S,
        segment: Segment,
        from: Option<&Cursor>,
        now: UnixMillis,
    ) -> Result<AudiencePage, StoreError> {
        let mut page = match &self.members {
            Members::Everyone => {
                let after = after(from)?;
                let page = store.scan(segment, after, now).await?;
                AudiencePage {
                    found: page.recipients,
                    missing: Vec::new(),
                    next: page.next.map(Cursor::After),
                    read_at: now,
                }
            }
            Members::Subscribers(channel) => {
                let after = after(from)?;
                let listing = store.subscribers(channel, segment, after, PAGE, now);
                let page = listing.await?;
                AudiencePage {
                    found: page.recipients,
                    missing: Vec::new(),
                    next: page.next.map(Cursor::After),
                    read_at: now,
                }
            }
            Members::Users(users) => {
                let (mut found, mut next) = (Vec::new(), from.cloned());
                loop {
                    let (some, after) = slice(users, segment, next.as_ref(), QUERIES)?;
                    let queries = some.iter().map(|user| store.of_user(user, now));
                    for recipients in try_join_all(queries).await? {
                        found.extend(recipients);
                    }
                    next = after;
                    if next.is_none() || found.len() >= PAGE {
                        break;
                    }
                }
                AudiencePage {
                    found,
                    missing: Vec::new(),
                    next,
                    read_at: now,
                }
            }
            Members::Connections(ids) => {
                let (ids, next) = slice(ids, segment, from, PAGE)?;
                AudiencePage::of_ids(store, ids, next, now).await?
            }
        };
        page.found
            .retain(|recipient| !recipient.token_expires_at.has_passed(now));
        // A listing that lags may show a row twice.
        page.found.sort_unstable();
        page.found.dedup_by(|a, b| a.id == b.id);
        page.found
            .retain(|recipient| !self.excluded.contains(&recipient.id));
        page.missing.retain(|id| !self.excluded.contains(id));
        Ok(page)
    }
}

/// Splits connections into those that are open and those that are not or whose
/// token has expired.
async fn split_live<S: Recipients>(
    store: &S,
    ids: &[ConnectionId],
    now: UnixMillis,
) -> Result<(Vec<Recipient>, Vec<ConnectionId>), StoreError> {
    let mut found = store.of_ids(ids, now).await?;
    found.retain(|recipient| !recipient.token_expires_at.has_passed(now));
    let open: HashSet<_> = found.iter().map(|recipient| &recipient.id).collect();
    let missing = ids
        .iter()
        .filter(|id| !open.contains(id))
        .cloned()
        .collect();
    Ok((found, missing))
}

/// The next items of a segment of a list, and the cursor after them.
fn slice<'a, T>(
    list: &'a [T],
    segment: Segment,
    from: Option<&Cursor>,
    size: usize,
) -> Result<(&'a [T], Option<Cursor>), StoreError> {
    let border = |index: u32| list.len() * index as usize / segment.total.max(1) as usize;
    let (first, end) = (border(segment.index), border(segment.index + 1));
    let begin = match from {
        None => first,
        Some(Cursor::Index(index)) if (first..=end).contains(index) => *index,
        Some(_) => return Err(foreign_cursor()),
    };
    let stop = (begin + size).min(end);
    let next = (stop < end).then_some(Cursor::Index(stop));
    Ok((&list[begin..stop], next))
}

/// The connection after which a listing of connections continues.
fn after(from: Option<&Cursor>) -> Result<Option<&ConnectionId>, StoreError> {
    match from {
        None => Ok(None),
        Some(Cursor::After(id)) => Ok(Some(id)),
        Some(Cursor::Index(_)) => Err(foreign_cursor()),
    }
}

/// Starting the segment again would post to everyone twice.
fn foreign_cursor() -> StoreError {
    StoreError {
        operation: "continuing a segment",
        cause: "the cursor does not belong to the broadcast's target".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::testing::{FakeStore, START, connection_id};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_segments_together_are_the_list(
            count in 0_usize..300,
            total in 1_u32..20,
            size in 1_usize..50,
        ) {
            let list: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            for index in 0..total {
                let mut from: Option<Cursor> = None;
                loop {
                    let segment = Segment { index, total };
                    let (items, next) = slice(&list, segment, from.as_ref(), size).unwrap();
                    prop_assert!(items.len() <= size);
                    seen.extend_from_slice(items);
                    from = next;
                    if from.is_none() {
                        break;
                    }
                }
            }
            prop_assert_eq!(seen, list);
        }
    }

    #[tokio::test]
    async fn a_cursor_of_another_target_is_an_error() {
        let store = FakeStore::default();
        let whole = Segment { index: 0, total: 1 };
        let second = Segment { index: 1, total: 2 };
        let users = ["a", "b", "c", "d"]
            .map(|user| format!("{user:?}"))
            .join(",");
        let users = format!(r#"{{"type":"users","userIds":[{users}]}}"#);
        let after = || Cursor::After(connection_id("c1"));
        for (target, segment, cursor) in [
            (r#"{"type":"all"}"#, whole, Cursor::Index(1)),
            (users.as_str(), whole, after()),
            (
                r#"{"type":"connections","connectionIds":["c1"]}"#,
                whole,
                after(),
            ),
            (users.as_str(), whole, Cursor::Index(5)),
            (users.as_str(), second, Cursor::Index(1)),
        ] {
            let audience = Audience::new(serde_json::from_str(target).unwrap(), None);
            let page = audience.page(&store, segment, Some(&cursor), START).await;
            assert!(page.is_err(), "{target} {cursor}");
        }
    }
}
