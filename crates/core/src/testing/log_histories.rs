//! Histories of a log, made up at random: publishers, readers and joiners that
//! run concurrently, whose clocks differ, whose answers get lost, who die at
//! any call, while entries expire. A history is checked against what was
//! really published, so a gap, a number given twice, a message repeated, and a
//! message called lost that is not, are all found.
//!
//! A seed makes one history, always the same one.

mod actors;
mod stepped;
mod world;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use actors::Actor;
use world::World;

use crate::log::LogKey;
use crate::ports::{LogAppends, LogReads};
use crate::time::UnixMillis;

/// How far the clock of an actor, or of the store, is off at most.
const SKEW: Duration = Duration::from_secs(3);

/// A step of the log's rules, left out or done wrongly. A history that is
/// checked well finds each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An append does not store the head's entry before it moves the head.
    SkipsHealing,
    /// Of the entries of messages that were appended together, an append stores
    /// only the newest before it moves the head.
    HealsNewestOnly,
    /// The entry is stored before the head moves.
    StoresBeforeAdvancing,
    /// The head moves, wherever it is.
    AdvancesBlindly,
    /// A head that has moved is taken for another publisher's, always.
    IgnoresLostAnswers,
    /// A message that comes again is not recognised.
    ForgetsMessages,
    /// A reader gets the head as it was at its previous read.
    ReadsStaleHeads,
    /// A reader reads the entries first and the head afterwards.
    ReadsEntriesFirst,
    /// A subscriber reads the log before it is subscribed.
    ReadsBeforeSubscribing,
    /// A publisher lists the subscribers before it appends.
    ListsBeforeAppending,
}

impl Mutant {
    pub const ALL: [Self; 10] = [
        Self::SkipsHealing,
        Self::HealsNewestOnly,
        Self::StoresBeforeAdvancing,
        Self::AdvancesBlindly,
        Self::IgnoresLostAnswers,
        Self::ForgetsMessages,
        Self::ReadsStaleHeads,
        Self::ReadsEntriesFirst,
        Self::ReadsBeforeSubscribing,
        Self::ListsBeforeAppending,
    ];
}

/// Where an actor waits for its turn: before and after each of its calls.
#[derive(Default)]
pub(super) struct Gate(AtomicU8);

impl Gate {
    const RUNNING: u8 = 0;
    const WAITING: u8 = 1;
    const OPEN: u8 = 2;

    pub(super) async fn pass(&self) {
        self.0.store(Self::WAITING, Ordering::SeqCst);
        let open = |_: &mut std::task::Context<'_>| {
            let opened = self.0.compare_exchange(
                Self::OPEN,
                Self::RUNNING,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            match opened {
                Ok(_) => Poll::Ready(()),
                // Another call of the same actor may have had the turn.
                Err(_) => {
                    self.0.store(Self::WAITING, Ordering::SeqCst);
                    Poll::Pending
                }
            }
        };
        poll_fn(open).await;
    }

    fn open(&self) {
        self.0.store(Self::OPEN, Ordering::SeqCst);
    }

    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::WAITING
    }
}

/// An actor with its gate.
pub(super) struct Running<'a> {
    pub(super) gate: Arc<Gate>,
    pub(super) life: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl Running<'_> {
    /// Runs to the next gate. Returns whether the actor is done.
    pub(super) async fn step(&mut self) -> bool {
        self.gate.open();
        poll_fn(|context| match self.life.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if self.gate.is_waiting() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// Makes one history on a log of its own and checks it. `delete_expired`
/// deletes what has expired at a time.
///
/// # Errors
/// What is wrong with the history.
pub async fn explore_log<S: LogAppends + LogReads>(
    store: &S,
    delete_expired: impl AsyncFn(&LogKey, UnixMillis),
    seed: u64,
    mutant: Option<Mutant>,
) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let log = LogKey::channel(&format!("history-{seed}"));
    let world = Arc::new(World::default());
    let mut running = Vec::new();
    for number in 0..random.usize(3..=7) {
        let gate = Arc::new(Gate::default());
        let actor = Actor::new(number, store, &log, &world, &gate, mutant, random.u64(..));
        let life = actor.live();
        running.push(Running { gate, life });
    }
    while !running.is_empty() {
        match random.u32(0..200) {
            0..=9 => world.pass_time(Duration::from_secs(random.u64(1..30))),
            10..=11 => world.pass_time(Duration::from_secs(61)),
            12 => world.pass_month(),
            13..=22 => {
                let skew = Duration::from_millis(random.u64(0..SKEW.as_millis() as u64));
                let now = world.now();
                let early_or_late = [now.plus(skew), now.minus(skew)];
                delete_expired(&log, early_or_late[random.usize(0..2)]).await;
            }
            23..=27 => drop(running.swap_remove(random.usize(0..running.len()))),
            _ => {
                let number = random.usize(0..running.len());
                if running[number].step().await {
                    drop(running.swap_remove(number));
                }
            }
        }
    }
    world.check_the_end(store, &log).await;
    world
        .result()
        .map_err(|wrong| format!("seed {seed}: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeStore, breaks_a_promise};

    async fn explore(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
        let store = FakeStore::default();
        let delete = async |_: &LogKey, now| store.delete_expired_log_entries(now);
        explore_log(&store, delete, seed, mutant).await
    }

    #[tokio::test]
    async fn no_history_breaks_a_promise() {
        for seed in 0..10_000 {
            explore(seed, None).await.unwrap();
        }
    }

    /// Proves that the checks find faults. See [`Mutant`] for each.
    #[tokio::test]
    async fn every_mutant_breaks_a_promise() {
        for mutant in Mutant::ALL {
            breaks_a_promise(mutant, async |seed| explore(seed, Some(mutant)).await).await;
        }
    }
}
