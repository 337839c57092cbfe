//! Histories of a lock, made up at random: clients that lock, renew and unlock
//! through functions whose clocks differ, whose answers get lost, which die at
//! any call, while connections end, are replaced by others, and states are
//! forgotten. At no true time do two clients hold the lock by what they were
//! told, and the numbers rise.
//!
//! A seed makes one history, always the same one.

mod stepped;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use belfry_protocol::ConnectionId;

use super::Store;
use super::locks::{key, open, succeed};
use super::log_histories::{Gate, Running};
use crate::connections::Connection;
use crate::locks::{Grant, LockKeeper, LockOutcome, TAKEOVER, release_all, revoke};
use crate::ports::{Clock, LockKey, LockState, Locks};
use crate::testing::START;
use crate::time::UnixMillis;
use stepped::Stepped;

/// How far a function's clock is off at most, in milliseconds.
const SKEW: u64 = 2_000;

/// The longest lifetime of a lock in a history.
const LONGEST: Duration = Duration::from_secs(60);

/// Clients, each a connection of its own user.
const CLIENTS: usize = 3;

/// A step of the locks' rules, left out or done wrongly. A history that is
/// checked well finds each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMutant {
    /// A lock is swapped, however it is.
    SwapsBlindly,
    /// A lock is taken over as soon as its seconds are over.
    TakesOverAtOnce,
    /// A renewal may make the end earlier.
    ShortensOnRenewal,
    /// A lock is released, whoever holds it.
    ReleasesBlindly,
    /// A new holder gets the number of the last one.
    KeepsNumber,
    /// Numbers begin again when a state was forgotten.
    RestartsNumbers,
    /// A lock that is mine because an answer got lost is taken for another's.
    IgnoresLostAnswers,
    /// A lock is not on its connection's list.
    DoesNotList,
    /// A lock that was taken after its connection had ended is kept.
    DoesNotLookAgain,
    /// A connection that was replaced takes its locks with it.
    EndsWithPredecessor,
    /// An `unlock` of a connection that has ended releases what its successor has
    /// renewed since.
    UnlocksLate,
    /// A lock that was released is taken off the list, also if it was taken again.
    UnlistsByName,
    /// A lock that an operator releases is free at once.
    RevokesAtOnce,
}

impl LockMutant {
    pub const ALL: [Self; 13] = [
        Self::SwapsBlindly,
        Self::TakesOverAtOnce,
        Self::ShortensOnRenewal,
        Self::ReleasesBlindly,
        Self::KeepsNumber,
        Self::RestartsNumbers,
        Self::IgnoresLostAnswers,
        Self::DoesNotList,
        Self::DoesNotLookAgain,
        Self::EndsWithPredecessor,
        Self::UnlocksLate,
        Self::UnlistsByName,
        Self::RevokesAtOnce,
    ];
}

/// What a client was told that it holds, in true time.
#[derive(Debug, Clone)]
struct Belief {
    client: usize,
    from: UnixMillis,
    until: UnixMillis,
    fencing: u64,
}

#[derive(Default)]
struct State {
    passed: Duration,
    beliefs: Vec<Belief>,
    /// Each client's connections, in their order. The last one is in use.
    connections: Vec<Vec<Connection>>,
    ended: HashSet<ConnectionId>,
    /// Connections whose clients wait for an answer.
    busy: HashSet<ConnectionId>,
    /// Clients one of whose frames died: only the sweep tidies up after it.
    untidy: HashSet<usize>,
    wrong: Option<String>,
}

/// What really happens.
#[derive(Default)]
struct World(Mutex<State>);

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it is held")
    }

    fn now(&self) -> UnixMillis {
        START.plus(self.state().passed)
    }

    fn wrong(&self, what: String) {
        self.state().wrong.get_or_insert(what);
    }

    /// A client was told that it holds the lock.
    fn believe(&self, belief: Belief) {
        // The answer came too late.
        if belief.until <= belief.from {
            return;
        }
        let mut state = self.state();
        let others = state.beliefs.iter();
        let others: Vec<_> = others.filter(|one| one.client != belief.client).collect();
        let overlaps = |one: &&&Belief| one.from < belief.until && belief.from < one.until;
        let overlapping = others.iter().find(overlaps);
        let passed = others.iter().find(|one| {
            one.fencing == belief.fencing
                || (one.fencing > belief.fencing) != (one.from > belief.from)
        });
        let wrong = match (overlapping, passed) {
            (Some(other), _) => Some(format!("two hold it: {other:?} {belief:?}")),
            (None, Some(other)) => Some(format!("numbers: {other:?} {belief:?}")),
            (None, None) => None,
        };
        if let Some(wrong) = wrong {
            state.wrong.get_or_insert(wrong);
        }
        state.beliefs.push(belief);
    }

    /// The connection that a client uses.
    fn current(&self, client: usize) -> Connection {
        let connections = &self.state().connections[client];
        connections.last().expect("at least one").clone()
    }

    /// Whether every connection of a client has ended.
    fn has_ended(&self, client: usize) -> bool {
        let state = self.state();
        let mut connections = state.connections[client].iter();
        connections.all(|one| state.ended.contains(&one.id))
    }

    /// A client gives the lock up.
    fn give_up(&self, client: usize) {
        let mut state = self.state();
        let now = START.plus(state.passed);
        let own = state.beliefs.iter_mut().filter(|one| one.client == client);
        own.for_each(|one| one.until = one.until.min(now).max(one.from));
    }
}

/// The world's clock, wrong by up to two seconds.
struct FunctionClock {
    world: Arc<World>,
    ahead: Duration,
    behind: Duration,
}

impl FunctionClock {
    fn new(world: &Arc<World>, random: &mut fastrand::Rng) -> Self {
        let off = Duration::from_millis(random.u64(0..=SKEW));
        let is_ahead = random.bool();
        Self {
            world: world.clone(),
            ahead: if is_ahead { off } else { Duration::ZERO },
            behind: if is_ahead { Duration::ZERO } else { off },
        }
    }

    /// The true time at which this clock shows a time.
    fn truly(&self, shown: UnixMillis) -> UnixMillis {
        shown.minus(self.ahead).plus(self.behind)
    }
}

impl Clock for FunctionClock {
    fn now(&self) -> UnixMillis {
        self.world.now().plus(self.ahead).minus(self.behind)
    }

    async fn sleep(&self, _: Duration) {
        unreachable!("no lock sleeps")
    }
}

/// A client, and the functions that serve its frames one after the other.
struct Client<'a, S> {
    number: usize,
    connection: Connection,
    store: Stepped<'a, S>,
    world: Arc<World>,
    gate: Arc<Gate>,
    random: fastrand::Rng,
}

impl<S: Store> Client<'_, S> {
    async fn live(mut self) {
        let key = key("title");
        for _ in 0..self.random.usize(1..8) {
            for _ in 0..self.random.usize(0..6) {
                self.gate.pass().await;
            }
            if self.world.current(self.number) != self.connection {
                return self.leave(&key).await;
            }
            let clock = FunctionClock::new(&self.world, &mut self.random);
            let keeper = LockKeeper {
                store: &self.store,
                clock: &clock,
            };
            let id = &self.connection.id;
            self.world.state().busy.insert(id.clone());
            if self.random.u32(0..4) == 0 {
                self.world.give_up(self.number);
                let _ = keeper.unlock(&self.connection, &key).await;
                self.world.state().busy.remove(id);
                continue;
            }
            let lifetime = Duration::from_secs(self.random.u64(5..=LONGEST.as_secs()));
            let locked = keeper.lock(&self.connection, &key, lifetime).await;
            let from = self.world.now();
            self.world.state().busy.remove(id);
            if locked.is_err() {
                self.world.state().untidy.insert(self.number);
            }
            // Nobody receives the answer.
            if self.world.state().ended.contains(&self.connection.id) {
                continue;
            }
            match locked {
                Ok(LockOutcome::Locked(Grant { state, .. })) => self.world.believe(Belief {
                    client: self.number,
                    from,
                    until: clock.truly(state.until),
                    fencing: self.store.told(state.fencing),
                }),
                Ok(LockOutcome::Held(state)) => self.check_holder(&state).await,
                Ok(LockOutcome::TooMany) => self.world.wrong("too many locks".into()),
                Ok(LockOutcome::Ended) => return,
                Err(_) => {}
            }
        }
    }

    /// The client has moved to another connection. A last frame of the old one may
    /// come: `unlock`, or `unsubscribe`.
    async fn leave(mut self, key: &LockKey) {
        let clock = FunctionClock::new(&self.world, &mut self.random);
        let keeper = LockKeeper {
            store: &self.store,
            clock: &clock,
        };
        let of_last_frame = self.random.u32(0..3);
        if of_last_frame > 0 {
            self.world.give_up(self.number);
        }
        match of_last_frame {
            0 => {}
            1 => drop(keeper.unlock(&self.connection, key).await),
            _ => {
                let listed = self.store.listed_locks(self.connection.lock_owner()).await;
                let listed = listed.unwrap_or_default();
                drop(keeper.unlock_all(&self.connection, &listed).await);
            }
        }
    }

    async fn check_holder(&self, told: &LockState) {
        if told.owner.as_str() == stepped::NOBODY {
            self.world
                .wrong(format!("its own lock is held by another: {told:?}"));
        }
    }
}

/// Makes one history in an empty store and checks it. `delete_expired` deletes
/// what has expired at a time.
///
/// # Errors
/// What is wrong with the history.
///
/// # Panics
/// If the store fails.
pub async fn explore_lock<S: Store>(
    store: &S,
    delete_expired: impl AsyncFn(UnixMillis),
    seed: u64,
    mutant: Option<LockMutant>,
) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = Arc::new(World::default());
    for number in 0..CLIENTS {
        let id = format!("c{number}");
        let connection = open(store, &id, &format!("user-{number}")).await;
        world.state().connections.push(vec![connection]);
    }
    let start = |number: usize, random: &mut fastrand::Rng| {
        let connection = &world.current(number);
        let gate = Arc::new(Gate::default());
        let client = Client {
            number,
            connection: connection.clone(),
            store: Stepped::new(store, connection.lock_owner(), &gate, mutant, random.fork()),
            world: world.clone(),
            gate: gate.clone(),
            random: random.fork(),
        };
        let life = Box::pin(client.live());
        (number, Running { gate, life })
    };
    let mut running: Vec<_> = (0..CLIENTS).map(|n| start(n, &mut random)).collect();
    while !running.is_empty() {
        match random.u32(0..100) {
            0..=7 => pass(&world, Duration::from_millis(random.u64(0..20_000))),
            8 => {
                // Nobody is at work that long.
                if random.u32(0..4) == 0 {
                    for (number, _) in running.drain(..) {
                        world.give_up(number);
                        world.state().untidy.insert(number);
                    }
                    pass(&world, Duration::from_secs(2 * 86_400));
                    delete_expired(world.now()).await;
                    let ended = world.state().ended.clone();
                    let live = (0..CLIENTS).filter(|n| !ended.contains(&world.current(*n).id));
                    running = live.map(|n| start(n, &mut random)).collect();
                }
            }
            9..=10 => {
                let (number, _) = running.swap_remove(random.usize(0..running.len()));
                world.state().untidy.insert(number);
            }
            11..=12 => {
                let number = random.usize(0..CLIENTS);
                let all = world.state().connections[number].clone();
                let ending = &all[random.usize(0..all.len())];
                let is_current = *ending == all[all.len() - 1];
                if is_current {
                    // Its client notices the end at once.
                    world.give_up(number);
                }
                let is_new = world.state().ended.insert(ending.id.clone());
                if is_new {
                    let now = world.now();
                    store.disconnect(&ending.id, now).await.expect("disconnect");
                    if mutant == Some(LockMutant::EndsWithPredecessor) {
                        let (key, owner) = (key("title"), ending.lock_owner());
                        let any = UnixMillis(u64::MAX);
                        let released = store.release_lock(&key, owner, any).await;
                        released.expect("release_lock");
                    }
                    drop(
                        running
                            .extract_if(.., |one| one.0 == number && is_current && random.bool()),
                    );
                }
            }
            13..=14 => {
                let number = random.usize(0..CLIENTS);
                let old = world.current(number);
                if world.state().ended.contains(&old.id) {
                    continue;
                }
                let count = world.state().connections[number].len();
                let id = format!("c{number}-{count}");
                let new = succeed(store, &id, &old).await;
                world.state().connections[number].push(new);
                // A client moves to another connection when it has its answers, or
                // because the old one breaks. The function goes on.
                if world.state().busy.contains(&old.id) {
                    world.state().ended.insert(old.id.clone());
                    let now = world.now();
                    store.disconnect(&old.id, now).await.expect("disconnect");
                }
                running.push(start(number, &mut random));
            }
            15..=16 => {
                let clock = FunctionClock::new(&world, &mut random);
                let title = key("title");
                let revoked = revoke(store, &title, clock.now()).await;
                let is_held = revoked.expect("revoke").is_some();
                if is_held && mutant == Some(LockMutant::RevokesAtOnce) {
                    let state = store.find_lock(&title).await.expect("find_lock");
                    let owner = state.expect("a lock").owner;
                    let any = UnixMillis(u64::MAX);
                    let released = store.release_lock(&title, &owner, any).await;
                    released.expect("release_lock");
                }
            }
            _ => {
                let number = random.usize(0..running.len());
                if running[number].1.step().await {
                    running.swap_remove(number);
                }
            }
        }
    }
    check_the_end(store, &world).await;
    let wrong = world.state().wrong.take();
    wrong.map_or(Ok(()), |wrong| Err(format!("seed {seed}: {wrong}")))
}

fn pass(world: &World, duration: Duration) {
    world.state().passed += duration;
}

/// When all is quiet: what has ended holds nothing, and what is dead is free
/// after its seconds.
async fn check_the_end<S: Store>(store: &S, world: &Arc<World>) {
    let key = key("title");
    let untidy = world.state().untidy.clone();
    let holder = async || {
        let state = store.find_lock(&key).await.expect("find_lock");
        state.filter(|state| state.until > UnixMillis(0))
    };
    if let Some(state) = holder().await {
        let number = client_of(world, &state.owner);
        if world.has_ended(number) && !untidy.contains(&number) {
            world.wrong(format!("held by a connection that has ended: {state:?}"));
        }
    }
    let due = world.now().plus(Duration::from_secs(60));
    let departures = store.due_list(due).await.expect("due_list").departures;
    for departure in &departures {
        let owner = &departure.lock_owner;
        let listed = store.depart(departure).await.expect("depart");
        let released = release_all(store, owner, &listed).await;
        released.expect("release_all");
        let forgotten = store.forget_departure(departure).await;
        forgotten.expect("forget_departure");
    }
    if let Some(state) = holder().await
        && world.has_ended(client_of(world, &state.owner))
    {
        world.wrong(format!("held after the sweep: {state:?}"));
    }
    pass(world, LONGEST + TAKEOVER + Duration::from_millis(2 * SKEW));
    let last = open(store, "last", "last").await;
    let mut random = fastrand::Rng::with_seed(0);
    let clock = FunctionClock::new(world, &mut random);
    let keeper = LockKeeper {
        store,
        clock: &clock,
    };
    let locked = keeper.lock(&last, &key, LONGEST).await;
    if !matches!(locked, Ok(LockOutcome::Locked(_))) {
        world.wrong(format!("a dead holder's lock is not free: {locked:?}"));
    }
}

/// The client that holds locks under a name.
fn client_of(world: &World, owner: &ConnectionId) -> usize {
    let state = world.state();
    let clients = &mut state.connections.iter();
    let found = clients.position(|all| all.iter().any(|one| one.lock_owner() == owner));
    found.expect("a client")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeStore, breaks_a_promise};

    async fn explore(seed: u64, mutant: Option<LockMutant>) -> Result<(), String> {
        let store = FakeStore::default();
        let delete = async |now| store.delete_expired_locks(now);
        explore_lock(&store, delete, seed, mutant).await
    }

    #[tokio::test]
    async fn never_two_holders() {
        for seed in 0..5_000 {
            explore(seed, None).await.unwrap();
        }
    }

    /// Proves that the checks find faults. See [`LockMutant`] for each.
    #[tokio::test]
    async fn every_mutant_breaks_a_promise() {
        for mutant in LockMutant::ALL {
            breaks_a_promise(mutant, async |seed| explore(seed, Some(mutant)).await).await;
        }
    }
}
