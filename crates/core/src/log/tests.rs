use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use belfry_protocol::{Epoch, Position};

use super::*;
use crate::ports::{
    Advanced, Clock, LogAppends, LogReads, Memory, MetricEvent, Randomness, StoreError, Tail,
};
use crate::testing::{FakeMetrics, FakeStore, SeededRandomness, TestClock};
use crate::{UnixMillis, UnixSeconds};

const RETENTION: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Default)]
struct Fixture {
    store: FakeStore,
    clock: TestClock,
    random: SeededRandomness,
    metrics: FakeMetrics,
    appended: AtomicUsize,
}

fn room() -> LogKey {
    LogKey::channel("room:7")
}

fn limits() -> RecoveryLimits {
    RecoveryLimits {
        messages: 100,
        bytes: 1_000,
        missed: Some(300),
    }
}

impl Fixture {
    /// Appends a message and returns its position. Only every second one is
    /// stored at once.
    async fn append(&self) -> Position {
        let number = self.appended.fetch_add(1, Ordering::SeqCst);
        self.append_as(&format!("m{number}"), number.is_multiple_of(2))
            .await
    }

    async fn append_as(&self, id: &str, is_stored: bool) -> Position {
        self.append_together(1, id, is_stored).await.position
    }

    async fn append_together(&self, count: u64, id: &str, is_stored: bool) -> Appended {
        let id = AppendId(id.into());
        let message = Message {
            id: &id,
            retention: RETENTION,
            remember_until: None,
            frames: |first: &Position| {
                let frames = (first.seq..).take(count as usize);
                frames.map(|seq| format!("frame {seq}")).collect()
            },
        };
        let appender = Appender {
            store: &self.store,
            clock: &self.clock,
            random: &self.random,
            metrics: &self.metrics,
        };
        let appended = appender.append(&room(), &message).await.unwrap();
        if is_stored {
            appender.store(&room(), &appended).await.unwrap();
        }
        appended
    }

    async fn purge(&self) -> Option<Position> {
        let purger = Purger {
            store: &self.store,
            clock: &self.clock,
            random: &self.random,
        };
        let request = format!("request-{}", self.random.index(1 << 30));
        purger.purge(&room(), &request).await.unwrap()
    }

    fn reader(&self) -> RecoveryReader<'_, FakeStore, TestClock, SeededRandomness> {
        RecoveryReader {
            store: &self.store,
            clock: &self.clock,
            random: &self.random,
        }
    }

    async fn since(&self, since: &Position) -> Recovery {
        self.with_limits(since, limits()).await
    }

    async fn with_limits(&self, since: &Position, limits: RecoveryLimits) -> Recovery {
        self.reader().since(&room(), since, limits).await.unwrap()
    }

    fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
        self.store.delete_expired_log_entries(self.clock.now());
    }
}

fn numbers(recovery: &Recovery) -> Vec<u64> {
    recovery.entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test(start_paused = true)]
async fn every_message_gets_the_next_number() {
    let log = Fixture::default();
    let first = log.append().await;
    for seq in 2..10 {
        let position = log.append().await;
        assert_eq!((position.epoch, position.seq), (first.epoch.clone(), seq));
    }
}

#[tokio::test(start_paused = true)]
async fn missed_messages_are_recovered_in_order() {
    let log = Fixture::default();
    let first = log.append().await;
    for _ in 0..2 {
        log.append().await;
    }
    let recovery = log.since(&first).await;
    assert_eq!((recovery.lost, recovery.more), (None, false));
    assert_eq!(recovery.newest.seq, 3);
    let frames: Vec<_> = recovery
        .entries
        .into_iter()
        .map(|entry| entry.frame)
        .collect();
    assert_eq!(frames, ["frame 2", "frame 3"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_channel_has_lost_nothing() {
    let log = Fixture::default();
    let newest = log.append().await;
    log.pass(DAY * 29);
    let recovery = log.since(&newest).await;
    assert_eq!(recovery.lost, None);
    assert_eq!((recovery.newest, recovery.entries), (newest, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_position_before_the_first_message_is_a_position() {
    let log = Fixture::default();
    let empty = log.reader().newest(&room()).await.unwrap();
    assert_eq!(empty.seq, 0);
    assert_eq!(log.since(&empty).await.lost, None);
    for _ in 0..3 {
        log.append().await;
    }
    let recovery = log.since(&empty).await;
    assert_eq!((recovery.lost, numbers(&recovery)), (None, vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn an_empty_log_forgets_after_a_month_that_nothing_was_published() {
    let log = Fixture::default();
    let empty = log.reader().newest(&room()).await.unwrap();
    log.pass(DAY * 28);
    assert_eq!(log.since(&empty).await.lost, None);
    log.pass(DAY);
    assert_eq!(log.since(&empty).await.lost, Some(Lost::Epoch));
    log.append().await;
    assert_eq!(log.since(&empty).await.lost, Some(Lost::Epoch));
}

#[tokio::test(start_paused = true)]
async fn expired_messages_are_called_expired() {
    let log = Fixture::default();
    let first = log.append().await;
    log.append().await;
    log.clock.advance(RETENTION / 2);
    let third = log.append().await;
    log.append().await;
    log.clock.advance(RETENTION / 2);
    // Whether or not they are deleted.
    for delete in [false, true] {
        if delete {
            log.pass(Duration::ZERO);
        }
        let recovery = log.since(&first).await;
        assert_eq!(recovery.lost, Some(Lost::Expired));
        assert_eq!((recovery.newest.seq, recovery.entries), (4, vec![]));
        assert_eq!(numbers(&log.since(&third).await), [4]);
    }
    log.clock.advance(RETENTION);
    assert_eq!(log.since(&third).await.lost, Some(Lost::Expired));
}

#[tokio::test(start_paused = true)]
async fn another_history_is_called_so() {
    let log = Fixture::default();
    let old = log.append().await;
    log.pass(DAY * 31);
    assert_eq!(log.since(&old).await.lost, Some(Lost::Epoch));
    let new = log.append().await;
    assert_ne!(new.epoch, old.epoch);
    assert_eq!(log.since(&old).await.lost, Some(Lost::Epoch));
    let foreign = |epoch: &str, seq| Position {
        epoch: Epoch::parse(epoch).unwrap(),
        seq,
    };
    for wrong in [
        foreign("x", 0),
        foreign("ffffffffff\u{7e}", 0),
        foreign("19b76da0800", 1),
        foreign(new.epoch.as_str(), 2),
        foreign(new.epoch.as_str(), u64::MAX),
    ] {
        assert_eq!(log.since(&wrong).await.lost, Some(Lost::Epoch), "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_far_behind_is_told_so() {
    let log = Fixture::default();
    let first = log.append().await;
    for _ in 0..5 {
        log.append().await;
    }
    let missed = |missed| RecoveryLimits { missed, ..limits() };
    let far = log.with_limits(&first, missed(Some(4))).await;
    assert_eq!((far.lost, far.newest.seq), (Some(Lost::TooFar), 6));
    for enough in [Some(5), None] {
        assert_eq!(log.with_limits(&first, missed(enough)).await.lost, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_recovery_comes_in_pages() {
    let log = Fixture::default();
    let mut position = log.append().await;
    for _ in 0..24 {
        log.append().await;
    }
    // The frames have 7 or 8 bytes.
    for (messages, bytes) in [(2, 1_000), (100, 16), (100, 8), (100, 1_000)] {
        let limits = RecoveryLimits {
            messages,
            bytes,
            missed: None,
        };
        position.seq = 1;
        let mut recovered = Vec::new();
        loop {
            let page = log.with_limits(&position, limits).await;
            assert_eq!(page.lost, None);
            assert!(page.entries.len() <= messages as usize);
            recovered.extend(numbers(&page));
            position.seq = *recovered.last().unwrap();
            if !page.more {
                break;
            }
        }
        assert_eq!(recovered, (2..=25).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_append_finds_its_own_message() {
    let log = Fixture::default();
    let first = log.append_as("a", false).await;
    assert_eq!(log.append_as("a", false).await, first);
    assert_eq!(log.append_as("b", false).await.seq, 2);
    let appended = MetricEvent::MessagesAppended {
        messages: 1,
        conflicts: 0,
    };
    assert_eq!(log.metrics.take(), [appended.clone(), appended]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_appended_together_follow_each_other() {
    let log = Fixture::default();
    let first = log.append_as("a", false).await;
    let together = log.append_together(3, "b", false).await;
    assert_eq!(together.position.seq, 4);
    assert_eq!(together.frames, ["frame 2", "frame 3", "frame 4"]);
    let [_, counted] = &log.metrics.take()[..] else {
        panic!("two appends")
    };
    let expected = MetricEvent::MessagesAppended {
        messages: 3,
        conflicts: 0,
    };
    assert_eq!(*counted, expected);
    // They are in the head, then stored, then followed by another message.
    for round in 0..3 {
        let recovery = log.since(&first).await;
        assert_eq!(recovery.lost, None);
        let expected: Vec<u64> = (2..=if round < 2 { 4 } else { 5 }).collect();
        assert_eq!(numbers(&recovery), expected);
        let frames = recovery.entries.iter().map(|entry| entry.frame.clone());
        let expected: Vec<_> = expected.iter().map(|seq| format!("frame {seq}")).collect();
        assert_eq!(frames.collect::<Vec<_>>(), expected);
        match round {
            // A repetition appends nothing, and stores them.
            0 => assert_eq!(log.append_together(3, "b", true).await, together),
            _ => assert_eq!(log.append_as("c", false).await.seq, 5),
        }
    }
    // From the middle of them, and page by page.
    let mut position = together.position.clone();
    for since in [1, 2, 3] {
        position.seq = since;
        let limits = RecoveryLimits {
            messages: 1,
            ..limits()
        };
        let page = log.with_limits(&position, limits).await;
        assert_eq!((numbers(&page), page.more), (vec![since + 1], true));
    }
}

#[tokio::test(start_paused = true)]
async fn if_their_publisher_dies_the_next_one_stores_all_of_them() {
    let log = Fixture::default();
    let together = log.append_together(3, "a", false).await;
    // It may die after the first of its entries, too.
    for stored in 0..3 {
        let epoch = &together.position.epoch;
        let head = log.store.head(&room()).await.unwrap().unwrap();
        for entry in head.entries().take(stored) {
            log.store.store(&room(), epoch, &entry).await.unwrap();
        }
        let last = log.append_together(3, &format!("b{stored}"), false).await;
        let first = last.position.seq - 5;
        let mut page = log.store.entries(&room(), epoch, first..=first + 2).await;
        let page = page.as_mut().unwrap();
        assert_eq!(page.len(), 3, "{stored}");
    }
}

/// A store on which another publisher is faster at each of so many attempts.
struct Crowd {
    log: Fixture,
    left: AtomicUsize,
}

impl Crowd {
    fn of(conflicts: usize) -> Self {
        Self {
            log: Fixture::default(),
            left: conflicts.into(),
        }
    }

    async fn be_faster(&self) {
        let count = |left: usize| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        if left.is_ok() {
            self.log.append().await;
        }
    }

    /// Appends a message. Returns the outcome and what was counted.
    async fn append(&self, id: &AppendId) -> (Result<Appended, AppendError>, Vec<MetricEvent>) {
        let message = Message {
            id,
            retention: RETENTION,
            remember_until: None,
            frames: |_: &Position| vec![String::new()],
        };
        let metrics = FakeMetrics::default();
        let appender = Appender {
            store: self,
            clock: &self.log.clock,
            random: &self.log.random,
            metrics: &metrics,
        };
        (appender.append(&room(), &message).await, metrics.take())
    }
}

impl LogReads for Crowd {
    async fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        self.log.store.head(log).await
    }

    async fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: std::ops::RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.log.store.entries(log, epoch, numbers).await
    }
}

impl LogAppends for Crowd {
    async fn tail(&self, log: &LogKey) -> Result<Option<Tail>, StoreError> {
        let tail = self.log.store.tail(log).await;
        self.be_faster().await;
        tail
    }

    async fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        // A purge does not look at the tail.
        if to.is_purged() {
            self.be_faster().await;
        }
        let store = &self.log.store;
        store.advance(log, from, to, expires_at, memory).await
    }

    async fn find_append(
        &self,
        log: &LogKey,
        id: &AppendId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        self.log.store.find_append(log, id, now).await
    }

    async fn store(&self, log: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        self.log.store.store(log, epoch, entry).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_gives_up_while_others_are_always_faster() {
    let crowd = Crowd::of(usize::MAX);
    let id = AppendId("late".into());
    let begun = crowd.log.clock.now();
    let (outcome, counted) = crowd.append(&id).await;
    assert_eq!(outcome, Err(AppendError::Busy));
    let conflicts = (usize::MAX - crowd.left.load(Ordering::SeqCst)) as u64;
    assert_eq!(counted, [MetricEvent::AppendRefused { conflicts }]);
    let took = crowd.log.clock.now().since(begun);
    assert!((2..3).contains(&took.as_secs()), "{took:?}");
    let head = crowd.log.store.head(&room()).await.unwrap().unwrap();
    assert_ne!(head.newest.append_id, id);
}

#[tokio::test(start_paused = true)]
async fn each_meeting_with_another_publisher_is_counted() {
    for met in [0, 1, 3] {
        let (outcome, counted) = Crowd::of(met).append(&AppendId("late".into())).await;
        assert_eq!(outcome.unwrap().position.seq, met as u64 + 1);
        let conflicts = met as u64;
        assert_eq!(
            counted,
            [MetricEvent::MessagesAppended {
                messages: 1,
                conflicts
            }]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_used_again_after_a_day_is_a_new_message() {
    let fixture = Fixture::default();
    let hour = Duration::from_secs(3_600);
    for retention in [RETENTION, DAY * 30] {
        let id = AppendId(format!("{retention:?}"));
        let append = async || {
            let message = Message {
                id: &id,
                retention,
                remember_until: Some(fixture.clock.now().plus(DAY).to_seconds()),
                frames: |position: &Position| vec![format!("frame {}", position.seq)],
            };
            let appender = Appender {
                store: &fixture.store,
                clock: &fixture.clock,
                random: &fixture.random,
                metrics: &fixture.metrics,
            };
            appender.append(&room(), &message).await.unwrap().position
        };
        // The log is idle in the meantime.
        let first = append().await;
        for _ in 0..23 {
            fixture.clock.advance(hour);
            assert_eq!(append().await, first, "{retention:?}");
        }
        fixture.clock.advance(hour * 2);
        assert_eq!(append().await.seq, first.seq + 1, "{retention:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_is_lost_and_what_follows_is_not() {
    for stored in [true, false] {
        let log = Fixture::default();
        assert_eq!(log.purge().await, None, "there is nothing to purge");
        let empty = log.reader().newest(&room()).await.unwrap();
        let first = log.append_as("a", stored).await;
        let second = log.append_as("b", stored).await;
        let purged = log.purge().await.expect("a history");
        assert_eq!(purged.seq, second.seq);
        assert_ne!(purged.epoch, second.epoch);
        assert_eq!(log.purge().await, Some(purged.clone()), "again");
        assert_eq!(log.since(&first).await.lost, Some(Lost::Epoch));
        assert_eq!(log.since(&second).await.lost, Some(Lost::Epoch));
        // Nothing may be called whole that began before the first message.
        assert_eq!(log.since(&empty).await.lost, Some(Lost::Expired));
        let recovery = log.since(&purged).await;
        assert_eq!((recovery.lost, &recovery.newest), (None, &purged));
        let third = log.append_as("c", stored).await;
        assert_eq!((&third.epoch, third.seq), (&purged.epoch, 3));
        let recovery = log.since(&purged).await;
        assert_eq!((recovery.lost, numbers(&recovery)), (None, vec![3]));
        assert_eq!(log.since(&empty).await.lost, Some(Lost::Expired));
        assert_ne!(log.purge().await, Some(purged), "another history");
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_of_before_a_purge_is_never_valid_again() {
    let log = Fixture::default();
    let empty = log.reader().newest(&room()).await.unwrap();
    log.append().await;
    let purged = log.purge().await.unwrap();
    for _ in 0..31 {
        assert!(log.since(&empty).await.lost.is_some());
        log.pass(DAY);
    }
    assert!(
        log.since(&purged).await.lost.is_some(),
        "the head is forgotten"
    );
    assert!(log.since(&empty).await.lost.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_purged_is_not_appended_again() {
    let log = Fixture::default();
    let first = log.append_as("a", false).await;
    let purged = log.purge().await.unwrap();
    assert_eq!(log.append_as("a", true).await, purged);
    let recovery = log.since(&purged).await;
    assert_eq!((recovery.lost, recovery.entries), (None, vec![]));
    assert_eq!(log.append_as("b", true).await.seq, first.seq + 1);
}

#[tokio::test(start_paused = true)]
async fn a_purge_gives_up_while_others_are_always_faster() {
    let crowd = Crowd::of(usize::MAX);
    crowd.log.append().await;
    let purger = Purger {
        store: &crowd,
        clock: &crowd.log.clock,
        random: &crowd.log.random,
    };
    assert_eq!(
        purger.purge(&room(), "request").await,
        Err(AppendError::Busy)
    );
    let few = Crowd::of(3);
    few.log.append().await;
    let purger = Purger {
        store: &few,
        clock: &few.log.clock,
        random: &few.log.random,
    };
    assert!(purger.purge(&room(), "request").await.unwrap().is_some());
}
