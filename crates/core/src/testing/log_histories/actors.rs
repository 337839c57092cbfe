use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use belfry_protocol::Position;

use super::stepped::Stepped;
use super::world::{LIMITS, RETENTION, World, frame};
use super::{Gate, Mutant, SKEW};
use crate::log::{AppendId, Appender, LogKey, Message, Purger, RecoveryReader};
use crate::ports::{Clock, LogAppends, LogReads};
use crate::testing::{FakeMetrics, START, SeededRandomness};
use crate::time::UnixMillis;

/// One that publishes, reads or joins.
pub(super) struct Actor<'a, S> {
    number: usize,
    log: &'a LogKey,
    world: Arc<World>,
    gate: Arc<Gate>,
    store: Stepped<'a, S>,
    clock: SkewedClock,
    random: SeededRandomness,
    choices: Mutex<fastrand::Rng>,
    mutant: Option<Mutant>,
}

impl<'a, S: LogAppends + LogReads> Actor<'a, S> {
    pub(super) fn new(
        number: usize,
        store: &'a S,
        log: &'a LogKey,
        world: &Arc<World>,
        gate: &Arc<Gate>,
        mutant: Option<Mutant>,
        seed: u64,
    ) -> Self {
        let mut choices = fastrand::Rng::with_seed(seed);
        let skew = SKEW.as_millis() as u64;
        Self {
            number,
            log,
            world: world.clone(),
            gate: gate.clone(),
            store: Stepped {
                store,
                world: world.clone(),
                gate: gate.clone(),
                mutant,
                random: Mutex::new(choices.fork()),
                own: Mutex::new(HashSet::new()),
                published_at_read: AtomicUsize::new(0),
                last_head: Mutex::new(None),
                read_before: Mutex::new(Vec::new()),
            },
            clock: SkewedClock {
                world: world.clone(),
                gate: gate.clone(),
                ahead: Duration::from_millis(choices.u64(0..skew)),
                behind: Duration::from_millis(choices.u64(0..skew)),
            },
            random: SeededRandomness::with_seed(choices.u64(..)),
            choices: Mutex::new(choices),
            mutant,
        }
    }

    pub(super) fn live(self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            match self.choose(11) {
                0..=5 => self.publish().await,
                6..=7 => self.read().await,
                8..=9 => self.join().await,
                _ => self.purge().await,
            }
        })
    }

    fn choose(&self, below: usize) -> usize {
        self.choices.lock().expect("no panic").usize(0..below)
    }

    async fn publish(&self) {
        for number in 0..=self.choose(5) {
            // One of two is a broadcast that several invocations work on. Some
            // are of several messages.
            let is_shared = self.choose(2) == 0;
            let (name, count) = if is_shared {
                let number = self.choose(3);
                (format!("shared-{number}"), number + 1)
            } else {
                (format!("{}-{number}", self.number), 1 + number % 2)
            };
            let id = AppendId(name);
            let long = START.plus(Duration::from_secs(100 * 86_400));
            let message = Message {
                id: &id,
                retention: RETENTION,
                remember_until: is_shared.then_some(long.to_seconds()),
                frames: |first: &Position| {
                    let positions = positions(first, count);
                    let frames = positions.iter().enumerate();
                    let frames = frames.map(|(part, position)| frame(&id, part, position));
                    frames.collect()
                },
            };
            let metrics = FakeMetrics::default();
            let appender = Appender {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
                metrics: &metrics,
            };
            let early = self.world.subscribers();
            let at_work = self.world.at_work();
            let appended = appender.append(self.log, &message).await;
            drop(at_work);
            let Ok(appended) = appended else { continue };
            let mut first = appended.position.clone();
            first.seq -= count as u64 - 1;
            let positions = positions(&first, count);
            self.world.acknowledge(&id, &positions, &appended.frames);
            if self.choose(2) == 0 {
                let _ = appender.store(self.log, &appended).await;
            }
            self.gate.pass().await;
            let listed = match self.mutant {
                Some(Mutant::ListsBeforeAppending) => early,
                _ => self.world.subscribers(),
            };
            for subscriber in listed {
                self.gate.pass().await;
                self.world.receive(subscriber, &positions);
            }
            self.world.posted_to_all(&positions);
            if self.choose(2) == 0 {
                let _ = appender.store(self.log, &appended).await;
            }
        }
    }

    fn reader(&self) -> RecoveryReader<'_, Stepped<'a, S>, SkewedClock, SeededRandomness> {
        RecoveryReader {
            store: &self.store,
            clock: &self.clock,
            random: &self.random,
        }
    }

    fn published_at_read(&self) -> usize {
        self.store.published_at_read.load(Ordering::SeqCst)
    }

    async fn read(&self) {
        let at_work = self.world.at_work();
        let newest = self.reader().newest(self.log).await;
        drop(at_work);
        let Ok(newest) = newest else { return };
        let mut since = self.world.give(newest, self.published_at_read());
        for _ in 0..=self.choose(4) {
            for _ in 0..self.choose(20) {
                self.gate.pass().await;
            }
            let at_work = self.world.at_work();
            let reader = self.reader();
            let told = reader.since(self.log, &since.position, LIMITS).await;
            drop(at_work);
            let Ok(told) = told else { continue };
            self.world.check(&since, &told, self.published_at_read());
            if told.lost.is_some() {
                return;
            }
            if let Some(last) = told.entries.last() {
                let mut position = told.newest;
                position.seq = last.seq;
                let published = since.published + told.entries.len();
                since = self.world.give(position, published);
            }
        }
    }

    async fn purge(&self) {
        // A request does not come again after a month.
        let _at_work = self.world.at_work();
        let mut number = 0;
        for _ in 0..=self.choose(3) {
            // One of two is the request before once more, as Lambda repeats it.
            number += self.choose(2);
            let request = format!("{}-{number}", self.number);
            for _ in 0..self.choose(20) {
                self.gate.pass().await;
            }
            let purger = Purger {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
            };
            let purged = purger.purge(self.log, &request).await;
            if let Ok(Some(position)) = purged {
                self.world.check_purge(&position);
            }
        }
    }

    async fn join(&self) {
        for _ in 0..self.choose(20) {
            self.gate.pass().await;
        }
        let is_late = self.mutant == Some(Mutant::ReadsBeforeSubscribing);
        if !is_late {
            self.world.subscribe(self.number);
        }
        let Ok(_) = self.reader().newest(self.log).await else {
            return;
        };
        self.world.follow(self.number, self.published_at_read());
        if is_late {
            self.gate.pass().await;
            self.world.subscribe(self.number);
        }
    }
}

/// The positions of messages that are appended together.
fn positions(first: &Position, count: usize) -> Vec<Position> {
    let at = |seq| Position {
        epoch: first.epoch.clone(),
        seq,
    };
    (first.seq..).take(count).map(at).collect()
}

/// The world's clock, wrong by a few seconds. A sleep lets time pass for
/// everyone.
pub(super) struct SkewedClock {
    world: Arc<World>,
    gate: Arc<Gate>,
    ahead: Duration,
    behind: Duration,
}

impl Clock for SkewedClock {
    fn now(&self) -> UnixMillis {
        self.world.now().plus(self.ahead).minus(self.behind)
    }

    async fn sleep(&self, duration: Duration) {
        self.gate.pass().await;
        self.world.pass_time(duration);
    }
}
