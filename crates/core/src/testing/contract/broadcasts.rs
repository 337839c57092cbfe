use std::time::Duration;

use belfry_protocol::{Failures, MessageId};

use crate::ports::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastStore, Kept, Lease, Progress, Taken,
};
use crate::testing::{START, connection_id};
use crate::time::{UnixMillis, UnixSeconds};

pub(super) async fn keep<S: BroadcastStore>(new: impl AsyncFn() -> S) {
    a_broadcast_is_begun_once(&new().await).await;
    a_forgotten_id_may_be_used_again(&new().await).await;
    a_segment_is_one_workers_at_a_time(&new().await).await;
    a_segment_may_be_kept_for_anyone(&new().await).await;
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

fn key() -> BroadcastKey {
    BroadcastKey {
        id: id("m"),
        started_at: START,
    }
}

fn record() -> BroadcastRecord {
    BroadcastRecord {
        request: r#"{"target":{"type":"all"}}"#.into(),
        started_at: START,
        segments: 3,
    }
}

async fn take<S: BroadcastStore>(store: &S, owner: &str, now: UnixMillis) -> Taken {
    let key = key();
    let taken = store.take(&key, 1, owner, now, now.plus(MINUTE), END);
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
    assert_eq!(store.record(&id("m"), START).await, Ok(None));
    assert_eq!(store.begin(&id("m"), &record(), END).await, Ok(Begun::New));
    let other = BroadcastRecord {
        request: "{}".into(),
        ..record()
    };
    let again = store.begin(&id("m"), &other, END).await;
    assert_eq!(again, Ok(Begun::Known(record())));
    assert_eq!(store.record(&id("m"), START).await, Ok(Some(record())));
    assert_eq!(store.begin(&id("n"), &other, END).await, Ok(Begun::New));
    assert_eq!(store.segments(&key()).await, Ok(vec![]));
}

async fn a_forgotten_id_may_be_used_again<S: BroadcastStore>(store: &S) {
    store.begin(&id("m"), &record(), END).await.expect("begun");
    let mut lease = taken(store, "one", START).await;
    lease.progress.is_done = true;
    let kept = Kept::ForOwner(START);
    let written = store.checkpoint(&key(), 1, &lease, kept).await;
    assert_eq!(written, Ok(true));
    assert_eq!(store.finish(&key(), START).await, Ok(true));
    let after = END.to_millis();
    assert_eq!(store.record(&id("m"), after).await, Ok(None));
    // Whether or not anything of the old one is still there.
    let next = BroadcastRecord {
        started_at: after,
        ..record()
    };
    let later = UnixSeconds(END.0 + 86_400);
    assert_eq!(store.begin(&id("m"), &next, later).await, Ok(Begun::New));
    let key = BroadcastKey {
        started_at: after,
        ..key()
    };
    assert_eq!(store.segments(&key).await, Ok(vec![]));
    let until = after.plus(MINUTE);
    let taken = store.take(&key, 1, "two", after, until, later).await;
    assert!(matches!(taken, Ok(Taken::Yes(_))), "{taken:?}");
    assert_eq!(store.finish(&self::key(), after).await, Ok(false));
    assert_eq!(store.finish(&key, after).await, Ok(true));
}

async fn a_segment_is_one_workers_at_a_time<S: BroadcastStore>(store: &S) {
    let mut lease = taken(store, "one", START).await;
    assert_eq!(lease.progress, Progress::default());
    let until = START.plus(MINUTE);
    assert_eq!(take(store, "two", START).await, Taken::Held(until));
    lease.progress = halfway();
    let longer = until.plus(MINUTE);
    for _ in 0..2 {
        let kept = Kept::ForOwner(longer);
        let written = store.checkpoint(&key(), 1, &lease, kept).await;
        assert_eq!(written, Ok(true), "a repetition is the same");
    }
    assert_eq!(take(store, "two", until).await, Taken::Held(longer));
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].0, views[0].1.held_until), (1, longer));
    assert!(views[0].1.is_taken);
    assert_eq!(views[0].1.progress, halfway());

    let mut next = taken(store, "two", longer).await;
    assert_eq!(next.progress, halfway());
    next.progress.is_done = true;
    let kept = Kept::ForOwner(longer);
    let written = store.checkpoint(&key(), 1, &next, kept).await;
    assert_eq!(written, Ok(true));
    assert_eq!(take(store, "three", longer.plus(MINUTE)).await, Taken::Done);
    next.progress.is_done = false;
    let held = store.hold(&key(), 1, &next, START).await;
    assert_eq!(held, Ok(false), "done stays done");
    assert_eq!(take(store, "three", longer.plus(MINUTE)).await, Taken::Done);
}

async fn a_segment_may_be_kept_for_anyone<S: BroadcastStore>(store: &S) {
    let until = START.plus(MINUTE);
    let offer = async |now: UnixMillis| {
        let offered = store.offer(&key(), 1, now, now.plus(MINUTE), END).await;
        offered.expect("offered");
    };
    offer(START).await;
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!((views[0].0, views[0].1.held_until), (1, until));
    assert!(!views[0].1.is_taken);
    assert_eq!(views[0].1.progress, Progress::default());
    let mut lease = taken(store, "one", START).await;
    offer(START).await;
    let two = take(store, "two", START).await;
    assert_eq!(two, Taken::Held(until), "what is held is not offered");
    lease.progress = halfway();
    let kept = Kept::ForAnyone(until);
    let written = store.checkpoint(&key(), 1, &lease, kept).await;
    assert_eq!(written, Ok(true));
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views[0].1.held_until, until);
    assert_eq!(taken(store, "two", START).await.progress, halfway());
}

async fn a_repeated_invocation_goes_on_at_once<S: BroadcastStore>(store: &S) {
    let first = taken(store, "one", START).await;
    let second = taken(store, "one", START).await;
    assert!(second.version > first.version);
    let kept = Kept::ForOwner(START);
    let written = store.checkpoint(&key(), 1, &first, kept).await;
    assert_eq!(written, Ok(false), "the first is dead, or should be");
}

async fn whoever_has_lost_a_segment_writes_nothing<S: BroadcastStore>(store: &S) {
    let mut slow = taken(store, "slow", START).await;
    let later = START.plus(MINUTE);
    assert_eq!(store.hold(&key(), 1, &slow, later).await, Ok(true));
    let mut fast = taken(store, "fast", later).await;
    fast.progress = halfway();
    let until = later.plus(MINUTE);
    let kept = Kept::ForOwner(until);
    let written = store.checkpoint(&key(), 1, &fast, kept).await;
    assert_eq!(written, Ok(true));
    slow.progress.success = 99;
    let written = store.checkpoint(&key(), 1, &slow, kept).await;
    assert_eq!(written, Ok(false));
    assert_eq!(store.hold(&key(), 1, &slow, START).await, Ok(false));
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views[0].1.progress, halfway());
    assert_eq!(views[0].1.held_until, until);
}

async fn a_broadcast_is_finished_by_one<S: BroadcastStore>(store: &S) {
    store.begin(&id("m"), &record(), END).await.expect("begun");
    assert_eq!(store.finish(&key(), START).await, Ok(true));
    assert_eq!(store.finish(&key(), START).await, Ok(false));
    assert_eq!(store.record(&id("m"), START).await, Ok(Some(record())));
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
