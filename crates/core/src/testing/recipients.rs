use std::collections::BTreeSet;

use belfry_protocol::{ConnectionId, UserId};

use super::store::{PAGE, is_live};
use super::{FakeStore, START, Store, connection, connection_id, put, user_id};
use crate::connections::{Connection, Recipient};
use crate::ports::Consistency::{Eventual, Strong};
use crate::ports::{Consistency, RecipientPage, Recipients, Segment, StoreError};
use crate::time::{UnixMillis, UnixSeconds};

impl Recipients for FakeStore {
    async fn of_user(
        &self,
        user: &UserId,
        consistency: Consistency,
        now: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        self.responds("of_user").await;
        let state = self.working("of_user")?;
        let rows = state.rows.values().map(|row| &row.connection);
        let rows = rows.filter(|row| row.user_id == *user && is_live(row, now));
        let recipients = rows.map(|row| Recipient {
            // The index does not know.
            accepts_batch: row.accepts_batch && consistency == Consistency::Strong,
            ..Recipient::from(row)
        });
        Ok(recipients.collect())
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
            .filter(|row| is_live(row, now));
        Ok(rows.map(Recipient::from).collect())
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<&ConnectionId>,
        _: Consistency,
        now: UnixMillis,
    ) -> Result<RecipientPage, StoreError> {
        let state = self.working("scan")?;
        let mut rest = state
            .rows
            .values()
            .map(|row| &row.connection)
            .filter(|row| segment_of(&row.id, segment.total) == segment.index)
            .filter(|row| after.is_none_or(|last| row.id > *last));
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let next = match (page.last(), rest.next()) {
            (Some(last), Some(_)) => Some(last.id.clone()),
            _ => None,
        };
        let recipients = page
            .into_iter()
            .filter(|row| is_live(row, now))
            .map(Recipient::from)
            .collect();
        Ok(RecipientPage { recipients, next })
    }
}

/// Ids of tests are short and similar, so a plain sum spreads them evenly.
fn segment_of(id: &ConnectionId, segments: u32) -> u32 {
    id.as_str().bytes().map(u32::from).sum::<u32>() % segments
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    listings_find_live_connections(&new().await).await;
    many_rows_are_all_found_once(&new().await).await;
}

async fn listings_find_live_connections<S: Store>(store: &S) {
    let (a1, a2, b1) = (
        connection("a1", "alice"),
        connection("a2", "alice"),
        connection("b1", "bob"),
    );
    let dead = Connection {
        expires_at: UnixSeconds(START.to_seconds().0),
        ..connection("dead", "alice")
    };
    for row in [&a1, &a2, &b1, &dead] {
        put(store, row).await;
    }
    let sorted = |mut found: Vec<Recipient>| {
        found.sort();
        found
    };
    for consistency in [Eventual, Strong] {
        let of_alice = store.of_user(&user_id("alice"), consistency, START).await;
        assert_eq!(
            sorted(of_alice.expect("of_user")),
            [Recipient::from(&a1), Recipient::from(&a2)]
        );
        let nobody = user_id("nobody");
        let of_nobody = store.of_user(&nobody, consistency, START).await;
        assert_eq!(of_nobody, Ok(vec![]));
    }

    let ids = ["a2", "dead", "nobody", "b1"].map(connection_id);
    let of_ids = store.of_ids(&ids, START).await.expect("of_ids");
    assert_eq!(sorted(of_ids), [Recipient::from(&a2), Recipient::from(&b1)]);
    assert_eq!(store.of_ids(&[], START).await, Ok(vec![]));

    for consistency in [Eventual, Strong] {
        let all = scan(store, 1, consistency).await;
        assert_eq!(sorted(all), [&a1, &a2, &b1].map(Recipient::from));
    }
}

async fn many_rows_are_all_found_once<S: Store>(store: &S) {
    let ids: BTreeSet<_> = (0..230).map(|n| connection_id(&format!("c{n}"))).collect();
    for id in &ids {
        put(store, &connection(id.as_str(), "alice")).await;
    }
    let named: Vec<_> = ids.iter().cloned().collect();
    let listings = [
        store
            .of_user(&user_id("alice"), Eventual, START)
            .await
            .expect("of_user"),
        store
            .of_user(&user_id("alice"), Strong, START)
            .await
            .expect("of_user"),
        store.of_ids(&named, START).await.expect("of_ids"),
        scan(store, 1, Eventual).await,
        scan(store, 4, Strong).await,
    ];
    for listing in listings {
        assert_eq!(listing.len(), ids.len());
        let found: BTreeSet<_> = listing.into_iter().map(|r| r.id).collect();
        assert_eq!(found, ids);
    }
}

async fn scan<S: Store>(store: &S, total: u32, consistency: Consistency) -> Vec<Recipient> {
    let mut found = Vec::new();
    for index in 0..total {
        let mut after = None;
        loop {
            let page = store
                .scan(Segment { index, total }, after.as_ref(), consistency, START)
                .await
                .expect("scan");
            found.extend(page.recipients);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    found
}
