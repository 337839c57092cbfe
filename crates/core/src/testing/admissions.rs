use belfry_protocol::ConnectionId;
use futures_util::future::join_all;

use super::store::Row;
use super::{FakeStore, LIMITS, START, Store, admit, connection, connection_id, find, live, put};
use crate::connections::{Connection, ConnectionLimits, Recipient};
use crate::hooks::PendingEvent;
use crate::ports::{Admission, Admissions, Admitted, Capacity, ConnectionLookup, StoreError};

impl Admissions for FakeStore {
    async fn admit(
        &self,
        admission: Admission<'_>,
        limits: ConnectionLimits,
    ) -> Result<Admitted, StoreError> {
        let mut state = self.working("admit")?;
        let new = admission.connection;
        if let Some(old) = state.rows.get(&new.id).map(|row| &row.connection) {
            let same = old.user_id == new.user_id && old.connected_at == new.connected_at;
            return Ok(if same {
                Admitted::Yes
            } else {
                Admitted::IdTaken
            });
        }
        if state.ended.contains(&new.id) {
            return Ok(Admitted::Ended);
        }
        if let Some(mark) = state.signed_out.get(&new.user_id)
            && admission.token_issued_at <= *mark
        {
            return Ok(Admitted::SignedOut);
        }
        let count = |matches: &dyn Fn(&Row) -> bool| {
            state.rows.values().filter(|row| matches(row)).count() as u64
        };
        let total = count(&Row::counts);
        let of_user = count(&|row| row.connection.user_id == new.user_id);
        let mut first = None;
        let replaced = admission
            .replaces
            .and_then(|id| state.rows.get_mut(id))
            .filter(|row| row.connection.user_id == new.user_id && row.counts())
            .filter(|row| !row.connection.is_signed_out());
        if let Some(row) = replaced {
            if of_user >= 2 * limits.per_user {
                return Ok(Admitted::UserAtCapacity);
            }
            row.connection.liveness.replaced_at = Some(new.connected_at);
            let old = &row.connection;
            if old.has_session {
                let owner = old.lock_owner().clone();
                let both = [old.id.clone(), new.id.clone()];
                first = Some(owner.clone());
                state.lock_owners.entry(owner).or_default().extend(both);
            }
        } else if of_user >= limits.per_user {
            return Ok(Admitted::UserAtCapacity);
        } else if total >= limits.total {
            return Ok(Admitted::AtCapacity);
        }
        let row = Connection {
            has_session: new.has_session || first.is_some(),
            first,
            ..new.clone()
        };
        state.rows.insert(new.id.clone(), Row::new(&row));
        state.write_event(PendingEvent::opened(new));
        Ok(Admitted::Yes)
    }
}

impl Capacity for FakeStore {
    async fn open_connections(&self) -> Result<u64, StoreError> {
        let state = self.working("open_connections")?;
        Ok(state.rows.values().filter(|row| row.counts()).count() as u64)
    }
}

impl ConnectionLookup for FakeStore {
    async fn find(&self, id: &ConnectionId) -> Result<Option<Connection>, StoreError> {
        self.responds("find").await;
        let state = self.working("find")?;
        Ok(state.rows.get(id).map(|row| row.connection.clone()))
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    admitting_is_idempotent_and_never_overwrites(&new().await).await;
    no_row_comes_after_a_disconnect(&new().await).await;
    for total in [1, 5, 20] {
        there_are_no_more_rows_than_allowed(&new().await, total).await;
    }
    a_user_has_no_more_rows_than_allowed(&new().await).await;
    a_successor_counts_instead_of_its_predecessor(&new().await).await;
    a_successor_that_has_ended_does_not_come_back(&new().await).await;
    only_an_own_connection_can_be_replaced(&new().await).await;
}

const FEW: ConnectionLimits = ConnectionLimits {
    total: 20,
    per_user: 3,
};

async fn replace<S: Store>(store: &S, row: &Connection, old: &str) -> Admitted {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: Some(&connection_id(old)),
    };
    store.admit(admission, FEW).await.expect("admit")
}

async fn no_row_comes_after_a_disconnect<S: Store>(store: &S) {
    let early = connection("early", "alice");
    assert_eq!(store.disconnect(&early.id, START).await, Ok(()));
    assert_eq!(admit(store, &early, LIMITS).await, Admitted::Ended);
    assert_eq!(live(store, "early").await, None);
    let twice = connection("twice", "alice");
    put(store, &twice).await;
    assert_eq!(store.disconnect(&twice.id, START).await, Ok(()));
    // The same handshake, repeated late.
    admit(store, &twice, LIMITS).await;
    assert_eq!(live(store, "twice").await, None);
}

async fn there_are_no_more_rows_than_allowed<S: Store>(store: &S, total: usize) {
    let limits = ConnectionLimits {
        total: total as u64,
        per_user: 3,
    };
    let rows: Vec<_> = (0..50)
        .map(|n| connection(&format!("c{n}"), &format!("user-{n}")))
        .collect();
    let outcomes = join_all(rows.iter().map(|row| admit(store, row, limits))).await;
    let inserted = outcomes.iter().filter(|o| **o == Admitted::Yes).count();
    assert_eq!(inserted, total, "{outcomes:?}");
    let expected = |outcome: &_| matches!(outcome, Admitted::Yes | Admitted::AtCapacity);
    assert!(outcomes.iter().all(expected));
    assert_eq!(store.open_connections().await, Ok(limits.total));
    let standing = rows
        .iter()
        .zip(outcomes)
        .filter(|(_, o)| *o == Admitted::Yes);
    for (n, (row, _)) in standing.enumerate() {
        for _ in 0..2 {
            if n % 2 == 0 {
                assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
            } else {
                let seen = Recipient::from(row);
                assert_eq!(store.remove_unchanged(&seen, START).await, Ok(()));
            }
        }
        let successor = connection(&format!("n{n}"), &format!("other-{n}"));
        assert_eq!(admit(store, &successor, limits).await, Admitted::Yes);
        let too_many = connection(&format!("m{n}"), "mallory");
        assert_eq!(admit(store, &too_many, limits).await, Admitted::AtCapacity);
    }
    assert_eq!(store.open_connections().await, Ok(limits.total));
}

async fn a_user_has_no_more_rows_than_allowed<S: Store>(store: &S) {
    let rows: Vec<_> = (0..10)
        .map(|n| connection(&format!("c{n}"), "alice"))
        .collect();
    let outcomes = join_all(rows.iter().map(|row| admit(store, row, FEW))).await;
    let (inserted, refused): (Vec<_>, Vec<_>) = rows
        .iter()
        .zip(outcomes)
        .partition(|(_, outcome)| *outcome == Admitted::Yes);
    assert_eq!(inserted.len(), 3);
    assert!(
        refused
            .iter()
            .all(|(_, outcome)| *outcome == Admitted::UserAtCapacity)
    );
    assert_eq!(
        admit(store, &connection("b", "bob"), FEW).await,
        Admitted::Yes
    );
    let (again, _) = inserted[0];
    assert_eq!(
        admit(store, again, FEW).await,
        Admitted::Yes,
        "a repeated handshake"
    );
    assert_eq!(store.disconnect(&again.id, START).await, Ok(()));
    assert_eq!(
        admit(store, &connection("c", "alice"), FEW).await,
        Admitted::Yes
    );
}

async fn a_successor_counts_instead_of_its_predecessor<S: Store>(store: &S) {
    for id in ["a1", "a2", "a3"] {
        assert_eq!(
            admit(store, &connection(id, "alice"), FEW).await,
            Admitted::Yes
        );
    }
    let successor = connection("a4", "alice");
    for _ in 0..2 {
        assert_eq!(replace(store, &successor, "a1").await, Admitted::Yes);
    }
    let old = find(store, "a1").await.expect("a row");
    assert_eq!(old.liveness.replaced_at, Some(START));
    assert_eq!(store.open_connections().await, Ok(3), "the two count once");
    assert!(live(store, "a1").await.is_some(), "until it closes");
    let outcome = replace(store, &connection("a5", "alice"), "a1").await;
    assert_eq!(outcome, Admitted::UserAtCapacity, "it was replaced already");
    assert_eq!(
        replace(store, &connection("a6", "alice"), "a2").await,
        Admitted::Yes
    );
    for old in ["a1", "a2"] {
        assert_eq!(store.disconnect(&connection_id(old), START).await, Ok(()));
    }
    assert_eq!(store.open_connections().await, Ok(3));
    for id in ["a3", "a4", "a6"] {
        assert_eq!(store.disconnect(&connection_id(id), START).await, Ok(()));
    }
    assert_eq!(store.open_connections().await, Ok(0));
}

async fn a_successor_that_has_ended_does_not_come_back<S: Store>(store: &S) {
    put(store, &connection("a1", "alice")).await;
    let successor = connection("a2", "alice");
    assert_eq!(replace(store, &successor, "a1").await, Admitted::Yes);
    assert_eq!(store.disconnect(&successor.id, START).await, Ok(()));
    // The same handshake, repeated late.
    assert_eq!(replace(store, &successor, "a1").await, Admitted::Ended);
    assert_eq!(live(store, "a2").await, None);
}

async fn only_an_own_connection_can_be_replaced<S: Store>(store: &S) {
    put(store, &connection("b1", "bob")).await;
    for id in ["a1", "a2", "a3"] {
        let outcome = replace(store, &connection(id, "alice"), "b1").await;
        assert_eq!(outcome, Admitted::Yes, "`replaces` is ignored");
    }
    for old in ["b1", "nobody"] {
        let outcome = replace(store, &connection("a4", "alice"), old).await;
        assert_eq!(outcome, Admitted::UserAtCapacity);
    }
    assert!(live(store, "b1").await.is_some());
}

async fn admitting_is_idempotent_and_never_overwrites<S: Store>(store: &S) {
    let row = connection("c1", "alice");
    for _ in 0..2 {
        assert_eq!(admit(store, &row, LIMITS).await, Admitted::Yes);
    }
    let of_another_user = connection("c1", "mallory");
    let of_another_time = Connection {
        connected_at: START.plus(std::time::Duration::from_secs(1)),
        ..row.clone()
    };
    for other in [of_another_user, of_another_time] {
        assert_eq!(admit(store, &other, LIMITS).await, Admitted::IdTaken);
    }
    assert_eq!(live(store, "c1").await, Some(row));
}
