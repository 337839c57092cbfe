//! What every implementation of a port must do, one function a promise.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{START, connection, connection_id, user_id};
use crate::connection::{Connection, Recipient};
use crate::ports::{ConnectionStore, Inserted, Outbox, PostError, Segment};
use crate::time::{UnixMillis, UnixSeconds};

/// Holds a store to the promises of [`ConnectionStore`]. `new` makes an empty
/// one.
///
/// # Panics
/// If a promise is broken.
pub async fn store_contract<S: ConnectionStore>(new: impl AsyncFn() -> S) {
    insert_is_idempotent_and_never_overwrites(&new().await).await;
    touch_marks_and_returns_the_whole_row(&new().await).await;
    touch_creates_nothing(&new().await).await;
    a_token_is_only_ever_extended(&new().await).await;
    a_session_that_is_over_is_not_extended(&new().await).await;
    remove_is_idempotent(&new().await).await;
    remove_unchanged_looks_before_it_removes(&new().await).await;
    listings_find_what_is_live(&new().await).await;
    many_rows_are_all_found_once(&new().await).await;
}

async fn touch<S: ConnectionStore>(store: &S, id: &str) -> Option<Connection> {
    store.touch(&connection_id(id), START).await.expect("touch")
}

async fn insert_is_idempotent_and_never_overwrites<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    assert_eq!(store.insert(&row).await, Ok(Inserted::Yes));
    assert_eq!(
        store.insert(&row).await,
        Ok(Inserted::Yes),
        "the same handshake again"
    );
    let of_another_user = connection("c1", "mallory");
    let of_another_time = Connection {
        connected_at: START.plus(Duration::from_secs(1)),
        ..row.clone()
    };
    for other in [of_another_user, of_another_time] {
        assert_eq!(store.insert(&other).await, Ok(Inserted::Taken));
    }
    assert_eq!(touch(store, "c1").await, Some(row));
}

async fn touch_marks_and_returns_the_whole_row<S: ConnectionStore>(store: &S) {
    let bare = Connection {
        user_agent: None,
        ..connection("bare", "alice")
    };
    let full = Connection {
        origin: Some("https://app.example.com".into()),
        ..connection("full", "ünï")
    };
    let later = START.plus(Duration::from_secs(5));
    for row in [bare, full] {
        store.insert(&row).await.expect("insert");
        let touched = store.touch(&row.id, later).await.expect("touch");
        assert_eq!(
            touched,
            Some(Connection {
                last_seen_at: later,
                ..row
            })
        );
    }
}

async fn touch_creates_nothing<S: ConnectionStore>(store: &S) {
    assert_eq!(touch(store, "nobody").await, None);
    let row = connection("c1", "alice");
    store.insert(&row).await.expect("insert");
    let too_late = row.expires_at.to_millis();
    assert_eq!(
        store.touch(&row.id, too_late).await,
        Ok(None),
        "an expired row is not revived"
    );
    let in_time = UnixMillis(too_late.0 - 1);
    assert!(
        store
            .touch(&row.id, in_time)
            .await
            .expect("touch")
            .is_some()
    );
    assert_eq!(touch(store, "nobody").await, None);
}

async fn a_token_is_only_ever_extended<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    store.insert(&row).await.expect("insert");
    let later = UnixSeconds(row.token_expires_at.0 + 60);
    for _ in 0..2 {
        let extended = store.extend_token(&row, later, START).await;
        assert_eq!(extended, Ok(Some(later)), "once is as good as twice");
    }
    let earlier = store.extend_token(&row, row.token_expires_at, START).await;
    assert_eq!(earlier, Ok(Some(later)), "what is later stays");
    assert_eq!(
        touch(store, "c1").await,
        Some(Connection {
            token_expires_at: later,
            ..row
        })
    );
    let of_alice = store.of_user(&user_id("alice"), START).await;
    let ends: Vec<_> = of_alice
        .expect("of_user")
        .iter()
        .map(|r| r.token_expires_at)
        .collect();
    assert_eq!(ends, [later], "listings know it too");
}

async fn a_session_that_is_over_is_not_extended<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    let later = UnixSeconds(row.token_expires_at.0 + 60);
    let nobody = store.extend_token(&row, later, START).await;
    assert_eq!(nobody, Ok(None));
    assert_eq!(touch(store, "c1").await, None, "no partial row");
    store.insert(&row).await.expect("insert");
    let other = Connection {
        connected_at: START.plus(Duration::from_secs(1)),
        ..row.clone()
    };
    assert_eq!(store.extend_token(&other, later, START).await, Ok(None));
    let over = row.token_expires_at.to_millis();
    assert_eq!(store.extend_token(&row, later, over).await, Ok(None));
    assert_eq!(touch(store, "c1").await, Some(row));
}

async fn remove_is_idempotent<S: ConnectionStore>(store: &S) {
    store
        .insert(&connection("c1", "alice"))
        .await
        .expect("insert");
    for _ in 0..2 {
        assert_eq!(store.remove(&connection_id("c1")).await, Ok(()));
        assert_eq!(touch(store, "c1").await, None);
    }
}

async fn remove_unchanged_looks_before_it_removes<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    store.insert(&row).await.expect("insert");
    let other = Recipient {
        connected_at: START.plus(Duration::from_secs(1)),
        ..Recipient::from(&row)
    };
    assert_eq!(store.remove_unchanged(&other).await, Ok(()));
    assert!(
        touch(store, "c1").await.is_some(),
        "another handshake's row stays"
    );
    for _ in 0..2 {
        assert_eq!(store.remove_unchanged(&Recipient::from(&row)).await, Ok(()));
        assert_eq!(touch(store, "c1").await, None);
    }
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
        store.insert(row).await.expect("insert");
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
        store
            .insert(&connection(id.as_str(), "alice"))
            .await
            .expect("insert");
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

/// Holds an outbox to the promises of [`Outbox`]: `open` names a connection
/// that is open, `gone` one that is not. The frames `one` and `two` are
/// posted to `open`, which is closed at the end.
///
/// # Panics
/// If a promise is broken.
pub async fn outbox_contract<O: Outbox>(outbox: &O, open: &str, gone: &str) {
    let (open, gone) = (connection_id(open), connection_id(gone));
    let timeout = Duration::from_secs(10);
    assert_eq!(outbox.post(&open, "one", timeout).await, Ok(()));
    assert_eq!(outbox.post(&open, "two", timeout).await, Ok(()));
    assert_eq!(outbox.post(&gone, "x", timeout).await, Err(PostError::Gone));
    assert_eq!(
        outbox.close(&gone).await,
        Ok(()),
        "closing what is not there"
    );
    for _ in 0..2 {
        assert_eq!(outbox.close(&open).await, Ok(()));
        assert_eq!(outbox.post(&open, "x", timeout).await, Err(PostError::Gone));
    }
}
