use std::collections::HashMap;
use std::time::Duration;

use belfry_protocol::UserId;

use super::{BUCKET, FakeStore, START, Store, user_id};
use crate::frames::{BucketLevel, TokenBucket};
use crate::ports::{ReaderLimits, ReaderPlace, StoreError};
use crate::time::UnixMillis;

#[derive(Default)]
pub(super) struct ReaderUse {
    places: HashMap<u32, UnixMillis>,
    full_at: Option<UnixMillis>,
}

impl ReaderLimits for FakeStore {
    async fn take_place(
        &self,
        user: &UserId,
        places: u32,
        until: UnixMillis,
        now: UnixMillis,
    ) -> Result<Option<ReaderPlace>, StoreError> {
        let mut state = self.working("take_place")?;
        let taken = &mut state.readers.entry(user.clone()).or_default().places;
        let is_free = |number: &u32| taken.get(number).is_none_or(|until| *until <= now);
        let Some(number) = (0..places).find(is_free) else {
            return Ok(None);
        };
        taken.insert(number, until);
        Ok(Some(ReaderPlace { number, until }))
    }

    async fn leave_place(&self, user: &UserId, place: ReaderPlace) -> Result<(), StoreError> {
        let mut state = self.working("leave_place")?;
        let taken = &mut state.readers.entry(user.clone()).or_default().places;
        if taken.get(&place.number) == Some(&place.until) {
            taken.remove(&place.number);
        }
        Ok(())
    }

    async fn take_token(
        &self,
        user: &UserId,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Result<(), Duration>, StoreError> {
        let mut state = self.working("take_token")?;
        let full_at = &mut state.readers.entry(user.clone()).or_default().full_at;
        let before = full_at.unwrap_or(UnixMillis(0));
        *full_at = Some(match bucket.level(before, now) {
            BucketLevel::Full => now.plus(bucket.interval),
            BucketLevel::Partial => before.plus(bucket.interval),
            BucketLevel::Empty(wait) => return Ok(Err(wait)),
        });
        Ok(Ok(()))
    }
}

pub(super) async fn contract<S: Store>(new: impl AsyncFn() -> S) {
    each_user_has_so_many_places(&new().await).await;
    a_place_is_free_after_its_end_and_when_it_is_left(&new().await).await;
    each_user_has_a_bucket(&new().await).await;
}

fn after(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

async fn each_user_has_so_many_places<S: Store>(store: &S) {
    let alice = user_id("alice");
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let place = store.take_place(&alice, 3, after(60), START).await;
        numbers.push(place.expect("take_place").expect("a place").number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    let none = store.take_place(&alice, 3, after(60), after(1)).await;
    assert_eq!(none, Ok(None));
    let bobs = store.take_place(&user_id("bob"), 3, after(60), START).await;
    assert!(bobs.expect("take_place").is_some());
}

async fn a_place_is_free_after_its_end_and_when_it_is_left<S: Store>(store: &S) {
    let alice = user_id("alice");
    let take = async |until, now| store.take_place(&alice, 1, until, now).await;
    let first = take(after(60), START).await.expect("take").expect("free");
    assert_eq!(take(after(120), after(59)).await, Ok(None));
    let second = take(after(120), after(60)).await.expect("take");
    let second = second.expect("free after its end");
    assert_eq!(store.leave_place(&alice, first).await, Ok(()));
    assert_eq!(take(after(180), after(61)).await, Ok(None), "another's");
    for _ in 0..2 {
        assert_eq!(store.leave_place(&alice, second).await, Ok(()));
    }
    assert!(take(after(180), after(61)).await.expect("take").is_some());
}

async fn each_user_has_a_bucket<S: Store>(store: &S) {
    let alice = user_id("alice");
    for _ in 0..BUCKET.burst {
        let taken = store.take_token(&alice, &BUCKET, START).await;
        assert_eq!(taken, Ok(Ok(())));
    }
    let taken = store.take_token(&alice, &BUCKET, START).await;
    let wait = taken.expect("take_token").expect_err("it is empty");
    assert_eq!(wait, BUCKET.interval);
    let later = START.plus(wait);
    assert_eq!(store.take_token(&alice, &BUCKET, later).await, Ok(Ok(())));
    let bob = user_id("bob");
    assert_eq!(store.take_token(&bob, &BUCKET, START).await, Ok(Ok(())));
}
