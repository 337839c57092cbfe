//! Messages to many channels at a share of the account's quota: how long the
//! subscribers wait, and what happens beyond it. Fails if a message is lost,
//! arrives twice, or is late although the quota suffices.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use belfry_core::UnixMillis;
use belfry_core::frames::FrameOutcome;
use belfry_core::log::{LogKey, RecoveryLimits, RecoveryReader};
use belfry_core::ports::{Clock, LogReads};
use belfry_core::testing::SeededRandomness;
use belfry_protocol::Position;
use tokio::task::{LocalSet, spawn_local};

use crate::population::{Population, ROOM, channel};
use crate::simulation::{Account, Arrivals, MOST, POSTS_PER_SECOND, is_gone, peak_memory_mb};
use crate::world::{World, message_of};

/// AWS: an account's APIs together. Frames count, and so do posts.
const QUOTA: Account = Account {
    per_second: 10_000,
    burst: 5_000,
    loses_clients: true,
    throttles_clients: false,
};

const SECONDS: f64 = 20.0;

/// Rooms in which somebody talks. The store keeps their logs, so that any other
/// difference in memory between runs is Belfry's.
const BUSY: u32 = 2_000;

/// Connections, and the share of the quota that is asked for.
const RUNS: [(u32, f64); 7] = [
    (30_000, 0.25),
    (100_000, 0.25),
    (MOST, 0.25),
    (MOST, 0.5),
    (MOST, 0.9),
    (MOST, 1.1),
    (MOST, 1.5),
];

/// The longest wait of 99 in 100 messages while the quota suffices.
const LATE: Duration = Duration::from_millis(200);

/// How much more memory the same messages may take with more connections.
const GROWTH_MB: f64 = 2.0;

/// All messages of a run.
struct Messages {
    population: Population,
    sent: Mutex<Vec<Sent>>,
}

/// A message to a room.
#[derive(Default)]
struct Sent {
    room: u32,
    begun: Option<UnixMillis>,
    /// How often API Gateway refused the frame, so that the client sent it
    /// again.
    refused: u32,
    is_published: bool,
    /// A bit for each subscriber.
    reached: u32,
    last_post: Option<UnixMillis>,
}

impl Messages {
    fn change(&self, message: u32, change: impl FnOnce(&mut Sent)) {
        let mut sent = self.sent.lock().expect("one thread");
        change(&mut sent[message as usize]);
    }
}

impl Arrivals for Messages {
    fn arrived(&self, number: u32, frame: &str, at: UnixMillis) -> bool {
        let mut sent = self.sent.lock().expect("one thread");
        let sent = &mut sent[message_of(frame) as usize];
        let bit = 1 << self.population.index(sent.room, number);
        let is_first = sent.reached & bit == 0;
        sent.reached |= bit;
        sent.last_post = Some(at);
        is_first
    }
}

pub(crate) async fn run() {
    println!();
    println!(
        "messages to channels of {ROOM} at a share of the quota of {} calls a second, for {SECONDS} s, simulated",
        QUOTA.per_second
    );
    println!(
        "{:>11} {:>9} {:>6} {:>10} {:>9} {:>9} {:>9} {:>10} {:>10} {:>8} {:>5} {:>10} {:>10}",
        "connections",
        "channels",
        "share",
        "messages/s",
        "p50",
        "p99",
        "longest",
        "again",
        "throttled",
        "missed",
        "lost",
        "memory",
        "computed"
    );
    let mut memory = Vec::new();
    for (connections, share) in RUNS {
        publish(Population::of(connections), share).await;
        if share == RUNS[0].1 {
            memory.push(peak_memory_mb());
        }
    }
    let grown = memory[memory.len() - 1] - memory[0];
    assert!(grown <= GROWTH_MB, "memory grows: {memory:?} MB");
}

async fn publish(population: Population, share: f64) {
    let computing = Instant::now();
    // A frame, and a post to each subscriber.
    let per_second = share * f64::from(QUOTA.per_second) / f64::from(ROOM + 1);
    let mut random = fastrand::Rng::with_seed(1);
    let apart = (population.rooms - 1) / BUSY;
    let sent = (0..(per_second * SECONDS) as u32).map(|_| Sent {
        room: 1 + apart * random.u32(0..BUSY),
        ..Sent::default()
    });
    let messages = Messages {
        population,
        sent: Mutex::new(sent.collect()),
    };
    let world = Rc::new(World::new(population, POSTS_PER_SECOND, QUOTA, messages));
    // The burst is there.
    world.clock.sleep(Duration::from_secs(1)).await;
    // It ends when every client is done.
    let clients = LocalSet::new();
    clients.spawn_local(offer(Rc::clone(&world), per_second, random));
    clients.await;
    show(&world, population, share, computing).await;
}

/// Clients publish at random moments, as people do.
async fn offer(world: Rc<World<Messages>>, per_second: f64, mut random: fastrand::Rng) {
    let begun = world.clock.now();
    let rooms: Vec<_> = {
        let sent = world.api.arrivals().sent.lock().expect("one thread");
        sent.iter().map(|sent| sent.room).collect()
    };
    let mut due = 0.0;
    for (message, room) in (0..).zip(rooms) {
        due -= (1.0 - random.f64()).ln() / per_second;
        let due = begun.plus(Duration::from_secs_f64(due));
        world.clock.sleep(due.since(world.clock.now())).await;
        let pause = Duration::from_secs_f64(1.0 + random.f64());
        spawn_local(send(Rc::clone(&world), room, message, pause));
    }
}

/// A client publishes, until API Gateway takes its frame.
async fn send(world: Rc<World<Messages>>, room: u32, message: u32, pause: Duration) {
    let (begun, mut refused) = (world.clock.now(), 0);
    while !world.api.admits() {
        refused += 1;
        world.clock.sleep(pause).await;
    }
    let outcome = world.publish(room, message).await;
    world.api.arrivals().change(message, |sent| {
        sent.begun = Some(begun);
        sent.refused = refused;
        sent.is_published = outcome == FrameOutcome::Served("publish");
    });
}

async fn show(world: &World<Messages>, population: Population, share: f64, computing: Instant) {
    let (mut waits, mut again, mut missed) = (Vec::new(), 0, 0);
    let mut of_rooms = BTreeMap::new();
    for sent in &*world.api.arrivals().sent.lock().expect("one thread") {
        assert!(sent.is_published, "a message was refused");
        *of_rooms.entry(sent.room).or_insert(0) += 1;
        let subscribers = (0..ROOM).map(|index| population.subscriber(sent.room, index));
        let open = subscribers.filter(|number| !is_gone(*number)).count() as u32;
        missed += open - sent.reached.count_ones();
        again += sent.refused;
        // Nobody waits for a message without a post: it is missed.
        let last_post = sent.last_post.zip(sent.begun);
        waits.extend(last_post.map(|(last, begun)| last.since(begun)));
    }
    waits.sort_unstable();
    let percentile = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    let figures = world.api.figures();
    let lost = lost(world, &of_rooms).await;
    println!(
        "{:>11} {:>9} {:>5.0}% {:>10.0} {:>6} ms {:>6} ms {:>6} ms {again:>10} {:>10} {missed:>8} {lost:>5} {:>7.1} MB {:>8.1} s",
        population.connections,
        population.rooms,
        share * 100.0,
        of_rooms.values().sum::<usize>() as f64 / SECONDS,
        percentile(50).as_millis(),
        percentile(99).as_millis(),
        percentile(100).as_millis(),
        figures.over_the_rate,
        peak_memory_mb(),
        computing.elapsed().as_secs_f64(),
    );
    assert_eq!(figures.accepted, figures.reached, "someone got it twice");
    assert_eq!(lost, 0, "a message is not in its channel's log");
    if share < 1.0 {
        assert_eq!((figures.over_the_rate, missed), (0, 0));
        assert!(percentile(99) <= LATE, "late");
    }
}

/// How many messages a subscriber would not recover from the channels' logs.
async fn lost(world: &World<Messages>, of_rooms: &BTreeMap<u32, usize>) -> usize {
    let random = SeededRandomness::default();
    let reader = RecoveryReader {
        store: &world.store,
        clock: &world.clock,
        random: &random,
    };
    let limits = RecoveryLimits {
        messages: 300,
        bytes: 1 << 20,
        missed: None,
    };
    let mut lost = 0;
    for (room, published) in of_rooms {
        let log = LogKey::channel(channel(*room).as_str());
        let head = world.store.head(&log).await.expect("a head");
        let Some(head) = head else {
            lost += published;
            continue;
        };
        let mut since = Position {
            seq: 0,
            epoch: head.epoch,
        };
        let mut found = 0;
        loop {
            let recovery = reader.since(&log, &since, limits).await.expect("a page");
            assert_eq!(recovery.lost, None);
            found += recovery.entries.len();
            if !recovery.more {
                break;
            }
            since.seq += recovery.entries.len() as u64;
        }
        lost += published - found;
    }
    lost
}
