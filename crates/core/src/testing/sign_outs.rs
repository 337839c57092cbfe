use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use super::{
    FakeStore, LIMITS, START, Store, admit, connection, connection_id, find, live, put, touch_at,
    user_id,
};
use crate::connections::Connection;
use crate::ports::{Admission, Admitted, NotServed, SignOuts, StoreError, Touched};
use crate::time::{UnixMillis, UnixSeconds};

impl SignOuts for FakeStore {
    async fn sign_out(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let mut state = self.working("sign_out")?;
        let mark = state
            .signed_out
            .entry(user.clone())
            .or_insert(now.to_seconds());
        *mark = now.to_seconds().max(*mark);
        let rows = state.rows.values().map(|row| &row.connection);
        let rows = rows.filter(|row| row.user_id == *user);
        Ok(rows.map(|row| row.id.clone()).collect())
    }

    async fn end_session(&self, seen: &Connection, now: UnixMillis) -> Result<(), StoreError> {
        let mut state = self.working("end_session")?;
        let row = state.rows.get_mut(&seen.id);
        if let Some(row) = row.filter(|row| row.connection.connected_at == seen.connected_at) {
            let end = &mut row.connection.token_expires_at;
            *end = now.to_seconds().min(*end);
        }
        Ok(())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_user_who_was_signed_out_needs_a_newer_token(&new().await).await;
    a_session_can_be_ended(&new().await).await;
}

async fn a_user_who_was_signed_out_needs_a_newer_token<S: Store>(store: &S) {
    let alice = user_id("alice");
    put(store, &connection("a1", "alice")).await;
    put(store, &connection("b1", "bob")).await;
    assert_eq!(store.signed_out_at(&alice).await, Ok(None));
    for _ in 0..2 {
        let listed = store.sign_out(&alice, START).await;
        assert_eq!(listed, Ok(vec![connection_id("a1")]));
    }
    assert_eq!(
        store.signed_out_at(&alice).await,
        Ok(Some(START.to_seconds()))
    );
    let row = connection("a2", "alice");
    assert_eq!(admit(store, &row, LIMITS).await, Admitted::SignedOut);
    assert_eq!(live(store, "a2").await, None);
    let newer = Admission {
        connection: &row,
        token_issued_at: UnixSeconds(START.to_seconds().0 + 1),
        replaces: None,
    };
    assert_eq!(store.admit(newer, LIMITS).await, Ok(Admitted::Yes));
    let earlier = START.minus(Duration::from_secs(60));
    store.sign_out(&alice, earlier).await.expect("sign_out");
    let mark = store.signed_out_at(&alice).await;
    assert_eq!(mark, Ok(Some(START.to_seconds())), "it never moves back");
    assert_eq!(store.signed_out_at(&user_id("nobody")).await, Ok(None));
    assert_eq!(store.sign_out(&user_id("nobody"), START).await, Ok(vec![]));
}

async fn a_session_can_be_ended<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let row = find(store, "c1").await.expect("a row");
    let of_another_time = Connection {
        connected_at: START.plus(Duration::from_secs(1)),
        ..row.clone()
    };
    assert_eq!(store.end_session(&of_another_time, START).await, Ok(()));
    assert_eq!(find(store, "c1").await.as_ref(), Some(&row), "another row");
    for _ in 0..2 {
        assert_eq!(store.end_session(&row, START).await, Ok(()));
    }
    assert_eq!(
        touch_at(store, "c1", START).await,
        Touched::NotServed(NotServed::TokenExpired)
    );
    let later = START.plus(Duration::from_secs(60));
    store.end_session(&row, later).await.expect("end_session");
    let now = find(store, "c1").await.expect("a row");
    assert_eq!(now.token_expires_at, START.to_seconds(), "an end stays");
    store.disconnect(&row.id, START).await.expect("disconnect");
    assert_eq!(store.end_session(&row, START).await, Ok(()));
    assert_eq!(store.find(&row.id).await, Ok(None), "no partial row");
}
