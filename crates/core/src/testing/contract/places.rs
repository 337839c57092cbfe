use std::time::Duration;

use futures_util::future::join_all;

use super::{insert, live, put};
use crate::connection::{Connection, Recipient};
use crate::ports::{Admission, ConnectionStore, Inserted, Places, SweepStore};
use crate::testing::{PLACES, START, connection, connection_id, user_id};
use crate::time::UnixSeconds;

pub(super) async fn keep<S: ConnectionStore + SweepStore>(new: impl AsyncFn() -> S) {
    no_row_comes_after_a_disconnect(&new().await).await;
    for total in [1, 5, 20] {
        there_are_no_more_rows_than_places(&new().await, total).await;
    }
    counting_again_changes_nothing(&new().await).await;
    a_user_has_no_more_rows_than_allowed(&new().await).await;
    a_successor_takes_over_the_place(&new().await).await;
    a_successor_that_has_ended_does_not_come_back(&new().await).await;
    only_an_own_place_can_be_taken_over(&new().await).await;
    whoever_was_signed_out_needs_a_newer_token(&new().await).await;
}

const FEW: Places = Places {
    total: 20,
    per_user: 3,
};

async fn replace<S: ConnectionStore>(store: &S, row: &Connection, old: &str) -> Inserted {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: Some(&connection_id(old)),
    };
    store.insert(admission, FEW).await.expect("insert")
}

async fn no_row_comes_after_a_disconnect<S: ConnectionStore>(store: &S) {
    let early = connection("early", "alice");
    assert_eq!(store.disconnect(&early.id, START).await, Ok(()));
    assert_eq!(insert(store, &early, PLACES).await, Inserted::Ended);
    assert_eq!(live(store, "early").await, None);
    let twice = connection("twice", "alice");
    put(store, &twice).await;
    assert_eq!(store.disconnect(&twice.id, START).await, Ok(()));
    // The same handshake, handled a second time and late.
    insert(store, &twice, PLACES).await;
    assert_eq!(live(store, "twice").await, None);
}

async fn there_are_no_more_rows_than_places<S>(store: &S, total: usize)
where
    S: ConnectionStore + SweepStore,
{
    let places = Places {
        total: total as u64,
        per_user: 3,
    };
    let rows: Vec<_> = (0..50)
        .map(|n| connection(&format!("c{n}"), &format!("user-{n}")))
        .collect();
    let outcomes = join_all(rows.iter().map(|row| insert(store, row, places))).await;
    let inserted = outcomes.iter().filter(|o| **o == Inserted::Yes).count();
    assert_eq!(inserted, total, "{outcomes:?}");
    let expected = |outcome: &_| matches!(outcome, Inserted::Yes | Inserted::Full);
    assert!(outcomes.iter().all(expected));
    assert_eq!(store.count().await, Ok(places.total));
    let standing = rows
        .iter()
        .zip(outcomes)
        .filter(|(_, o)| *o == Inserted::Yes);
    for (n, (row, _)) in standing.enumerate() {
        for _ in 0..2 {
            if n % 2 == 0 {
                assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
            } else {
                let seen = Recipient::from(row);
                assert_eq!(store.remove_unchanged(&seen).await, Ok(()));
            }
        }
        let successor = connection(&format!("n{n}"), &format!("other-{n}"));
        assert_eq!(insert(store, &successor, places).await, Inserted::Yes);
        let too_many = connection(&format!("m{n}"), "mallory");
        assert_eq!(insert(store, &too_many, places).await, Inserted::Full);
    }
    assert_eq!(store.count().await, Ok(places.total));
}

async fn counting_again_changes_nothing<S: ConnectionStore + SweepStore>(store: &S) {
    for n in 0..40 {
        put(store, &connection(&format!("c{n}"), "alice")).await;
    }
    for minute in 0..70 {
        let now = START.plus(Duration::from_secs(60 * minute));
        assert_eq!(store.audit(now).await, Ok(()));
        assert_eq!(store.count().await, Ok(40));
    }
}

async fn a_user_has_no_more_rows_than_allowed<S: ConnectionStore>(store: &S) {
    let rows: Vec<_> = (0..10)
        .map(|n| connection(&format!("c{n}"), "alice"))
        .collect();
    let outcomes = join_all(rows.iter().map(|row| insert(store, row, FEW))).await;
    let (inserted, refused): (Vec<_>, Vec<_>) = rows
        .iter()
        .zip(outcomes)
        .partition(|(_, outcome)| *outcome == Inserted::Yes);
    assert_eq!(inserted.len(), 3);
    assert!(
        refused
            .iter()
            .all(|(_, outcome)| *outcome == Inserted::UserFull)
    );
    assert_eq!(
        insert(store, &connection("b", "bob"), FEW).await,
        Inserted::Yes
    );
    let (again, _) = inserted[0];
    assert_eq!(
        insert(store, again, FEW).await,
        Inserted::Yes,
        "is one of them"
    );
    assert_eq!(store.disconnect(&again.id, START).await, Ok(()));
    assert_eq!(
        insert(store, &connection("c", "alice"), FEW).await,
        Inserted::Yes
    );
}

async fn a_successor_takes_over_the_place<S: ConnectionStore + SweepStore>(store: &S) {
    for id in ["a1", "a2", "a3"] {
        assert_eq!(
            insert(store, &connection(id, "alice"), FEW).await,
            Inserted::Yes
        );
    }
    let successor = connection("a4", "alice");
    for _ in 0..2 {
        assert_eq!(replace(store, &successor, "a1").await, Inserted::Yes);
    }
    let old = store
        .read(&connection_id("a1"))
        .await
        .expect("read")
        .expect("a row");
    assert_eq!(old.watch.replaced_at, Some(START));
    assert_eq!(store.count().await, Ok(3), "no place more");
    assert!(live(store, "a1").await.is_some(), "until it closes");
    let outcome = replace(store, &connection("a5", "alice"), "a1").await;
    assert_eq!(outcome, Inserted::UserFull, "it has no place to give");
    assert_eq!(
        replace(store, &connection("a6", "alice"), "a2").await,
        Inserted::Yes
    );
    for old in ["a1", "a2"] {
        assert_eq!(store.disconnect(&connection_id(old), START).await, Ok(()));
    }
    assert_eq!(store.count().await, Ok(3));
    for id in ["a3", "a4", "a6"] {
        assert_eq!(store.disconnect(&connection_id(id), START).await, Ok(()));
    }
    assert_eq!(store.count().await, Ok(0));
}

async fn a_successor_that_has_ended_does_not_come_back<S: ConnectionStore>(store: &S) {
    put(store, &connection("a1", "alice")).await;
    let successor = connection("a2", "alice");
    assert_eq!(replace(store, &successor, "a1").await, Inserted::Yes);
    assert_eq!(store.disconnect(&successor.id, START).await, Ok(()));
    // The same handshake, handled a second time and late.
    assert_eq!(replace(store, &successor, "a1").await, Inserted::Ended);
    assert_eq!(live(store, "a2").await, None);
}

async fn only_an_own_place_can_be_taken_over<S: ConnectionStore>(store: &S) {
    put(store, &connection("b1", "bob")).await;
    for id in ["a1", "a2", "a3"] {
        let outcome = replace(store, &connection(id, "alice"), "b1").await;
        assert_eq!(outcome, Inserted::Yes, "as if it asked for nothing");
    }
    for old in ["b1", "nobody"] {
        let outcome = replace(store, &connection("a4", "alice"), old).await;
        assert_eq!(outcome, Inserted::UserFull);
    }
    assert!(live(store, "b1").await.is_some());
}

async fn whoever_was_signed_out_needs_a_newer_token<S: ConnectionStore + SweepStore>(store: &S) {
    let alice = user_id("alice");
    put(store, &connection("a1", "alice")).await;
    put(store, &connection("b1", "bob")).await;
    assert_eq!(store.signed_out_at(&alice).await, Ok(None));
    for _ in 0..2 {
        let named = store.sign_out(&alice, START).await;
        assert_eq!(named, Ok(vec![connection_id("a1")]));
    }
    assert_eq!(
        store.signed_out_at(&alice).await,
        Ok(Some(START.to_seconds()))
    );
    let row = connection("a2", "alice");
    assert_eq!(insert(store, &row, PLACES).await, Inserted::SignedOut);
    assert_eq!(live(store, "a2").await, None);
    let newer = Admission {
        connection: &row,
        token_issued_at: UnixSeconds(START.to_seconds().0 + 1),
        replaces: None,
    };
    assert_eq!(store.insert(newer, PLACES).await, Ok(Inserted::Yes));
    let earlier = START.minus(Duration::from_secs(60));
    store.sign_out(&alice, earlier).await.expect("sign_out");
    let mark = store.signed_out_at(&alice).await;
    assert_eq!(mark, Ok(Some(START.to_seconds())), "it never moves back");
    assert_eq!(store.signed_out_at(&user_id("nobody")).await, Ok(None));
    assert_eq!(store.sign_out(&user_id("nobody"), START).await, Ok(vec![]));
}
