use std::time::Duration;

use belfry_protocol::MessageId;

use super::segments::{END, MINUTE, acquired, id, key, record};
use super::{FakeStore, START, Store};
use crate::ports::{
    Acquired, Begun, BroadcastKey, BroadcastRecord, BroadcastRecords, NewBroadcasts, Reservation,
    StoreError,
};
use crate::time::{UnixMillis, UnixSeconds};

/// Any size would fit; tests want to see a refusal.
const MAX_REQUEST_BYTES: usize = 300_000;

impl NewBroadcasts for FakeStore {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        let mut broadcasts = self.broadcasts("begin")?;
        if record.request.len() > MAX_REQUEST_BYTES {
            return Ok(Begun::TooLarge {
                max_bytes: MAX_REQUEST_BYTES,
            });
        }
        if let Some((known, end)) = broadcasts.records.get(id)
            && !end.has_passed(record.started_at)
        {
            return Ok(Begun::Known(known.clone()));
        }
        let remembered = (record.clone(), expires_at);
        broadcasts.records.insert(id.clone(), remembered);
        Ok(Begun::New)
    }

    async fn reserve_all(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        let mut broadcasts = self.broadcasts("reserve_all")?;
        if let Some((last, at)) = &broadcasts.last_to_all {
            let next = at.plus(interval);
            if next > now {
                let is_own = last == id;
                return Ok((!is_own).then(|| next.since(now)));
            }
        }
        broadcasts.last_to_all = Some((id.clone(), now));
        Ok(None)
    }
}

impl BroadcastRecords for FakeStore {
    async fn find_record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> Result<Option<BroadcastRecord>, StoreError> {
        let broadcasts = self.broadcasts("find_record")?;
        let known = broadcasts.records.get(id);
        let known = known.filter(|(_, end)| !end.has_passed(now));
        Ok(known.map(|(record, _)| record.clone()))
    }

    async fn finish(&self, key: &BroadcastKey, _: UnixMillis) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("finish")?;
        let known = broadcasts.records.get(&key.id);
        let is_its = known.is_some_and(|(record, _)| record.started_at == key.started_at);
        let is_first = is_its && !broadcasts.finished.contains(key);
        broadcasts.finished.push(key.clone());
        Ok(is_first)
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    a_broadcast_is_begun_once(&new().await).await;
    a_forgotten_id_may_be_used_again(&new().await).await;
    a_request_is_remembered_whole_or_refused(&new().await).await;
    a_broadcast_is_finished_once(&new().await).await;
    broadcasts_to_all_keep_their_interval(&new().await).await;
}

async fn a_request_is_remembered_whole_or_refused<S: Store>(store: &S) {
    for megabytes in [0, 10] {
        let record = BroadcastRecord {
            request: "x".repeat(10_000 + megabytes * 1_000_000),
            ..record()
        };
        match store.begin(&id("m"), &record, END).await.expect("begin") {
            Begun::New => assert_eq!(megabytes, 0),
            Begun::TooLarge { max_bytes } => assert!(max_bytes < record.request.len()),
            other => panic!("{other:?}"),
        }
        if megabytes == 0 {
            let known = store.find_record(&id("m"), START).await;
            assert_eq!(known, Ok(Some(record)));
        }
    }
}

async fn a_broadcast_is_begun_once<S: Store>(store: &S) {
    assert_eq!(store.find_record(&id("m"), START).await, Ok(None));
    assert_eq!(store.begin(&id("m"), &record(), END).await, Ok(Begun::New));
    let other = BroadcastRecord {
        request: "{}".into(),
        ..record()
    };
    let again = store.begin(&id("m"), &other, END).await;
    assert_eq!(again, Ok(Begun::Known(record())));
    assert_eq!(store.find_record(&id("m"), START).await, Ok(Some(record())));
    assert_eq!(store.begin(&id("n"), &other, END).await, Ok(Begun::New));
    assert_eq!(store.segments(&key()).await, Ok(vec![]));
}

async fn a_forgotten_id_may_be_used_again<S: Store>(store: &S) {
    store.begin(&id("m"), &record(), END).await.expect("begun");
    let mut lease = acquired(store, "one", START).await;
    lease.progress.is_done = true;
    let reservation = Reservation::Owner(START);
    let written = store.checkpoint(&key(), 1, &lease, reservation).await;
    assert_eq!(written, Ok(true));
    assert_eq!(store.finish(&key(), START).await, Ok(true));
    let after = END.to_millis();
    assert_eq!(store.find_record(&id("m"), after).await, Ok(None));
    // Whether or not leftovers of the old one still exist.
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
    let acquired = store.acquire(&key, 1, "two", after, until, later).await;
    assert!(matches!(acquired, Ok(Acquired::Lease(_))), "{acquired:?}");
    assert_eq!(store.finish(&self::key(), after).await, Ok(false));
    assert_eq!(store.finish(&key, after).await, Ok(true));
}

async fn a_broadcast_is_finished_once<S: Store>(store: &S) {
    store.begin(&id("m"), &record(), END).await.expect("begun");
    assert_eq!(store.finish(&key(), START).await, Ok(true));
    assert_eq!(store.finish(&key(), START).await, Ok(false));
    assert_eq!(store.find_record(&id("m"), START).await, Ok(Some(record())));
}

async fn broadcasts_to_all_keep_their_interval<S: Store>(store: &S) {
    let reserve = |name: &'static str, now: UnixMillis| async move {
        store
            .reserve_all(&id(name), now, MINUTE)
            .await
            .expect("reserve_all")
    };
    assert_eq!(reserve("m", START).await, None);
    assert_eq!(reserve("m", START).await, None, "its own retry");
    let soon = START.plus(Duration::from_secs(10));
    assert_eq!(reserve("n", soon).await, Some(Duration::from_secs(50)));
    assert_eq!(reserve("n", START.plus(MINUTE)).await, None);
    let wait = reserve("o", START.plus(MINUTE)).await;
    assert_eq!(wait, Some(MINUTE));
}
