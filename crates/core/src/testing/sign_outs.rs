use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use super::{
    BUCKET, FakeStore, LIMITS, START, Store, admit, connection, connection_id, find, live, put,
    touch_at, user_id,
};
use crate::channels::Claims;
use crate::connections::{Connection, END_BY_SIGN_OUT};
use crate::ports::{
    Admission, Admitted, Extended, Extension, NotServed, SignOuts, StoreError, Touched,
};
use crate::time::{UnixMillis, UnixSeconds};

impl SignOuts for FakeStore {
    async fn sign_out(
        &self,
        user: &UserId,
        void_until: UnixSeconds,
        _now: UnixMillis,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let mut state = self.working("sign_out")?;
        let mark = state.signed_out.entry(user.clone()).or_insert(void_until);
        *mark = void_until.max(*mark);
        let rows = state.rows.values().map(|row| &row.connection);
        let rows = rows.filter(|row| row.user_id == *user);
        Ok(rows.map(|row| row.id.clone()).collect())
    }

    async fn end_session(
        &self,
        user: &UserId,
        id: &ConnectionId,
        now: UnixMillis,
    ) -> Result<Option<Connection>, StoreError> {
        let mut state = self.working("end_session")?;
        let row = state.rows.get_mut(id).map(|row| &mut row.connection);
        let row = row.filter(|row| row.user_id == *user);
        let row = row.map(|row| {
            row.token_expires_at = END_BY_SIGN_OUT;
            row.liveness.due_at = now;
            row.clone()
        });
        if row.is_some() {
            state.end_subscriptions(id, now);
        }
        Ok(row)
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
        let listed = sign_out(store, &alice, START).await;
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
    sign_out(store, &alice, earlier).await.expect("sign_out");
    let mark = store.signed_out_at(&alice).await;
    assert_eq!(mark, Ok(Some(START.to_seconds())), "it never moves back");
    assert_eq!(store.signed_out_at(&user_id("nobody")).await, Ok(None));
    assert_eq!(sign_out(store, &user_id("nobody"), START).await, Ok(vec![]));
}

async fn sign_out<S: Store>(
    store: &S,
    user: &UserId,
    now: UnixMillis,
) -> Result<Vec<ConnectionId>, StoreError> {
    store.sign_out(user, now.to_seconds(), now).await
}

async fn a_session_can_be_ended<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let row = find(store, "c1").await.expect("a row");
    let bobs = store.end_session(&user_id("bob"), &row.id, START).await;
    assert_eq!(bobs, Ok(None));
    assert_eq!(find(store, "c1").await.as_ref(), Some(&row), "not bob's");
    let mut ended = row.clone();
    ended.token_expires_at = END_BY_SIGN_OUT;
    // The next sweep closes it.
    ended.liveness.due_at = START;
    for _ in 0..2 {
        let result = store.end_session(&row.user_id, &row.id, START).await;
        assert_eq!(result, Ok(Some(ended.clone())));
    }
    assert_eq!(
        touch_at(store, "c1", START).await,
        Touched::NotServed(NotServed::SignedOut)
    );
    // A refresh that began long before the sign-out.
    let earlier = START.minus(Duration::from_secs(600));
    let extension = Extension {
        user_id: user_id("alice"),
        expires_at: UnixSeconds(row.token_expires_at.0 + 60),
        claims: Claims::default(),
    };
    let extended = store.extend(&row.id, &extension, &BUCKET, earlier).await;
    let over = Ok(Extended::NotServed(NotServed::SignedOut));
    assert_eq!(extended, over, "an end stays");
    assert_eq!(find(store, "c1").await, Some(ended));
    store.disconnect(&row.id, START).await.expect("disconnect");
    let of_nobody = store.end_session(&row.user_id, &row.id, START).await;
    assert_eq!(of_nobody, Ok(None));
    assert_eq!(store.find(&row.id).await, Ok(None), "no partial row");
}
