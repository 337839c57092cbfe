use std::collections::BTreeSet;

use belfry_protocol::ConnectionId;

use super::store::{PAGE, is_live};
use super::{FakeStore, START, Store, connection, connection_id, put};
use crate::connections::Connection;
use crate::ports::{ConnectionListing, ConnectionPage, StoreError};
use crate::time::UnixMillis;

impl ConnectionListing for FakeStore {
    async fn rows(
        &self,
        ids: &[ConnectionId],
        now: UnixMillis,
    ) -> Result<Vec<Connection>, StoreError> {
        let state = self.working("rows")?;
        let rows = ids.iter().filter_map(|id| state.rows.get(id));
        let rows = rows.map(|row| &row.connection);
        Ok(rows.filter(|row| is_live(row, now)).cloned().collect())
    }

    async fn row_page(
        &self,
        after: Option<&ConnectionId>,
        now: UnixMillis,
    ) -> Result<ConnectionPage, StoreError> {
        let state = self.working("row_page")?;
        let rows = state.rows.values().map(|row| &row.connection);
        let mut rest = rows.filter(|row| after.is_none_or(|last| row.id > *last));
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let next = rest.next().and(page.last()).map(|last| last.id.clone());
        let live = page.into_iter().filter(|row| is_live(row, now));
        Ok(ConnectionPage {
            connections: live.cloned().collect(),
            next,
        })
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    whole_rows_are_read(&new().await).await;
    a_listing_continues_after_any_connection(&new().await).await;
}

async fn whole_rows_are_read<S: Store>(store: &S) {
    let page = Connection {
        origin: Some("https://app.example".into()),
        user_agent: None,
        ..connection("page", "alice")
    };
    let tool = connection("tool", "bob");
    let dead = Connection {
        expires_at: START.to_seconds(),
        ..connection("dead", "alice")
    };
    for row in [&page, &tool, &dead] {
        put(store, row).await;
    }
    let ids = ["tool", "dead", "nobody", "page"].map(connection_id);
    let mut rows = store.rows(&ids, START).await.expect("rows");
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(rows, [page.clone(), tool.clone()]);
    assert_eq!(store.rows(&[], START).await, Ok(vec![]));
    let mut rows = all(store, None).await;
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(rows, [page, tool]);
}

async fn a_listing_continues_after_any_connection<S: Store>(store: &S) {
    let ids: BTreeSet<_> = (0..230).map(|n| connection_id(&format!("c{n}"))).collect();
    for id in &ids {
        put(store, &connection(id.as_str(), "alice")).await;
    }
    let listed: Vec<_> = all(store, None)
        .await
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(listed.len(), ids.len());
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), ids);
    let named: Vec<_> = ids.into_iter().collect();
    assert_eq!(store.rows(&named, START).await.expect("rows").len(), 230);
    for index in [0, 1, 114, 229] {
        store
            .disconnect(&listed[index], START)
            .await
            .expect("disconnect");
        let rest = all(store, Some(listed[index].clone())).await;
        let rest: Vec<_> = rest.into_iter().map(|row| row.id).collect();
        assert_eq!(rest, listed[index + 1..], "{index}");
    }
}

async fn all<S: Store>(store: &S, mut after: Option<ConnectionId>) -> Vec<Connection> {
    let mut found = Vec::new();
    loop {
        let page = store.row_page(after.as_ref(), START).await;
        let page = page.expect("row_page");
        found.extend(page.connections);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}
