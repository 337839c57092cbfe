use std::collections::BTreeSet;

use super::put;
use crate::connection::{Connection, Recipient};
use crate::ports::{ConnectionStore, Segment};
use crate::testing::{START, connection, connection_id, user_id};
use crate::time::UnixSeconds;

pub(super) async fn keep<S: ConnectionStore>(new: impl AsyncFn() -> S) {
    listings_find_what_is_live(&new().await).await;
    many_rows_are_all_found_once(&new().await).await;
}

async fn listings_find_what_is_live<S: ConnectionStore>(store: &S) {
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
    let of_alice = store
        .of_user(&user_id("alice"), START)
        .await
        .expect("of_user");
    assert_eq!(
        sorted(of_alice),
        [Recipient::from(&a1), Recipient::from(&a2)]
    );
    assert_eq!(store.of_user(&user_id("nobody"), START).await, Ok(vec![]));

    let ids = ["a2", "dead", "nobody", "b1"].map(connection_id);
    let of_ids = store.of_ids(&ids, START).await.expect("of_ids");
    assert_eq!(sorted(of_ids), [Recipient::from(&a2), Recipient::from(&b1)]);
    assert_eq!(store.of_ids(&[], START).await, Ok(vec![]));

    let all = scan(store, 1).await;
    assert_eq!(
        sorted(all),
        [
            Recipient::from(&a1),
            Recipient::from(&a2),
            Recipient::from(&b1)
        ]
    );
}

async fn many_rows_are_all_found_once<S: ConnectionStore>(store: &S) {
    let ids: BTreeSet<_> = (0..230).map(|n| connection_id(&format!("c{n}"))).collect();
    for id in &ids {
        put(store, &connection(id.as_str(), "alice")).await;
    }
    let named: Vec<_> = ids.iter().cloned().collect();
    let listings = [
        store
            .of_user(&user_id("alice"), START)
            .await
            .expect("of_user"),
        store.of_ids(&named, START).await.expect("of_ids"),
        scan(store, 1).await,
        scan(store, 4).await,
    ];
    for listing in listings {
        assert_eq!(listing.len(), ids.len());
        let found: BTreeSet<_> = listing.into_iter().map(|r| r.id).collect();
        assert_eq!(found, ids);
    }
}

async fn scan<S: ConnectionStore>(store: &S, total: u32) -> Vec<Recipient> {
    let mut found = Vec::new();
    for index in 0..total {
        let mut from = None;
        loop {
            let page = store
                .scan(Segment { index, total }, from, START)
                .await
                .expect("scan");
            found.extend(page.recipients);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    found
}
