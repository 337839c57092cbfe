//! What the parts share: the management API of an account, and the settings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use belfry_core::UnixMillis;
use belfry_core::broadcast::{DeliverySettings, FanoutSettings};
use belfry_core::ports::{Clock, Outbox, PostError};
use belfry_core::testing::TestClock;
use belfry_protocol::ConnectionId;

/// The largest run.
pub(crate) const MOST: u32 = 1_000_000;

/// The defaults of template.yaml.
pub(crate) const POSTS_PER_SECOND: u32 = 2_500;
pub(crate) const MAX_WORKERS: u32 = 4;
pub(crate) const CONNECTIONS_PER_WORKER: u32 = 5_000;
const CONCURRENCY: usize = 64;

/// Latency of a post, seen from a Lambda function in the same region.
const POST: Duration = Duration::from_millis(15);

/// Latencies of DynamoDB.
pub(crate) const STORE: Duration = Duration::from_millis(5);
pub(crate) const PAGE_READ: Duration = Duration::from_millis(25);

/// A worker's timeout, less the time to start the next worker.
pub(crate) const WORKING_TIME: Duration = Duration::from_secs(885);

/// How much longer than its rate allows a broadcast may take.
pub(crate) const TOLERANCE: f64 = 1.1;

/// One in so many connections is gone; one in so many is throttled at first.
const GONE: u32 = 100;
const THROTTLED: u32 = 100;

pub(crate) fn is_gone(number: u32) -> bool {
    number % GONE == 7
}

pub(crate) fn id(number: u32) -> ConnectionId {
    ConnectionId::parse(format!("c{number}")).expect("a connection id")
}

pub(crate) fn number(id: &ConnectionId) -> u32 {
    id.as_str()[1..].parse().expect("a row's number")
}

/// How workers post if they may post so often together.
pub(crate) fn delivery(posts_per_second: u32) -> DeliverySettings {
    DeliverySettings {
        concurrency: CONCURRENCY,
        post_timeout: Duration::from_secs(3),
        posts_per_second: f64::from(posts_per_second) / f64::from(MAX_WORKERS),
    }
}

pub(crate) fn fanout() -> FanoutSettings {
    FanoutSettings {
        connections_per_worker: CONNECTIONS_PER_WORKER,
        max_workers: MAX_WORKERS,
        all_interval: Duration::ZERO,
    }
}

/// A bit for each connection of the largest run, so that any difference in
/// memory between runs is Belfry's.
pub(crate) struct Marks(Mutex<Vec<u64>>);

impl Default for Marks {
    fn default() -> Self {
        Self(Mutex::new(vec![0; MOST as usize / 64 + 1]))
    }
}

impl Marks {
    pub(crate) fn has(&self, number: u32) -> bool {
        let words = self.0.lock().expect("one thread");
        words[number as usize / 64] >> (number % 64) & 1 == 1
    }

    /// Returns whether the bit was clear.
    pub(crate) fn set(&self, number: u32) -> bool {
        let is_new = !self.has(number);
        self.0.lock().expect("one thread")[number as usize / 64] |= 1 << (number % 64);
        is_new
    }
}

/// Learns which posts were accepted.
pub(crate) trait Arrivals: Send + Sync + 'static {
    /// Returns whether it is the message's first to this connection.
    fn arrived(&self, number: u32, frame: &str, at: UnixMillis) -> bool;
}

/// Of a single message.
impl Arrivals for Marks {
    fn arrived(&self, number: u32, _: &str, _: UnixMillis) -> bool {
        self.set(number)
    }
}

/// What an account allows, and what its clients are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
    /// Whether some connections are gone.
    pub(crate) loses_clients: bool,
    /// Whether some clients are throttled at first.
    pub(crate) throttles_clients: bool,
}

impl Account {
    /// Accepts exactly the configured rate, and a tenth of a second at once.
    pub(crate) fn exactly(per_second: u32) -> Self {
        Self {
            per_second,
            burst: per_second / 10,
            loses_clients: true,
            throttles_clients: true,
        }
    }

    /// One whose clients are all there.
    pub(crate) fn flawless(per_second: u32) -> Self {
        Self {
            loses_clients: false,
            throttles_clients: false,
            ..Self::exactly(per_second)
        }
    }
}

/// The management API.
pub(crate) struct Api<A>(Arc<Shared<A>>);

impl<A> Clone for Api<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<A> {
    clock: TestClock,
    account: Account,
    bucket: Mutex<Bucket>,
    figures: Mutex<Figures>,
    /// Clients that were throttled once.
    throttled: Marks,
    arrivals: A,
}

struct Bucket {
    tokens: f64,
    filled_at: UnixMillis,
}

/// What the API has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) accepted: u32,
    /// Without those that were accepted twice.
    pub(crate) reached: u32,
    pub(crate) over_the_rate: u32,
    pub(crate) last_post: UnixMillis,
}

impl<A: Arrivals> Api<A> {
    pub(crate) fn new(clock: TestClock, account: Account, arrivals: A) -> Self {
        let now = clock.now();
        Self(Arc::new(Shared {
            clock,
            account,
            bucket: Mutex::new(Bucket {
                tokens: 0.0,
                filled_at: now,
            }),
            figures: Mutex::new(Figures {
                accepted: 0,
                reached: 0,
                over_the_rate: 0,
                last_post: now,
            }),
            throttled: Marks::default(),
            arrivals,
        }))
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.0.figures.lock().expect("one thread")
    }

    pub(crate) fn arrivals(&self) -> &A {
        &self.0.arrivals
    }

    /// Whether the account's rate allows another call.
    pub(crate) fn admits(&self) -> bool {
        let Account {
            per_second, burst, ..
        } = self.0.account;
        let mut bucket = self.0.bucket.lock().expect("one thread");
        let now = self.0.clock.now();
        let earned = now.since(bucket.filled_at).as_secs_f64() * f64::from(per_second);
        bucket.tokens = (bucket.tokens + earned).min(burst.into());
        bucket.filled_at = now;
        let admits = bucket.tokens >= 1.0;
        bucket.tokens -= f64::from(u8::from(admits));
        admits
    }

    fn answer(&self, number: u32, frame: &str) -> Result<(), PostError> {
        let Account {
            loses_clients,
            throttles_clients,
            ..
        } = self.0.account;
        let admits = self.admits();
        let mut figures = self.0.figures.lock().expect("one thread");
        if !admits {
            figures.over_the_rate += 1;
            return Err(PostError::Throttled);
        }
        if loses_clients && is_gone(number) {
            return Err(PostError::Gone);
        }
        if throttles_clients && number % THROTTLED == 11 && self.0.throttled.set(number) {
            return Err(PostError::Throttled);
        }
        let now = self.0.clock.now();
        figures.accepted += 1;
        figures.reached += u32::from(self.0.arrivals.arrived(number, frame, now));
        figures.last_post = now;
        Ok(())
    }
}

impl<A: Arrivals> Outbox for Api<A> {
    async fn post(&self, id: &ConnectionId, frame: &str, _: Duration) -> Result<(), PostError> {
        let answer = self.answer(number(id), frame);
        self.0.clock.sleep(POST).await;
        answer
    }

    async fn close(&self, _: &ConnectionId) -> Result<(), PostError> {
        unreachable!("nothing is closed")
    }
}

/// The most memory that the process has had.
pub(crate) fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("VmHWM").parse::<f64>().expect("a number") / 1_024.0
}
