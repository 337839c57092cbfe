//! The store, simulated: rows are computed as they are read, except those that
//! were removed. It counts DynamoDB's units by DynamoDB's rules.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use belfry_core::connections::{Connection, Recipient};
use belfry_core::frames::TokenBucket;
use belfry_core::log::{AppendId, Entry, Head, LogKey};
use belfry_core::ports::{
    Acquired, Advanced, Begun, BroadcastKey, BroadcastRecord, BroadcastRecords, Capacity, Clock,
    Consistency, Lease, Listing, LogAppends, LogReads, Memory, NewBroadcasts, RecipientPage,
    Recipients, Removals, Reservation, Segment, SegmentLeases, SegmentOffers, SegmentStates,
    SegmentView, Sessions, StoreError, SubscriberPage, Subscribers, Tail, Touched,
};
use belfry_core::testing::{FakeStore, START, TestClock, connection, user_id};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ChannelName, ConnectionId, Epoch, MessageId, Position, UserId};

use crate::population::{Population, room};
use crate::simulation::{Marks, PAGE_READ, STORE, id, number};

/// Rows in a page of the adapter.
pub(crate) const PAGE: u32 = 1_000;

/// As long as a user id of Cognito.
const USER: &str = "4f1c2a9e-7b1d-4c1f-9a57-0d6f3f1f2b3c";

/// Bytes of the adapter's items: names and values of all attributes. Those of
/// frames and requests come on top.
const SUBSCRIPTION: usize = 151;
const CONNECTION: usize = 600;
const SEGMENT: usize = 320;
const PENDING: usize = 20;
const ENTRY: usize = 160;
const RECORD: usize = 110;

/// What DynamoDB counts: a write for each KB of the item, and a consistent read
/// for each 4 KB of the items together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Units {
    pub(crate) write: usize,
    pub(crate) read: usize,
}

#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    population: Population,
    clock: TestClock,
    removed: Marks,
    units: Mutex<Units>,
    /// Logs and broadcasts: as many as messages, however many connections there
    /// are.
    kept: FakeStore,
}

impl Store {
    pub(crate) fn new(population: Population, clock: TestClock) -> Self {
        Self(Arc::new(Shared {
            population,
            clock,
            removed: Marks::default(),
            units: Mutex::default(),
            kept: FakeStore::default(),
        }))
    }

    /// Without those of removals: they end a connection, as its disconnect
    /// would.
    pub(crate) fn units(&self) -> Units {
        *self.0.units.lock().expect("one thread")
    }

    pub(crate) fn has_removed(&self, number: u32) -> bool {
        self.0.removed.has(number)
    }

    async fn write(&self, bytes: usize) -> &FakeStore {
        self.0.units.lock().expect("one thread").write += bytes.div_ceil(1_024);
        self.0.clock.sleep(STORE).await;
        &self.0.kept
    }

    async fn read(&self, bytes: usize) -> &FakeStore {
        self.count_read(bytes);
        self.0.clock.sleep(STORE).await;
        &self.0.kept
    }

    /// A read that finds nothing costs one unit, too.
    fn count_read(&self, bytes: usize) {
        self.0.units.lock().expect("one thread").read += bytes.div_ceil(4_096).max(1);
    }
}

fn recipient(number: u32) -> Recipient {
    Recipient {
        id: id(number),
        user_id: user_id(USER),
        // Long enough ago for a 410 to be believed at once.
        connected_at: START.minus(Duration::from_secs(600)),
        token_expires_at: UnixSeconds(u64::MAX),
        accepts_batch: false,
    }
}

fn bytes_of(head: &Head) -> usize {
    let before: usize = head.frames_before.iter().map(String::len).sum();
    before + head.newest.frame.len() + ENTRY
}

impl Sessions for Store {
    async fn touch(
        &self,
        id: &ConnectionId,
        _: &TokenBucket,
        _: UnixMillis,
    ) -> Result<Touched, StoreError> {
        self.write(CONNECTION).await;
        Ok(Touched::Live(Connection {
            token_expires_at: UnixSeconds(u64::MAX),
            ..connection(id.as_str(), USER)
        }))
    }

    async fn begin_session(
        &self,
        _: &ConnectionId,
        _: &TokenBucket,
        _: UnixMillis,
    ) -> Result<Touched, StoreError> {
        unreachable!("everyone is subscribed")
    }

    async fn accept_batch(
        &self,
        _: &ConnectionId,
        _: &TokenBucket,
        _: bool,
        _: UnixMillis,
    ) -> Result<Touched, StoreError> {
        unreachable!("nobody accepts batches")
    }
}

impl Subscribers for Store {
    async fn subscribers(
        &self,
        channel: &ChannelName,
        _: Listing,
        segment: Segment,
        after: Option<&ConnectionId>,
        limit: usize,
        _: UnixMillis,
    ) -> Result<SubscriberPage, StoreError> {
        let population = self.0.population;
        let (room, total) = (room(channel), segment.total);
        let count = population.subscribers(room);
        let first = after.map_or(segment.index, |last| {
            population.index(room, number(last)) + total
        });
        let numbers = (first..count).step_by(total as usize);
        let numbers = numbers.map(|index| population.subscriber(room, index));
        let rows = numbers.filter(|number| !self.has_removed(*number));
        let recipients: Vec<_> = rows.take(limit).map(recipient).collect();
        self.count_read(recipients.len() * SUBSCRIPTION);
        let latency = if limit < PAGE as usize {
            STORE
        } else {
            PAGE_READ
        };
        self.0.clock.sleep(latency).await;
        // Like DynamoDB, which does not look whether something follows a page
        // that is full.
        let last = recipients.last().filter(|_| recipients.len() == limit);
        Ok(SubscriberPage {
            next: last.map(|last| last.id.clone()),
            about: u64::from(count / total),
            recipients,
        })
    }

    async fn remove_subscriber(&self, _: &ChannelName, seen: &Recipient) -> Result<(), StoreError> {
        self.0.clock.sleep(STORE).await;
        self.0.removed.set(number(&seen.id));
        Ok(())
    }
}

impl Removals for Store {
    async fn remove_unchanged(&self, seen: &Recipient, _: UnixMillis) -> Result<(), StoreError> {
        self.0.clock.sleep(STORE).await;
        self.0.removed.set(number(&seen.id));
        Ok(())
    }
}

impl Recipients for Store {
    async fn of_user(
        &self,
        _: &UserId,
        _: Consistency,
        _: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        unreachable!("no message is to a user")
    }

    async fn of_ids(
        &self,
        ids: &[ConnectionId],
        _: UnixMillis,
    ) -> Result<Vec<Recipient>, StoreError> {
        self.read(ids.len() * CONNECTION).await;
        let numbers = ids.iter().map(number);
        let rows = numbers.filter(|number| !self.has_removed(*number));
        Ok(rows.map(recipient).collect())
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<&ConnectionId>,
        _: Consistency,
        _: UnixMillis,
    ) -> Result<RecipientPage, StoreError> {
        let (count, total) = (self.0.population.connections, segment.total);
        let begin = after.map_or(segment.index, |last| number(last) + total);
        let end = count.min(begin + PAGE * total);
        let numbers = (begin..end).step_by(total as usize);
        let last = numbers.clone().next_back();
        let next = last.filter(|last| last + total < count);
        let rows = numbers.filter(|number| !self.has_removed(*number));
        let recipients: Vec<_> = rows.map(recipient).collect();
        self.count_read(recipients.len() * CONNECTION);
        self.0.clock.sleep(PAGE_READ).await;
        Ok(RecipientPage {
            recipients,
            next: next.map(id),
        })
    }
}

impl Capacity for Store {
    async fn open_connections(&self) -> Result<u64, StoreError> {
        Ok(self.0.population.connections.into())
    }
}

impl LogReads for Store {
    async fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        self.read(ENTRY).await.head(log).await
    }

    async fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(ENTRY).await.entries(log, epoch, numbers).await
    }
}

impl LogAppends for Store {
    async fn tail(&self, log: &LogKey) -> Result<Option<Tail>, StoreError> {
        let tail = self.0.kept.tail(log).await?;
        // The head, and the entry that is the same.
        let bytes = tail.as_ref().map_or(0, |tail| 2 * bytes_of(&tail.head));
        self.read(bytes).await.tail(log).await
    }

    async fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        let kept = self.write(bytes_of(to)).await;
        kept.advance(log, from, to, expires_at, memory).await
    }

    async fn find_append(
        &self,
        _: &LogKey,
        _: &AppendId,
        _: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        unreachable!("a client's message is appended once")
    }

    async fn store(&self, log: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        let kept = self.write(entry.frame.len() + ENTRY).await;
        kept.store(log, epoch, entry).await
    }
}

impl NewBroadcasts for Store {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        end: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        let kept = self.write(record.request.len() + RECORD).await;
        kept.begin(id, record, end).await
    }

    async fn reserve_all(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        self.write(RECORD)
            .await
            .reserve_all(id, now, interval)
            .await
    }
}

impl Store {
    async fn bytes_of_record(&self, id: &MessageId, now: UnixMillis) -> usize {
        let record = self.0.kept.find_record(id, now).await;
        let request = record.expect("no failure").map(|record| record.request);
        request.map_or(0, |request| request.len()) + RECORD
    }
}

impl BroadcastRecords for Store {
    async fn find_record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> Result<Option<BroadcastRecord>, StoreError> {
        let bytes = self.bytes_of_record(id, now).await;
        self.read(bytes).await.find_record(id, now).await
    }

    async fn finish(&self, key: &BroadcastKey, now: UnixMillis) -> Result<bool, StoreError> {
        let bytes = self.bytes_of_record(&key.id, now).await;
        self.write(bytes).await.finish(key, now).await
    }
}

impl SegmentStates for Store {
    async fn segments(&self, key: &BroadcastKey) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        let found = self.0.kept.segments(key).await?;
        let kept = self.read(found.len() * SEGMENT).await;
        kept.segments(key).await
    }
}

impl SegmentOffers for Store {
    async fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        end: UnixSeconds,
    ) -> Result<(), StoreError> {
        let kept = self.write(SEGMENT).await;
        kept.offer(key, segment, now, until, end).await
    }
}

impl SegmentLeases for Store {
    async fn acquire(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        end: UnixSeconds,
    ) -> Result<Acquired, StoreError> {
        let kept = self.write(SEGMENT).await;
        kept.acquire(key, segment, owner, now, until, end).await
    }

    async fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        reservation: Reservation,
    ) -> Result<bool, StoreError> {
        let pending = lease.progress.pending.len();
        let kept = self.write(SEGMENT + pending * PENDING).await;
        kept.checkpoint(key, segment, lease, reservation).await
    }

    async fn renew(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        let kept = self.write(SEGMENT).await;
        kept.renew(key, segment, lease, until).await
    }
}
