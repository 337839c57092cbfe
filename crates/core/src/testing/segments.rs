use std::collections::BTreeMap;
use std::time::Duration;

use belfry_protocol::{Failures, MessageId};

use super::{FakeStore, START, Store, connection_id};
use crate::ports::{
    Acquired, BroadcastKey, BroadcastRecord, Cursor, Lease, Progress, Reservation, SegmentLeases,
    SegmentOffers, SegmentStates, SegmentView, StoreError,
};
use crate::time::{UnixMillis, UnixSeconds};

/// The broadcasts of a [`FakeStore`].
#[derive(Default)]
pub(super) struct Broadcasts {
    pub(super) records: BTreeMap<MessageId, (BroadcastRecord, UnixSeconds)>,
    pub(super) finished: Vec<BroadcastKey>,
    segments: BTreeMap<(BroadcastKey, u32), SegmentState>,
    /// The last broadcast to everyone.
    pub(super) last_to_all: Option<(MessageId, UnixMillis)>,
}

struct SegmentState {
    /// `None` if it is reserved for the next worker.
    owner: Option<String>,
    version: u64,
    reserved_until: UnixMillis,
    progress: Progress,
}

impl Broadcasts {
    fn segment(&mut self, key: &BroadcastKey, segment: u32) -> &mut SegmentState {
        let entry = self.segments.entry((key.clone(), segment));
        entry.or_insert_with(|| SegmentState {
            owner: None,
            version: 0,
            reserved_until: UnixMillis(0),
            progress: Progress::default(),
        })
    }
}

impl SegmentStates for FakeStore {
    async fn segments(&self, key: &BroadcastKey) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        let broadcasts = self.broadcasts("segments")?;
        let of_key = broadcasts.segments.iter().filter(|((of, _), _)| of == key);
        let view = |((_, index), segment): (&(BroadcastKey, u32), &SegmentState)| {
            let view = SegmentView {
                reserved_until: segment.reserved_until,
                is_leased: segment.owner.is_some(),
                progress: segment.progress.clone(),
            };
            (*index, view)
        };
        Ok(of_key.map(view).collect())
    }
}

impl SegmentOffers for FakeStore {
    async fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        _: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut broadcasts = self.broadcasts("offer")?;
        let offered = broadcasts.segment(key, segment);
        if !offered.progress.is_done && offered.reserved_until <= now {
            offered.owner = None;
            offered.reserved_until = until;
        }
        Ok(())
    }
}

impl SegmentLeases for FakeStore {
    async fn acquire(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        _: UnixSeconds,
    ) -> Result<Acquired, StoreError> {
        let mut broadcasts = self.broadcasts("acquire")?;
        let state = broadcasts.segment(key, segment);
        if state.progress.is_done {
            return Ok(Acquired::Done);
        }
        let is_others = state.owner.as_deref().is_some_and(|other| other != owner);
        if state.reserved_until > now && is_others {
            return Ok(Acquired::LeasedUntil(state.reserved_until));
        }
        state.owner = Some(owner.into());
        state.version += 1;
        state.reserved_until = until;
        Ok(Acquired::Lease(Lease {
            version: state.version,
            owner: owner.into(),
            progress: state.progress.clone(),
        }))
    }

    async fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        reservation: Reservation,
    ) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("checkpoint")?;
        let state = broadcasts.segment(key, segment);
        if state.version != lease.version {
            return Ok(false);
        }
        state.progress = lease.progress.clone();
        (state.owner, state.reserved_until) = match reservation {
            Reservation::Owner(until) => (Some(lease.owner.clone()), until),
            Reservation::NextWorker(until) => (None, until),
        };
        Ok(true)
    }

    async fn renew(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("renew")?;
        let state = broadcasts.segment(key, segment);
        let is_own = state.version == lease.version && !state.progress.is_done;
        if is_own {
            state.reserved_until = until;
        }
        Ok(is_own)
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    one_worker_at_a_time_has_a_segment(&new().await).await;
    a_segment_can_be_reserved_for_the_next_worker(&new().await).await;
    a_retried_invocation_continues_at_once(&new().await).await;
    a_worker_that_lost_its_lease_writes_nothing(&new().await).await;
}

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const END: UnixSeconds = UnixSeconds(START.0 / 1_000 + 86_400);

pub(super) fn id(text: &str) -> MessageId {
    MessageId::parse(text).expect("a message id")
}

pub(super) fn key() -> BroadcastKey {
    BroadcastKey {
        id: id("m"),
        started_at: START,
    }
}

pub(super) fn record() -> BroadcastRecord {
    BroadcastRecord {
        request: r#"{"target":{"type":"all"}}"#.into(),
        started_at: START,
        segments: 3,
    }
}

async fn acquire<S: Store>(store: &S, owner: &str, now: UnixMillis) -> Acquired {
    let key = key();
    let acquired = store.acquire(&key, 1, owner, now, now.plus(MINUTE), END);
    acquired.await.expect("acquire")
}

pub(super) async fn acquired<S: Store>(store: &S, owner: &str, now: UnixMillis) -> Lease {
    match acquire(store, owner, now).await {
        Acquired::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn halfway() -> Progress {
    Progress {
        cursor: Some(Cursor::After(connection_id("c7"))),
        listing_done: false,
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

async fn one_worker_at_a_time_has_a_segment<S: Store>(store: &S) {
    let mut lease = acquired(store, "one", START).await;
    assert_eq!(lease.progress, Progress::default());
    let until = START.plus(MINUTE);
    assert_eq!(
        acquire(store, "two", START).await,
        Acquired::LeasedUntil(until)
    );
    lease.progress = halfway();
    let longer = until.plus(MINUTE);
    for _ in 0..2 {
        let reservation = Reservation::Owner(longer);
        let written = store.checkpoint(&key(), 1, &lease, reservation).await;
        assert_eq!(written, Ok(true), "repeating it changes nothing");
    }
    assert_eq!(
        acquire(store, "two", until).await,
        Acquired::LeasedUntil(longer)
    );
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].0, views[0].1.reserved_until), (1, longer));
    assert!(views[0].1.is_leased);
    assert_eq!(views[0].1.progress, halfway());

    let mut next = acquired(store, "two", longer).await;
    assert_eq!(next.progress, halfway());
    next.progress.is_done = true;
    let reservation = Reservation::Owner(longer);
    let written = store.checkpoint(&key(), 1, &next, reservation).await;
    assert_eq!(written, Ok(true));
    assert_eq!(
        acquire(store, "three", longer.plus(MINUTE)).await,
        Acquired::Done
    );
    next.progress.is_done = false;
    let renewed = store.renew(&key(), 1, &next, START).await;
    assert_eq!(renewed, Ok(false), "a done segment stays done");
    assert_eq!(
        acquire(store, "three", longer.plus(MINUTE)).await,
        Acquired::Done
    );
}

async fn a_segment_can_be_reserved_for_the_next_worker<S: Store>(store: &S) {
    let until = START.plus(MINUTE);
    let offer = async |now: UnixMillis| {
        let offered = store.offer(&key(), 1, now, now.plus(MINUTE), END).await;
        offered.expect("offered");
    };
    offer(START).await;
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!((views[0].0, views[0].1.reserved_until), (1, until));
    assert!(!views[0].1.is_leased);
    assert_eq!(views[0].1.progress, Progress::default());
    let mut lease = acquired(store, "one", START).await;
    offer(START).await;
    let two = acquire(store, "two", START).await;
    assert_eq!(
        two,
        Acquired::LeasedUntil(until),
        "a leased segment is not offered"
    );
    lease.progress = halfway();
    let reservation = Reservation::NextWorker(until);
    let written = store.checkpoint(&key(), 1, &lease, reservation).await;
    assert_eq!(written, Ok(true));
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views[0].1.reserved_until, until);
    assert_eq!(acquired(store, "two", START).await.progress, halfway());
}

async fn a_retried_invocation_continues_at_once<S: Store>(store: &S) {
    let first = acquired(store, "one", START).await;
    let second = acquired(store, "one", START).await;
    assert!(second.version > first.version);
    let reservation = Reservation::Owner(START);
    let written = store.checkpoint(&key(), 1, &first, reservation).await;
    assert_eq!(written, Ok(false), "the first invocation is superseded");
}

async fn a_worker_that_lost_its_lease_writes_nothing<S: Store>(store: &S) {
    let mut slow = acquired(store, "slow", START).await;
    let later = START.plus(MINUTE);
    assert_eq!(store.renew(&key(), 1, &slow, later).await, Ok(true));
    let mut fast = acquired(store, "fast", later).await;
    fast.progress = halfway();
    let until = later.plus(MINUTE);
    let reservation = Reservation::Owner(until);
    let written = store.checkpoint(&key(), 1, &fast, reservation).await;
    assert_eq!(written, Ok(true));
    slow.progress.success = 99;
    let written = store.checkpoint(&key(), 1, &slow, reservation).await;
    assert_eq!(written, Ok(false));
    assert_eq!(store.renew(&key(), 1, &slow, START).await, Ok(false));
    let views = store.segments(&key()).await.expect("segments");
    assert_eq!(views[0].1.progress, halfway());
    assert_eq!(views[0].1.reserved_until, until);
}
