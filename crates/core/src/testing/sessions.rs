use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use super::{
    BUCKET, FakeStore, START, Store, connection, connection_id, live, put, tenant, touch_at,
    user_id,
};
use crate::channels::Claims;
use crate::connections::Connection;
use crate::frames::TokenBucket;
use crate::ports::{
    Consistency, Extended, Extension, NotServed, Segment, SessionRefresh, Sessions, StoreError,
    Touched,
};
use crate::time::{UnixMillis, UnixSeconds};

impl Sessions for FakeStore {
    async fn touch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let mut state = self.working("touch")?;
        let Some(row) = state.rows.get_mut(id) else {
            return Ok(Touched::NotServed(NotServed::Unknown));
        };
        let why = row.not_served(now).or_else(|| row.count_frame(bucket, now));
        Ok(match why {
            Some(why) => Touched::NotServed(why),
            None => Touched::Live(row.connection.clone()),
        })
    }

    async fn begin_session(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let mut touched = self.touch(id, bucket, now).await?;
        if let Touched::Live(connection) = &mut touched {
            connection.has_session = true;
            let mut state = self.working("begin_session")?;
            let row = state.rows.get_mut(id).expect("no removal in between");
            row.connection.has_session = true;
        }
        Ok(touched)
    }

    async fn accept_batch(
        &self,
        id: &ConnectionId,
        bucket: &TokenBucket,
        begins_session: bool,
        now: UnixMillis,
    ) -> Result<Touched, StoreError> {
        let mut touched = if begins_session {
            self.begin_session(id, bucket, now).await?
        } else {
            self.touch(id, bucket, now).await?
        };
        if let Touched::Live(connection) = &mut touched {
            connection.accepts_batch = true;
            let mut state = self.working("accept_batch")?;
            let row = state.rows.get_mut(id).expect("no removal in between");
            row.connection.accepts_batch = true;
        }
        Ok(touched)
    }
}

impl SessionRefresh for FakeStore {
    async fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        let mut state = self.working("extend")?;
        let Some(row) = state.rows.get_mut(id) else {
            return Ok(Extended::NotServed(NotServed::Unknown));
        };
        if let Some(why) = row.not_served(now) {
            return Ok(Extended::NotServed(why));
        }
        Ok(match row.count_frame(bucket, now) {
            Some(why) => Extended::NotServed(why),
            None if row.connection.user_id != extension.user_id => Extended::OtherUser,
            None => {
                let connection = &mut row.connection;
                if extension.expires_at > connection.token_expires_at {
                    connection.token_expires_at = extension.expires_at;
                    connection.claims = extension.claims.clone();
                }
                Extended::Until(connection.clone())
            }
        })
    }

    async fn signed_out_at(&self, user: &UserId) -> Result<Option<UnixSeconds>, StoreError> {
        let state = self.working("signed_out_at")?;
        Ok(state.signed_out.get(user).copied())
    }
}

fn is_live(touched: &Touched) -> bool {
    matches!(touched, Touched::Live(_))
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    touch_marks_and_returns_the_whole_row(&new().await).await;
    touch_creates_nothing(&new().await).await;
    a_frame_takes_a_token_from_the_bucket(&new().await).await;
    a_full_bucket_forgets_refusals(&new().await).await;
    a_session_is_only_ever_extended(&new().await).await;
    an_extension_replaces_the_claims(&new().await).await;
    a_session_is_marked_for_good(&new().await).await;
    a_client_accepts_batches_for_good(&new().await).await;
    a_session_that_is_over_is_not_extended(&new().await).await;
    an_extension_is_a_frame_like_any_other(&new().await).await;
}

fn extension(user: &str, expires_at: UnixSeconds) -> Extension {
    Extension {
        user_id: user_id(user),
        expires_at,
        claims: Claims::default(),
    }
}

async fn extend<S: Store>(store: &S, end: UnixSeconds, now: UnixMillis) -> Extended {
    let (id, extension) = (connection_id("c1"), extension("alice", end));
    let extended = store.extend(&id, &extension, &BUCKET, now).await;
    extended.expect("extend")
}

async fn touch_marks_and_returns_the_whole_row<S: Store>(store: &S) {
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
        assert_eq!(touched, Touched::Live(seen));
    }
}

async fn touch_creates_nothing<S: Store>(store: &S) {
    assert_eq!(live(store, "nobody").await, None);
    let row = Connection {
        token_expires_at: UnixSeconds(START.to_seconds().0 + 60),
        expires_at: UnixSeconds(START.to_seconds().0 + 120),
        ..connection("c1", "alice")
    };
    put(store, &row).await;
    let (token, end) = (row.token_expires_at.to_millis(), row.expires_at.to_millis());
    let just_before = UnixMillis(token.0 - 1);
    assert!(is_live(&touch_at(store, "c1", just_before).await));
    assert_eq!(
        touch_at(store, "c1", token).await,
        Touched::NotServed(NotServed::TokenExpired)
    );
    let unknown = touch_at(store, "c1", end).await;
    assert_eq!(
        unknown,
        Touched::NotServed(NotServed::Unknown),
        "an expired row is not revived"
    );
    assert_eq!(live(store, "nobody").await, None);
}

async fn a_frame_takes_a_token_from_the_bucket<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let bucket = TokenBucket {
        interval: Duration::from_secs(1),
        burst: 3,
    };
    let touch = async |after_ms| {
        let now = START.plus(Duration::from_millis(after_ms));
        let touched = store.touch(&connection_id("c1"), &bucket, now).await;
        touched.expect("touch")
    };
    for _ in 0..3 {
        assert!(is_live(&touch(0).await));
    }
    for refusals in 1..3 {
        let over = Touched::NotServed(NotServed::RateLimited {
            retry_after: Duration::from_millis(600),
            refusals,
        });
        assert_eq!(touch(400).await, over);
    }
    let Touched::Live(row) = touch(1_000).await else {
        panic!("a client that waits is served");
    };
    assert_eq!(row.last_seen_at, START.plus(Duration::from_secs(1)));
    assert!(matches!(
        touch(1_000).await,
        Touched::NotServed(NotServed::RateLimited { refusals: 3, .. })
    ));
}

async fn a_full_bucket_forgets_refusals<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let bucket = TokenBucket {
        interval: Duration::from_secs(1),
        burst: 1,
    };
    for round in 0..2 {
        let now = START.plus(Duration::from_secs(round));
        for refusals in 0..3 {
            let touched = store.touch(&connection_id("c1"), &bucket, now).await;
            match touched.expect("touch") {
                Touched::Live(_) => assert_eq!(refusals, 0),
                Touched::NotServed(NotServed::RateLimited { refusals: told, .. }) => {
                    assert_eq!(told, refusals)
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn end(extended: &Extended) -> UnixSeconds {
    match extended {
        Extended::Until(connection) => connection.token_expires_at,
        other => panic!("{other:?}"),
    }
}

async fn an_extension_replaces_the_claims<S: Store>(store: &S) {
    let row = Connection {
        claims: tenant("a"),
        ..connection("c1", "alice")
    };
    put(store, &row).await;
    let mut extension = extension("alice", UnixSeconds(row.token_expires_at.0 + 60));
    extension.claims = tenant("b");
    let extended = store.extend(&row.id, &extension, &BUCKET, START).await;
    let expected = Connection {
        claims: tenant("b"),
        token_expires_at: extension.expires_at,
        ..row.clone()
    };
    assert_eq!(extended, Ok(Extended::Until(expected.clone())));
    // A token that does not extend the session changes nothing.
    extension.claims = tenant("c");
    let extended = store.extend(&row.id, &extension, &BUCKET, START).await;
    assert_eq!(extended, Ok(Extended::Until(expected)));
}

async fn a_session_is_marked_for_good<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let (c1, c2) = (connection_id("c1"), connection_id("c2"));
    let begun = store.begin_session(&c1, &BUCKET, START).await;
    let marked = |row: &Connection| row.has_session;
    assert!(matches!(begun, Ok(Touched::Live(row)) if marked(&row)));
    assert!(live(store, "c1").await.is_some_and(|row| marked(&row)));
    let unknown = store.begin_session(&c2, &BUCKET, START).await;
    assert_eq!(unknown, Ok(Touched::NotServed(NotServed::Unknown)));
    assert_eq!(live(store, "c2").await, None, "no partial row");
}

async fn a_client_accepts_batches_for_good<S: Store>(store: &S) {
    for (id, begins_session) in [("c1", false), ("c2", true)] {
        put(store, &connection(id, "alice")).await;
        let id = connection_id(id);
        let listed = async || {
            store
                .of_ids(std::slice::from_ref(&id), START)
                .await
                .expect("rows")
        };
        assert!(!listed().await[0].accepts_batch);
        let accepted = store.accept_batch(&id, &BUCKET, begins_session, START);
        let accepted = accepted.await;
        let Ok(Touched::Live(row)) = accepted else {
            panic!("{accepted:?}")
        };
        assert!(row.accepts_batch);
        assert_eq!(row.has_session, begins_session);
        let touched = store.touch(&id, &BUCKET, START).await;
        assert_eq!(touched, Ok(Touched::Live(row.clone())));
        // Every consistent listing knows it.
        assert!(listed().await[0].accepts_batch);
        let of_user = store.of_user(&row.user_id, Consistency::Strong, START);
        let of_user = of_user.await.expect("rows");
        assert!(of_user.iter().all(|one| one.accepts_batch));
        let whole = Segment { index: 0, total: 1 };
        let page = store.scan(whole, None, Consistency::Strong, START).await;
        let page = page.expect("a page").recipients;
        assert!(page.iter().all(|one| one.accepts_batch));
    }
    let unknown = connection_id("c3");
    let touched = store.accept_batch(&unknown, &BUCKET, true, START).await;
    assert_eq!(touched, Ok(Touched::NotServed(NotServed::Unknown)));
    assert_eq!(live(store, "c3").await, None, "no partial row");
}

async fn a_session_is_only_ever_extended<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let later = UnixSeconds(row.token_expires_at.0 + 60);
    for _ in 0..2 {
        let extended = extend(store, later, START).await;
        assert_eq!(end(&extended), later, "repeating it changes nothing");
    }
    let earlier = extend(store, row.token_expires_at, START).await;
    assert_eq!(end(&earlier), later, "a later end stays");
    let now = live(store, "c1").await.expect("a row");
    assert_eq!(now.token_expires_at, later);
    let of_alice = store
        .of_user(&user_id("alice"), Consistency::Eventual, START)
        .await;
    let ends: Vec<_> = of_alice
        .expect("of_user")
        .iter()
        .map(|r| r.token_expires_at)
        .collect();
    assert_eq!(ends, [later], "listings have it, too");
}

async fn a_session_that_is_over_is_not_extended<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    let later = UnixSeconds(row.token_expires_at.0 + 60);
    let nobody = extend(store, later, START).await;
    assert_eq!(nobody, Extended::NotServed(NotServed::Unknown));
    assert_eq!(live(store, "c1").await, None, "no partial row");
    put(store, &row).await;
    let over = row.token_expires_at.to_millis();
    let not = extend(store, later, over).await;
    assert_eq!(not, Extended::NotServed(NotServed::TokenExpired));
    let ended = extend(store, later, row.expires_at.to_millis()).await;
    assert_eq!(ended, Extended::NotServed(NotServed::Unknown));
    let of_bob = extension("bob", later);
    let others = store.extend(&row.id, &of_bob, &BUCKET, START).await;
    assert_eq!(others, Ok(Extended::OtherUser));
    assert_eq!(live(store, "c1").await, Some(row));
}

async fn an_extension_is_a_frame_like_any_other<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    put(store, &row).await;
    let bucket = TokenBucket {
        interval: Duration::from_secs(1),
        burst: 2,
    };
    // However long the client was silent, a full bucket holds its burst and no
    // more, whether the frames extend the session or not.
    for (minutes, user, extends) in [(1, "alice", true), (2, "alice", false), (3, "bob", true)] {
        let now = START.plus(Duration::from_secs(minutes * 60));
        for n in 1..=4 {
            let more = if extends { n } else { 0 };
            let end = UnixSeconds(row.token_expires_at.0 + more);
            let extension = extension(user, end);
            let extended = store.extend(&row.id, &extension, &bucket, now).await;
            match extended.expect("extend") {
                Extended::Until(until) => {
                    let until = until.token_expires_at;
                    assert!(until >= end && n <= 2 && user == "alice", "{n}");
                }
                Extended::OtherUser => assert!(n <= 2 && user == "bob", "{n}"),
                Extended::NotServed(NotServed::RateLimited { .. }) => assert!(n > 2, "{n}"),
                other => panic!("{other:?}"),
            }
        }
    }
    let row = store.of_ids(&[row.id], START).await.expect("of_ids");
    let longest = START.to_seconds().0 + 3_602;
    assert_eq!(row[0].token_expires_at, UnixSeconds(longest));
}
