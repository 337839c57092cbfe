use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use belfry_protocol::ConnectionId;
use futures_util::stream::{self, Stream, StreamExt};

use super::{FakeStore, START, Store, connection, connection_id, find, put, touch_at};
use crate::connections::Connection;
use crate::liveness::Liveness;
use crate::ports::{DueConnections, StoreError, Touched};
use crate::time::UnixMillis;

impl DueConnections for FakeStore {
    fn due(&self, now: UnixMillis) -> impl Stream<Item = Result<ConnectionId, StoreError>> + Send {
        let due = self.working("due").map(|state| {
            let rows = state.rows.values().map(|row| &row.connection);
            let mut due: Vec<_> = rows
                .map(|row| (row.liveness.due_at, row.id.clone()))
                .filter(|(due_at, _)| *due_at <= now)
                .collect();
            due.sort_unstable();
            due
        });
        let due: Vec<_> = match due {
            Ok(due) => due.into_iter().map(|(_, id)| Ok(id)).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(due)
    }

    async fn record_liveness(
        &self,
        seen: &Connection,
        next: &Liveness,
    ) -> Result<bool, StoreError> {
        let mut state = self.working("record_liveness")?;
        let row = state.rows.get_mut(&seen.id).filter(|row| {
            let now = &row.connection;
            now.liveness.due_at == seen.liveness.due_at
                && (next.pinged_at.is_none() || now.last_seen_at == seen.last_seen_at)
        });
        let recorded = row.map(|row| {
            row.connection.liveness = Liveness {
                replaced_at: row.connection.liveness.replaced_at,
                reconnect_sent: row.connection.liveness.reconnect_sent || next.reconnect_sent,
                ..*next
            };
        });
        Ok(recorded.is_some())
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    due_connections_are_listed_once_and_no_others(&new().await).await;
    liveness_is_recorded_by_one_sweep_only(&new().await).await;
    a_ping_is_recorded_unless_a_frame_came_first(&new().await).await;
    a_frame_answers_a_ping(&new().await).await;
}

async fn all_due<S: Store>(store: &S, now: UnixMillis) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut due = pin!(store.due(now));
    while let Some(id) = due.next().await {
        let id = id.expect("due");
        assert!(found.insert(id.to_string()), "{id} was listed twice");
    }
    found
}

async fn read<S: Store>(store: &S) -> Connection {
    find(store, "c1").await.expect("a row")
}

async fn due_connections_are_listed_once_and_no_others<S: Store>(store: &S) {
    let due_at = |n: u64| START.plus(Duration::from_secs(n));
    for n in 0..150 {
        let row = Connection {
            liveness: Liveness::due_at(due_at(n)),
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
    assert_eq!(store.find(&connection_id("c7")).await, Ok(None));
}

async fn liveness_is_recorded_by_one_sweep_only<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let seen = read(store).await;
    let next = Liveness {
        reconnect_sent: true,
        ..Liveness::due_at(START.plus(Duration::from_secs(900)))
    };
    assert_eq!(store.record_liveness(&seen, &next).await, Ok(true));
    let other = Liveness::due_at(START.plus(Duration::from_secs(500)));
    assert_eq!(store.record_liveness(&seen, &other).await, Ok(false));
    assert_eq!(read(store).await.liveness, next);
    assert!(
        all_due(store, START.plus(Duration::from_secs(899)))
            .await
            .is_empty()
    );
    assert_eq!(all_due(store, next.due_at).await.len(), 1);
    store.disconnect(&seen.id, START).await.expect("disconnect");
    assert_eq!(store.record_liveness(&seen, &next).await, Ok(false));
    assert_eq!(store.find(&seen.id).await, Ok(None), "no partial row");
}

async fn a_ping_is_recorded_unless_a_frame_came_first<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let seen = read(store).await;
    let seen_at = START.plus(Duration::from_secs(1));
    assert!(matches!(
        touch_at(store, "c1", seen_at).await,
        Touched::Live(_)
    ));
    let pinged = Liveness {
        pinged_at: Some(START.plus(Duration::from_secs(2))),
        ..Liveness::due_at(START.plus(Duration::from_secs(32)))
    };
    assert_eq!(store.record_liveness(&seen, &pinged).await, Ok(false));
    assert_eq!(read(store).await.liveness, seen.liveness);
    // Liveness without an unanswered ping is recorded all the same.
    let moved = Liveness::due_at(START.plus(Duration::from_secs(90)));
    assert_eq!(store.record_liveness(&seen, &moved).await, Ok(true));
}

async fn a_frame_answers_a_ping<S: Store>(store: &S) {
    put(store, &connection("c1", "alice")).await;
    let pinged = Liveness {
        pinged_at: Some(START.plus(Duration::from_secs(2))),
        unreachable_since: Some(START),
        ..Liveness::due_at(START.plus(Duration::from_secs(32)))
    };
    assert_eq!(
        store.record_liveness(&read(store).await, &pinged).await,
        Ok(true)
    );
    assert_eq!(read(store).await.liveness, pinged);
    // The clock of the frame's function may be behind the sweeper's.
    let seen_at = START.plus(Duration::from_secs(1));
    assert!(matches!(
        touch_at(store, "c1", seen_at).await,
        Touched::Live(_)
    ));
    let answered = Liveness {
        pinged_at: None,
        unreachable_since: None,
        ..pinged
    };
    assert_eq!(read(store).await.liveness, answered);
}
