use std::time::Duration;

use belfry_protocol::{Failures, MessageId};

use crate::ports::{Begun, BroadcastRecord, BroadcastStore, Lease, Progress, Taken};
use crate::testing::{START, connection_id};
use crate::time::{UnixMillis, UnixSeconds};

pub(super) async fn keep<S: BroadcastStore>(new: impl AsyncFn() -> S) {
    a_broadcast_is_begun_once(&new().await).await;
    a_segment_is_one_workers_at_a_time(&new().await).await;
    a_repeated_invocation_goes_on_at_once(&new().await).await;
    whoever_has_lost_a_segment_writes_nothing(&new().await).await;
    a_broadcast_is_finished_by_one(&new().await).await;
    turns_are_taken_one_after_the_other(&new().await).await;
}

const MINUTE: Duration = Duration::from_secs(60);
const END: UnixSeconds = UnixSeconds(START.0 / 1_000 + 86_400);

fn id(text: &str) -> MessageId {
    MessageId::parse(text).expect("a message id")
}

fn record() -> BroadcastRecord {
    BroadcastRecord {
        request: r#"{"target":{"type":"all"}}"#.into(),
        started_at: START,
        segments: 3,
    }
}

async fn take<S: BroadcastStore>(store: &S, owner: &str, now: UnixMillis) -> Taken {
    let id = id("m");
    let taken = store.take(&id, 1, owner, now, now.plus(MINUTE), END);
    taken.await.expect("taken")
}

async fn taken<S: BroadcastStore>(store: &S, owner: &str, now: UnixMillis) -> Lease {
    match take(store, owner, now).await {
        Taken::Yes(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn halfway() -> Progress {
    Progress {
        cursor: Some("c7".into()),
        is_listed: false,
        pending: vec![connection_id("c3"), connection_id("c5")],
        success: 5,
        failures: Failures {
            gone: 1,
            throttled: 2,
            too_large: 3,
            failed: 4,
            not_attempted: 0,
        },
        is_done: false,
    }
}

async fn a_broadcast_is_begun_once<S: BroadcastStore>(store: &S) {
    assert_eq!(store.record(&id("m")).await, Ok(None));
    assert_eq!(store.begin(&id("m"), &record(), END).await, Ok(Begun::New));
    let other = BroadcastRecord {
        request: "{}".into(),
        ..record()
    };
    let again = store.begin(&id("m"), &other, END).await;
    assert_eq!(again, Ok(Begun::Known(record())));
    assert_eq!(store.record(&id("m")).await, Ok(Some(record())));
    assert_eq!(store.begin(&id("n"), &other, END).await, Ok(Begun::New));
    assert_eq!(store.segments(&id("m")).await, Ok(vec![]));
}

async fn a_segment_is_one_workers_at_a_time<S: BroadcastStore>(store: &S) {
    let mut lease = taken(store, "one", START).await;
    assert_eq!(lease.progress, Progress::default());
    let until = START.plus(MINUTE);
    assert_eq!(take(store, "two", START).await, Taken::Held(until));
    lease.progress = halfway();
    let longer = until.plus(MINUTE);
    for _ in 0..2 {
        let written = store.checkpoint(&id("m"), 1, &lease, longer).await;
        assert_eq!(written, Ok(true), "a repetition is the same");
    }
    assert_eq!(take(store, "two", until).await, Taken::Held(longer));
    let views = store.segments(&id("m")).await.expect("segments");
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].0, views[0].1.held_until), (1, longer));
    assert_eq!(views[0].1.progress, halfway());

    let mut next = taken(store, "two", longer).await;
    assert_eq!(next.progress, halfway());
    next.progress.is_done = true;
    let written = store.checkpoint(&id("m"), 1, &next, longer).await;
    assert_eq!(written, Ok(true));
    assert_eq!(take(store, "three", longer.plus(MINUTE)).await, Taken::Done);
}

async fn a_repeated_invocation_goes_on_at_once<S: BroadcastStore>(store: &S) {
    let first = taken(store, "one", START).await;
    let second = taken(store, "one", START).await;
    assert!(second.version > first.version);
    let written = store.checkpoint(&id("m"), 1, &first, START).await;
    assert_eq!(written, Ok(false), "the first is dead, or should be");
}

async fn whoever_has_lost_a_segment_writes_nothing<S: BroadcastStore>(store: &S) {
    let mut slow = taken(store, "slow", START).await;
    let later = START.plus(MINUTE);
    let mut fast = taken(store, "fast", later).await;
    fast.progress = halfway();
    let until = later.plus(MINUTE);
    assert_eq!(store.checkpoint(&id("m"), 1, &fast, until).await, Ok(true));
    slow.progress.success = 99;
    assert_eq!(store.checkpoint(&id("m"), 1, &slow, until).await, Ok(false));
    let views = store.segments(&id("m")).await.expect("segments");
    assert_eq!(views[0].1.progress, halfway());
}

async fn a_broadcast_is_finished_by_one<S: BroadcastStore>(store: &S) {
    store.begin(&id("m"), &record(), END).await.expect("begun");
    assert_eq!(store.finish(&id("m"), START).await, Ok(true));
    assert_eq!(store.finish(&id("m"), START).await, Ok(false));
    assert_eq!(store.record(&id("m")).await, Ok(Some(record())));
}

async fn turns_are_taken_one_after_the_other<S: BroadcastStore>(store: &S) {
    let turn = |name: &'static str, now: UnixMillis| async move {
        store
            .take_turn(&id(name), now, MINUTE)
            .await
            .expect("a turn")
    };
    assert_eq!(turn("m", START).await, None);
    assert_eq!(turn("m", START).await, None, "its own repetition");
    let soon = START.plus(Duration::from_secs(10));
    assert_eq!(turn("n", soon).await, Some(Duration::from_secs(50)));
    assert_eq!(turn("n", START.plus(MINUTE)).await, None);
    let wait = turn("o", START.plus(MINUTE)).await;
    assert_eq!(wait, Some(MINUTE));
}
