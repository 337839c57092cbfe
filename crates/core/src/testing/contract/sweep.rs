use std::collections::BTreeSet;
use std::time::Duration;

use super::{put, touch_at};
use crate::connection::{Connection, Watch};
use crate::ports::{ConnectionStore, NotServed, PARTS, SweepStore};
use crate::testing::{START, connection, connection_id};
use crate::time::UnixMillis;

pub(super) async fn keep<S: ConnectionStore + SweepStore>(new: impl AsyncFn() -> S) {
    what_is_due_is_found_once_and_nothing_else(&new().await).await;
    a_watch_is_moved_by_one_sweep_alone(&new().await).await;
    a_ping_is_noted_unless_a_frame_came_first(&new().await).await;
    a_frame_answers_a_ping(&new().await).await;
    a_session_can_be_ended(&new().await).await;
}

async fn all_due<S: SweepStore>(store: &S, now: UnixMillis) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in 0..PARTS {
        let mut from = None;
        loop {
            let page = store.due(part, from, now).await.expect("due");
            for id in page.ids {
                assert!(found.insert(id.to_string()), "{id} was listed twice");
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
    }
    found
}

async fn read<S: SweepStore>(store: &S) -> Connection {
    let row = store.read(&connection_id("c1")).await.expect("read");
    row.expect("a row")
}

async fn what_is_due_is_found_once_and_nothing_else<S: ConnectionStore + SweepStore>(store: &S) {
    let due_at = |n: u64| START.plus(Duration::from_secs(n));
    for n in 0..150 {
        let row = Connection {
            watch: Watch::until(due_at(n)),
            ..connection(&format!("c{n}"), "alice")
        };
        put(store, &row).await;
    }
    let expected: BTreeSet<_> = (0..=99).map(|n| format!("c{n}")).collect();
    assert_eq!(all_due(store, due_at(99)).await, expected);
    assert!(all_due(store, UnixMillis(START.0 - 1)).await.is_empty());
    store
        .disconnect(&connection_id("c7"), START)
        .await
        .expect("disconnect");
    assert!(!all_due(store, due_at(99)).await.contains("c7"));
    assert_eq!(store.read(&connection_id("c7")).await, Ok(None));
}

async fn a_watch_is_moved_by_one_sweep_alone<S: ConnectionStore + SweepStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let seen = read(store).await;
    let next = Watch {
        told_to_reconnect: true,
        ..Watch::until(START.plus(Duration::from_secs(900)))
    };
    assert_eq!(store.watch(&seen, &next).await, Ok(true));
    let other = Watch::until(START.plus(Duration::from_secs(500)));
    assert_eq!(store.watch(&seen, &other).await, Ok(false));
    assert_eq!(read(store).await.watch, next);
    assert!(
        all_due(store, START.plus(Duration::from_secs(899)))
            .await
            .is_empty()
    );
    assert_eq!(all_due(store, next.due_at).await.len(), 1);
    store.disconnect(&seen.id, START).await.expect("disconnect");
    assert_eq!(store.watch(&seen, &next).await, Ok(false));
    assert_eq!(store.read(&seen.id).await, Ok(None), "no partial row");
}

async fn a_ping_is_noted_unless_a_frame_came_first<S: ConnectionStore + SweepStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let seen = read(store).await;
    let seen_at = START.plus(Duration::from_secs(1));
    assert!(touch_at(store, "c1", seen_at).await.is_ok());
    let pinged = Watch {
        pinged_at: Some(START.plus(Duration::from_secs(2))),
        ..Watch::until(START.plus(Duration::from_secs(32)))
    };
    assert_eq!(store.watch(&seen, &pinged).await, Ok(false));
    assert_eq!(read(store).await.watch, seen.watch);
    // What needs no answer is noted all the same.
    let moved = Watch::until(START.plus(Duration::from_secs(90)));
    assert_eq!(store.watch(&seen, &moved).await, Ok(true));
}

async fn a_frame_answers_a_ping<S: ConnectionStore + SweepStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let pinged = Watch {
        pinged_at: Some(START.plus(Duration::from_secs(2))),
        unreachable_since: Some(START),
        ..Watch::until(START.plus(Duration::from_secs(32)))
    };
    assert_eq!(store.watch(&read(store).await, &pinged).await, Ok(true));
    assert_eq!(read(store).await.watch, pinged);
    // The clock of whoever handles the frame may be behind the sweeper's.
    let seen_at = START.plus(Duration::from_secs(1));
    assert!(touch_at(store, "c1", seen_at).await.is_ok());
    let answered = Watch {
        pinged_at: None,
        unreachable_since: None,
        ..pinged
    };
    assert_eq!(read(store).await.watch, answered);
}

async fn a_session_can_be_ended<S: ConnectionStore + SweepStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let row = read(store).await;
    for _ in 0..2 {
        assert_eq!(store.end_session(&row, START).await, Ok(()));
    }
    assert_eq!(
        touch_at(store, "c1", START).await,
        Err(NotServed::TokenExpired)
    );
    let later = START.plus(Duration::from_secs(60));
    store.end_session(&row, later).await.expect("end_session");
    let now = read(store).await;
    assert_eq!(now.token_expires_at, START.to_seconds(), "an end stays");
    store.disconnect(&row.id, START).await.expect("disconnect");
    assert_eq!(store.end_session(&row, START).await, Ok(()));
    assert_eq!(store.read(&row.id).await, Ok(None), "no partial row");
}
