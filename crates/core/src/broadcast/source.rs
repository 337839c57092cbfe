//! Who receives a broadcast, page by page.

use std::collections::{BTreeSet, HashSet};

use belfry_protocol::{ConnectionId, List, Target, UserId};
use futures_util::future::try_join_all;

use crate::connection::Recipient;
use crate::ports::{Cursor, RecipientStore, Segment, StoreError};
use crate::time::UnixMillis;

/// How many queries run at a time when a broadcast names many users.
const PARALLEL_QUERIES: usize = 16;

/// How many connections a page has. Of named users there may be more: the last
/// ones that were asked for may have as many as `MaxConnectionsPerUser` allows.
const PAGE: usize = 1_000;

/// The recipients of a broadcast, each once.
#[derive(Debug)]
pub(super) struct Source {
    whom: Whom,
    excluded: HashSet<ConnectionId>,
}

#[derive(Debug)]
enum Whom {
    All,
    Users(Vec<UserId>),
    Connections(Vec<ConnectionId>),
}

/// Some of the recipients.
#[derive(Debug)]
pub(super) struct SourcePage {
    /// Open connections.
    pub(super) found: Vec<Recipient>,
    /// Connections that the caller named and that are not there.
    pub(super) missing: Vec<ConnectionId>,
    /// Where to go on; `None` at the end.
    pub(super) next: Option<String>,
}

impl Source {
    pub(super) fn new(target: Target, exclude: Option<List<ConnectionId, 0, 1_000>>) -> Self {
        // In an order, and each once, so that a position says what comes next.
        fn distinct<T: Ord>(list: Vec<T>) -> Vec<T> {
            BTreeSet::from_iter(list).into_iter().collect()
        }
        let whom = match target {
            Target::All {} => Whom::All,
            Target::User { user_id } => Whom::Users(vec![user_id]),
            Target::Users { user_ids } => Whom::Users(distinct(user_ids.into_vec())),
            Target::Connections { connection_ids } => {
                Whom::Connections(distinct(connection_ids.into_vec()))
            }
        };
        let excluded = exclude.map(List::into_vec).unwrap_or_default();
        Self {
            whom,
            excluded: excluded.into_iter().collect(),
        }
    }

    /// How many users or connections were named; `None` for everyone.
    pub(super) fn named(&self) -> Option<usize> {
        match &self.whom {
            Whom::All => None,
            Whom::Users(users) => Some(users.len()),
            Whom::Connections(ids) => Some(ids.len()),
        }
    }

    /// A page of a segment: connections whose row is live and whose token is
    /// not over.
    pub(super) async fn page<S: RecipientStore>(
        &self,
        store: &S,
        segment: Segment,
        from: Option<&str>,
        now: UnixMillis,
    ) -> Result<SourcePage, StoreError> {
        let mut page = match &self.whom {
            Whom::All => {
                let from = from.and_then(|id| ConnectionId::parse(id).ok()).map(Cursor);
                let page = store.scan(segment, from, now).await?;
                SourcePage {
                    found: page.recipients,
                    missing: Vec::new(),
                    next: page.next.map(|Cursor(last)| last.to_string()),
                }
            }
            Whom::Users(users) => {
                let (mut found, mut next) = (Vec::new(), from.map(str::to_owned));
                loop {
                    let (some, after) = part(users, segment, next.as_deref(), PARALLEL_QUERIES);
                    let queries = some.iter().map(|user| store.of_user(user, now));
                    for recipients in try_join_all(queries).await? {
                        found.extend(recipients);
                    }
                    next = after;
                    if next.is_none() || found.len() >= PAGE {
                        break;
                    }
                }
                SourcePage {
                    found,
                    missing: Vec::new(),
                    next,
                }
            }
            Whom::Connections(ids) => {
                let (ids, next) = part(ids, segment, from, PAGE);
                let (found, missing) = live(store, ids, now).await?;
                SourcePage {
                    found,
                    missing,
                    next,
                }
            }
        };
        page.found
            .retain(|recipient| !recipient.token_expires_at.has_passed(now));
        // A listing that is a moment behind may show a row twice.
        page.found.sort_unstable();
        page.found.dedup_by(|a, b| a.id == b.id);
        page.found
            .retain(|recipient| !self.excluded.contains(&recipient.id));
        page.missing.retain(|id| !self.excluded.contains(id));
        Ok(page)
    }
}

/// Those of the connections that are there, and those that are not or whose
/// token is over.
pub(super) async fn live<S: RecipientStore>(
    store: &S,
    ids: &[ConnectionId],
    now: UnixMillis,
) -> Result<(Vec<Recipient>, Vec<ConnectionId>), StoreError> {
    let mut found = store.of_ids(ids, now).await?;
    found.retain(|recipient| !recipient.token_expires_at.has_passed(now));
    let there: HashSet<_> = found.iter().map(|recipient| &recipient.id).collect();
    let missing = ids
        .iter()
        .filter(|id| !there.contains(id))
        .cloned()
        .collect();
    Ok((found, missing))
}

/// The next items of a segment of a list, and the position after them.
fn part<'a, T>(
    list: &'a [T],
    segment: Segment,
    from: Option<&str>,
    size: usize,
) -> (&'a [T], Option<String>) {
    let border = |index: u32| list.len() * index as usize / segment.total.max(1) as usize;
    let end = border(segment.index + 1).min(list.len());
    let begin = from.and_then(|position| position.parse().ok());
    let begin = begin.unwrap_or(border(segment.index)).min(end);
    let stop = (begin + size).min(end);
    (&list[begin..stop], (stop < end).then(|| stop.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_of_all_segments_are_the_list(
            count in 0_usize..300,
            total in 1_u32..20,
            size in 1_usize..50,
        ) {
            let list: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            for index in 0..total {
                let mut from: Option<String> = None;
                loop {
                    let segment = Segment { index, total };
                    let (items, next) = part(&list, segment, from.as_deref(), size);
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
}
