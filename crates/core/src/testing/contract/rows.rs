use std::time::Duration;

use super::{insert, live, put, touch_at};
use crate::budget::Budget;
use crate::connection::{Connection, Recipient};
use crate::ports::{ConnectionStore, Extended, Extension, Inserted, NotServed};
use crate::testing::{BUDGET, PLACES, START, connection, connection_id, user_id};
use crate::time::{UnixMillis, UnixSeconds};

pub(super) async fn keep<S: ConnectionStore>(new: impl AsyncFn() -> S) {
    insert_is_idempotent_and_never_overwrites(&new().await).await;
    touch_marks_and_returns_the_whole_row(&new().await).await;
    touch_creates_nothing(&new().await).await;
    a_frame_takes_from_the_budget(&new().await).await;
    a_bucket_that_was_full_forgets_refusals(&new().await).await;
    a_token_is_only_ever_extended(&new().await).await;
    a_session_that_is_over_is_not_extended(&new().await).await;
    an_extension_is_a_frame_like_any_other(&new().await).await;
    disconnect_is_idempotent(&new().await).await;
    remove_unchanged_looks_before_it_removes(&new().await).await;
}

fn extension(user: &str, expires_at: UnixSeconds) -> Extension {
    Extension {
        user_id: user_id(user),
        expires_at,
    }
}

async fn extend<S: ConnectionStore>(store: &S, end: UnixSeconds, now: UnixMillis) -> Extended {
    let (id, extension) = (connection_id("c1"), extension("alice", end));
    let extended = store.extend(&id, &extension, &BUDGET, now).await;
    extended.expect("extend")
}

async fn insert_is_idempotent_and_never_overwrites<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    for _ in 0..2 {
        assert_eq!(insert(store, &row, PLACES).await, Inserted::Yes);
    }
    let of_another_user = connection("c1", "mallory");
    let of_another_time = Connection {
        connected_at: START.plus(Duration::from_secs(1)),
        ..row.clone()
    };
    for other in [of_another_user, of_another_time] {
        assert_eq!(insert(store, &other, PLACES).await, Inserted::Taken);
    }
    assert_eq!(live(store, "c1").await, Some(row));
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
        put(store, &row).await;
        let seen = Connection {
            last_seen_at: later,
            ..row.clone()
        };
        let touched = touch_at(store, row.id.as_str(), later).await;
        assert_eq!(touched, Ok(seen));
    }
}

async fn touch_creates_nothing<S: ConnectionStore>(store: &S) {
    assert_eq!(live(store, "nobody").await, None);
    let row = Connection {
        token_expires_at: UnixSeconds(START.to_seconds().0 + 60),
        expires_at: UnixSeconds(START.to_seconds().0 + 120),
        ..connection("c1", "alice")
    };
    put(store, &row).await;
    let (token, end) = (row.token_expires_at.to_millis(), row.expires_at.to_millis());
    let just_before = UnixMillis(token.0 - 1);
    assert!(touch_at(store, "c1", just_before).await.is_ok());
    assert_eq!(
        touch_at(store, "c1", token).await,
        Err(NotServed::TokenExpired)
    );
    let unknown = touch_at(store, "c1", end).await;
    assert_eq!(
        unknown,
        Err(NotServed::Unknown),
        "an expired row is not revived"
    );
    assert_eq!(live(store, "nobody").await, None);
}

async fn a_frame_takes_from_the_budget<S: ConnectionStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let budget = Budget {
        interval: Duration::from_secs(1),
        burst: 3,
    };
    let touch = async |after_ms| {
        let now = START.plus(Duration::from_millis(after_ms));
        let touched = store.touch(&connection_id("c1"), &budget, now).await;
        touched.expect("touch")
    };
    for _ in 0..3 {
        assert!(touch(0).await.is_ok());
    }
    for refusals in 1..3 {
        let over = Err(NotServed::OverBudget {
            retry_after: Duration::from_millis(600),
            refusals,
        });
        assert_eq!(touch(400).await, over);
    }
    let Ok(row) = touch(1_000).await else {
        panic!("whoever waits is served");
    };
    assert_eq!(row.last_seen_at, START.plus(Duration::from_secs(1)));
    assert!(matches!(
        touch(1_000).await,
        Err(NotServed::OverBudget { refusals: 3, .. })
    ));
}

async fn a_bucket_that_was_full_forgets_refusals<S: ConnectionStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let budget = Budget {
        interval: Duration::from_secs(1),
        burst: 1,
    };
    for round in 0..2 {
        let now = START.plus(Duration::from_secs(round));
        for refusals in 0..3 {
            let touched = store.touch(&connection_id("c1"), &budget, now).await;
            match touched.expect("touch") {
                Ok(_) => assert_eq!(refusals, 0),
                Err(NotServed::OverBudget { refusals: told, .. }) => assert_eq!(told, refusals),
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn a_token_is_only_ever_extended<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let later = UnixSeconds(row.token_expires_at.0 + 60);
    for _ in 0..2 {
        let extended = extend(store, later, START).await;
        assert_eq!(extended, Extended::Until(later), "once is as good as twice");
    }
    let earlier = extend(store, row.token_expires_at, START).await;
    assert_eq!(earlier, Extended::Until(later), "what is later stays");
    let now = live(store, "c1").await.expect("a row");
    assert_eq!(now.token_expires_at, later);
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
    let nobody = extend(store, later, START).await;
    assert_eq!(nobody, Extended::Not(NotServed::Unknown));
    assert_eq!(live(store, "c1").await, None, "no partial row");
    put(store, &row).await;
    let over = row.token_expires_at.to_millis();
    let not = extend(store, later, over).await;
    assert_eq!(not, Extended::Not(NotServed::TokenExpired));
    let ended = extend(store, later, row.expires_at.to_millis()).await;
    assert_eq!(ended, Extended::Not(NotServed::Unknown));
    let of_bob = extension("bob", later);
    let others = store.extend(&row.id, &of_bob, &BUDGET, START).await;
    assert_eq!(others, Ok(Extended::OtherUser));
    assert_eq!(live(store, "c1").await, Some(row));
}

async fn an_extension_is_a_frame_like_any_other<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let budget = Budget {
        interval: Duration::from_secs(1),
        burst: 2,
    };
    let now = START.plus(Duration::from_secs(9));
    for n in 1..=4 {
        let end = UnixSeconds(row.token_expires_at.0 + n);
        let extension = extension("alice", end);
        let extended = store.extend(&row.id, &extension, &budget, now).await;
        match extended.expect("extend") {
            Extended::Until(until) => assert!(until == end && n <= 3),
            Extended::Not(NotServed::OverBudget { .. }) => assert!(n > 2),
            other => panic!("{other:?}"),
        }
    }
    let row = store.of_ids(&[row.id], now).await.expect("of_ids");
    assert!(row[0].token_expires_at.0 <= START.to_seconds().0 + 3_603);
}

async fn disconnect_is_idempotent<S: ConnectionStore>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    put(store, &connection("c2", "alice")).await;
    for _ in 0..2 {
        assert_eq!(store.disconnect(&connection_id("c1"), START).await, Ok(()));
        assert_eq!(live(store, "c1").await, None);
    }
    assert!(live(store, "c2").await.is_some());
}

async fn remove_unchanged_looks_before_it_removes<S: ConnectionStore>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let other = Recipient {
        connected_at: START.plus(Duration::from_secs(1)),
        ..Recipient::from(&row)
    };
    assert_eq!(store.remove_unchanged(&other).await, Ok(()));
    assert!(
        live(store, "c1").await.is_some(),
        "another handshake's row stays"
    );
    for _ in 0..2 {
        assert_eq!(store.remove_unchanged(&Recipient::from(&row)).await, Ok(()));
        assert_eq!(live(store, "c1").await, None);
    }
}
