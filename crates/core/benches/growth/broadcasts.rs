//! Broadcasts to 1,000 and up to 1,000,000 connections. Fails if a total is
//! wrong, or if a broadcast takes a tenth longer than its rate allows.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::{Duration, Instant};

use belfry_core::broadcast::{Broadcaster, Call, Worker};
use belfry_core::channels::ChannelRules;
use belfry_core::connections::Recipient;
use belfry_core::log::{AppendId, Entry, Head, LogKey};
use belfry_core::ports::{
    Acquired, Advanced, Begun, BroadcastKey, BroadcastRecord, BroadcastRecords, Capacity, Clock,
    Consistency, Lease, Listing, LogAppends, LogReads, Memory, NewBroadcasts, ReaderPage, Receipts,
    RecipientPage, Recipients, Removals, Reservation, Segment, SegmentLeases, SegmentOffers,
    SegmentStates, SegmentView, StoreError, SubscriberPage, Subscribers, Tail,
};
use belfry_core::presence::PresenceSettings;
use belfry_core::testing::{
    FakeMetrics, FakeStore, FakeWorkers, START, SeededRandomness, TestClock,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, ChannelName, ConnectionId, Epoch,
    MessageId, Position, UserId, WaitSeconds,
};
use futures_util::future::{Either, join_all, select};

use crate::simulation::{
    Account, Api, CONNECTIONS_PER_WORKER, MAX_WORKERS, MOST, Marks, PAGE_READ, POSTS_PER_SECOND,
    STORE, TOLERANCE, WORKING_TIME, delivery, fanout, id, is_gone, number, peak_memory_mb,
};

const SIZES: [u32; 7] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, MOST];

/// Rows in a page of the adapter.
const PAGE: u32 = 1_000;

/// Lambda retries an asynchronous invocation after a minute (AWS: "How
/// Lambda handles errors and retries with asynchronous invocation").
const RETRIED_AFTER: Duration = Duration::from_secs(60);

type Core = Broadcaster<Rows, Api<Marks>, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

/// Rows that are computed as they are read, except those that were removed.
struct Rows {
    count: u32,
    removed: Marks,
    broadcasts: FakeStore,
    clock: TestClock,
}

impl Rows {
    fn recipient(&self, number: u32) -> Option<Recipient> {
        (!self.removed.has(number)).then(|| Recipient {
            id: id(number),
            user_id: UserId::parse("u").expect("a user id"),
            // Long enough ago for a 410 to be believed at once.
            connected_at: START.minus(Duration::from_secs(600)),
            token_expires_at: UnixSeconds(u64::MAX),
            accepts_batch: false,
        })
    }
}

impl Subscribers for Rows {
    async fn subscribers(
        &self,
        _: &ChannelName,
        _: Listing,
        _: Segment,
        _: Option<&ConnectionId>,
        _: usize,
        _: UnixMillis,
    ) -> Result<SubscriberPage, StoreError> {
        unreachable!("no broadcast here is for a channel")
    }

    async fn remove_subscriber(&self, _: &ChannelName, _: &Recipient) -> Result<(), StoreError> {
        unreachable!("no broadcast here is for a channel")
    }
}

impl Receipts for Rows {
    async fn readers(
        &self,
        _: &LogKey,
        _: &Position,
        _: Option<&UserId>,
        _: usize,
        _: UnixMillis,
    ) -> Result<ReaderPage, StoreError> {
        unreachable!("no message here is acknowledged")
    }

    async fn acks_of_users(
        &self,
        _: &[UserId],
        _: UnixMillis,
    ) -> Result<Vec<(UserId, Position)>, StoreError> {
        unreachable!("no message here is acknowledged")
    }
}

impl Removals for Rows {
    async fn remove_unchanged(&self, seen: &Recipient, _: UnixMillis) -> Result<(), StoreError> {
        self.clock.sleep(STORE).await;
        self.removed.set(number(&seen.id));
        Ok(())
    }
}

impl Recipients for Rows {
    async fn of_user(
        &self,
        _: &UserId,
        _: Consistency,
        _: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        unreachable!("broadcasts are to all")
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        _: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        self.clock.sleep(STORE).await;
        Ok(ids
            .iter()
            .filter_map(|id| self.recipient(number(id)))
            .collect())
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<&ConnectionId>,
        _: Consistency,
        _: UnixMillis,
    ) -> Result<RecipientPage, StoreError> {
        self.clock.sleep(PAGE_READ).await;
        let begin = after.map_or(segment.index, |last| number(last) + segment.total);
        let end = self.count.min(begin + PAGE * segment.total);
        let numbers = (begin..end).step_by(segment.total as usize);
        let last = numbers.clone().next_back();
        let next = last.filter(|last| last + segment.total < self.count);
        Ok(RecipientPage {
            recipients: numbers
                .filter_map(|number| self.recipient(number))
                .collect(),
            next: next.map(id),
        })
    }
}

impl LogReads for Rows {
    async fn head(&self, _: &LogKey) -> Result<Option<Head>, StoreError> {
        unreachable!("no message here is kept")
    }

    async fn entries(
        &self,
        _: &LogKey,
        _: &Epoch,
        _: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        unreachable!("no message here is kept")
    }
}

impl LogAppends for Rows {
    async fn tail(&self, _: &LogKey) -> Result<Option<Tail>, StoreError> {
        unreachable!("no message here is kept")
    }

    async fn advance(
        &self,
        _: &LogKey,
        _: Option<&Position>,
        _: &Head,
        _: UnixSeconds,
        _: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        unreachable!("no message here is kept")
    }

    async fn find_append(
        &self,
        _: &LogKey,
        _: &AppendId,
        _: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        unreachable!("no message here is kept")
    }

    async fn store(&self, _: &LogKey, _: &Epoch, _: &Entry) -> Result<(), StoreError> {
        unreachable!("no message here is kept")
    }
}

impl Capacity for Rows {
    async fn open_connections(&self) -> Result<u64, StoreError> {
        Ok(self.count.into())
    }
}

impl NewBroadcasts for Rows {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        end: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.begin(id, record, end).await
    }

    async fn reserve_all(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.reserve_all(id, now, interval).await
    }
}

impl BroadcastRecords for Rows {
    async fn find_record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> Result<Option<BroadcastRecord>, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.find_record(id, now).await
    }

    async fn finish(&self, key: &BroadcastKey, now: UnixMillis) -> Result<bool, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.finish(key, now).await
    }
}

impl SegmentStates for Rows {
    async fn segments(&self, key: &BroadcastKey) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.segments(key).await
    }
}

impl SegmentOffers for Rows {
    async fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        end: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.clock.sleep(STORE).await;
        let broadcasts = &self.broadcasts;
        broadcasts.offer(key, segment, now, until, end).await
    }
}

impl SegmentLeases for Rows {
    async fn acquire(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        end: UnixSeconds,
    ) -> Result<Acquired, StoreError> {
        self.clock.sleep(STORE).await;
        let broadcasts = &self.broadcasts;
        broadcasts
            .acquire(key, segment, owner, now, until, end)
            .await
    }

    async fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        reservation: Reservation,
    ) -> Result<bool, StoreError> {
        self.clock.sleep(STORE).await;
        let broadcasts = &self.broadcasts;
        broadcasts
            .checkpoint(key, segment, lease, reservation)
            .await
    }

    async fn renew(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        self.clock.sleep(STORE).await;
        self.broadcasts.renew(key, segment, lease, until).await
    }
}

fn core(count: u32) -> Core {
    let clock = TestClock::default();
    Broadcaster {
        worker: Worker {
            rules: ChannelRules::default(),
            store: Rows {
                count,
                removed: Marks::default(),
                broadcasts: FakeStore::default(),
                clock: clock.clone(),
            },
            outbox: Api::new(
                clock.clone(),
                Account::exactly(POSTS_PER_SECOND),
                Marks::default(),
            ),
            clock,
            metrics: FakeMetrics::default(),
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            delivery: delivery(POSTS_PER_SECOND),
        },
        fanout: fanout(),
        presence: PresenceSettings { announced: 100 },
    }
}

fn call(core: &Core, owner: &str) -> Call {
    Call {
        message_id: MessageId::parse("m").expect("an id"),
        is_named: true,
        owner: owner.into(),
        deadline: core.worker.clock.now().plus(WORKING_TIME),
    }
}

/// An invocation, which is retried if it dies.
async fn worker(core: &Core, segment: u32, dies_after: Option<Duration>) {
    let owner = format!("worker {segment}");
    if let Some(life) = dies_after {
        let work = pin!(core.worker.work_on(segment, call(core, &owner)));
        let death = pin!(core.worker.clock.sleep(life));
        if let Either::Left((done, _)) = select(work, death).await {
            done.expect("worked");
            return;
        }
        core.worker.clock.sleep(RETRIED_AFTER).await;
    }
    core.worker
        .work_on(segment, call(core, &owner))
        .await
        .expect("worked");
}

/// One broadcast, with the time until the last post.
async fn broadcast(core: &Core, dies_after: Option<Duration>) -> (BroadcastReport, Duration) {
    let request =
        r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"k"}}}"#;
    let request = BroadcastRequest::parse(request).expect("a request");
    let begun = core.worker.clock.now();
    core.send(request, call(core, "caller"))
        .await
        .expect("sent");
    loop {
        let started = core.worker.workers.take();
        if started.is_empty() {
            break;
        }
        let workers = started.into_iter().map(|(_, segment)| {
            let dies_after = dies_after.filter(|_| segment == 0);
            worker(core, segment, dies_after)
        });
        join_all(workers).await;
    }
    let last_post = core.worker.outbox.figures().last_post;
    let inquiry = BroadcastInquiry::Report {
        message_id: MessageId::parse("m").expect("an id"),
        wait_seconds: WaitSeconds::default(),
    };
    let report = core
        .inquire(inquiry, call(core, "asks"))
        .await
        .expect("a report");
    (report.report, last_post.since(begun))
}

pub(crate) async fn run() {
    println!("{POSTS_PER_SECOND} posts a second among {MAX_WORKERS} workers, simulated");
    println!(
        "{:>11} {:>7} {:>6} {:>10} {:>10} {:>8} {:>10} {:>10} {:>10}",
        "connections",
        "workers",
        "killed",
        "limit",
        "last post",
        "ratio",
        "twice",
        "memory",
        "computed"
    );
    let mut plotted = Vec::new();
    for count in SIZES {
        let workers = count.div_ceil(CONNECTIONS_PER_WORKER).min(MAX_WORKERS);
        let share = f64::from(POSTS_PER_SECOND) / f64::from(MAX_WORKERS);
        let limit = f64::from(count) / (share * f64::from(workers));
        // If one invocation does it all, its caller sees it die and asks again.
        let deaths = [None, Some(limit * fastrand::f64())];
        for death in &deaths[..workers.min(2) as usize] {
            let begun = Instant::now();
            let core = core(count);
            let (report, took) = broadcast(&core, death.map(Duration::from_secs_f64)).await;
            let figures = core.worker.outbox.figures();
            let gone = (0..count).filter(|number| is_gone(*number)).count() as u64;
            assert!(report.complete, "{report:?}");
            assert_eq!(report.failures.gone, gone, "{report:?}");
            assert_eq!(report.success, u64::from(count) - gone, "{report:?}");
            assert_eq!(
                u64::from(figures.reached),
                report.success,
                "everyone was reached"
            );
            assert_eq!(figures.over_the_rate, 0, "posts beyond the rate");
            let limit = limit + death.map_or(0.0, |_| RETRIED_AFTER.as_secs_f64());
            let (took, twice) = (took.as_secs_f64(), figures.accepted - figures.reached);
            println!(
                "{count:>11} {workers:>7} {:>6} {limit:>8.1} s {took:>8.1} s {:>8.3} {twice:>10} {:>7.1} MB {:>8.1} s",
                if death.is_some() { "one" } else { "" },
                took / limit,
                peak_memory_mb(),
                begun.elapsed().as_secs_f64(),
            );
            assert!(took <= limit * TOLERANCE, "slower than its rate allows");
            assert!(twice <= PAGE, "more than a page was posted twice");
            if death.is_none() {
                plotted.push(format!("[{count}, {limit}, {took}]"));
            }
        }
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&folder).expect("target/");
    let plotted = format!("[{}]\n", plotted.join(", "));
    std::fs::write(folder.join("growth.json"), plotted).expect("written");
}
