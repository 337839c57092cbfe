//! What the application is told, however deliverers fail and die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use belfry_protocol::HookEvent;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::ports::{Disconnections, PendingEvents};
use crate::testing::{
    FakeDeadLetters, FakeListener, FakeMetrics, FakeStore, START, SeededRandomness, TestClock,
    connection, connection_id,
};

type Delivering<S = FakeStore, L = FakeListener> =
    Deliverer<S, L, FakeDeadLetters, TestClock, FakeMetrics, SeededRandomness>;

fn deliverer<S, L>(store: S, listener: L) -> Delivering<S, L> {
    Deliverer {
        store,
        listener,
        dead_letters: FakeDeadLetters::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        random: SeededRandomness::default(),
    }
}

fn far() -> UnixMillis {
    START.plus(Duration::from_secs(90 * 24 * 60 * 60))
}

fn of(id: &str) -> HookSubject {
    HookSubject::Connection(connection_id(id))
}

/// A store in which connections were opened and closed.
async fn store_of(connections: usize) -> FakeStore {
    let store = FakeStore::with_hooks();
    for n in 0..connections {
        let id = format!("c{n}");
        store.put(&id, "alice").await;
        let id = connection_id(&id);
        store.disconnect(&id, START).await.unwrap();
    }
    store
}

fn types(told: &[HookEvent]) -> Vec<&'static str> {
    told.iter().map(HookEvent::type_name).collect()
}

#[tokio::test]
async fn an_event_that_failed_keeps_the_later_ones_waiting() {
    let hooks = deliverer(store_of(1).await, FakeListener::default());
    hooks.listener.set_down(true);
    let done = hooks.deliver(&of("c0"), far()).await.unwrap();
    assert_eq!((done.delivered, done.failed), (0, 1));
    assert_eq!(types(&hooks.listener.take()), ["connection.opened"]);
    hooks.listener.set_down(false);
    let done = hooks.deliver(&of("c0"), far()).await.unwrap();
    assert_eq!((done.delivered, done.failed), (2, 0));
    let told = hooks.listener.take();
    assert_eq!(types(&told), ["connection.opened", "connection.closed"]);
    assert_eq!(
        hooks.metrics.take(),
        [(0, 1), (2, 0)].map(|(delivered, failed)| MetricEvent::HookEventsDelivered {
            delivered,
            failed,
            given_up: 0
        })
    );
    let done = hooks.deliver(&of("c0"), far()).await.unwrap();
    assert_eq!(done, Deliveries::default());
    assert_eq!(hooks.metrics.take(), []);
}

#[tokio::test]
async fn a_run_tells_of_everything_that_waits_and_how_long() {
    let hooks = deliverer(store_of(50).await, FakeListener::default());
    hooks.clock.advance(Duration::from_secs(65));
    let done = hooks.deliver_all(far()).await.unwrap();
    assert_eq!((done.delivered, hooks.listener.take().len()), (100, 100));
    let waiting = MetricEvent::HookEventsWaiting {
        oldest: Duration::from_secs(65),
    };
    assert_eq!(hooks.metrics.take()[0], waiting);
    assert_eq!(hooks.deliver_all(far()).await, Ok(Deliveries::default()));
    assert_eq!(hooks.metrics.take(), [], "nothing waits");
}

#[tokio::test]
async fn what_was_just_written_is_left_to_its_own_deliverer() {
    let hooks = deliverer(store_of(1).await, FakeListener::default());
    hooks.clock.advance(FRESH - Duration::from_millis(1));
    assert_eq!(hooks.deliver_all(far()).await, Ok(Deliveries::default()));
    hooks.clock.advance(Duration::from_millis(1));
    assert_eq!(hooks.deliver_all(far()).await.unwrap().delivered, 2);
}

#[tokio::test]
async fn a_function_that_is_down_is_not_stormed() {
    let hooks = deliverer(store_of(1_000).await, FakeListener::default());
    hooks.clock.advance(Duration::from_secs(60));
    hooks.listener.set_down(true);
    let done = hooks.deliver_all(far()).await.unwrap();
    let most = u64::from(FAILURES_IN_A_ROW) + CONCURRENCY as u64;
    assert!((1..=most).contains(&done.failed), "{done:?}");
    hooks.listener.set_down(false);
    assert_eq!(hooks.deliver_all(far()).await.unwrap().delivered, 2_000);
}

#[tokio::test]
async fn events_that_are_always_refused_do_not_keep_others_waiting() {
    /// Refuses the events of some connections.
    struct Picky(FakeListener);
    impl Listener for Picky {
        async fn tell(&self, event: &HookEvent) -> Result<(), String> {
            let HookEvent::ConnectionOpened(of) = event else {
                return self.0.tell(event).await;
            };
            let number: usize = of.connection_id.as_str()[1..].parse().unwrap();
            if number < 40 {
                return Err("refused".into());
            }
            self.0.tell(event).await
        }
    }
    let hooks = deliverer(store_of(200).await, Picky(FakeListener::default()));
    hooks.clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        hooks.deliver_all(far()).await.unwrap();
    }
    assert_eq!(hooks.listener.0.take().len(), 2 * 160);
}

#[tokio::test]
async fn after_a_day_an_event_is_a_dead_letter() {
    let hooks = deliverer(store_of(1_000).await, FakeListener::default());
    hooks.listener.set_down(true);
    hooks.clock.advance(GIVE_UP_AFTER - Duration::from_secs(1));
    hooks.deliver_all(far()).await.unwrap();
    assert_eq!(hooks.dead_letters.take(), []);
    hooks.clock.advance(Duration::from_secs(1));
    let done = hooks.deliver_all(far()).await.unwrap();
    assert_eq!(done.given_up, 2_000);
    assert_eq!(hooks.dead_letters.take().len(), 2_000);
    assert!(done.failed < 50, "it is not stormed then: {done:?}");
    assert_eq!(hooks.store.waiting().await, Ok(Vec::new()));
}

#[tokio::test]
async fn an_old_event_is_told_if_the_function_is_up_again() {
    let hooks = deliverer(store_of(10).await, FakeListener::default());
    hooks.clock.advance(3 * GIVE_UP_AFTER);
    let done = hooks.deliver_all(far()).await.unwrap();
    assert_eq!((done.delivered, done.given_up), (20, 0));
}

#[tokio::test]
async fn no_delivery_begins_that_could_end_after_the_deadline() {
    let hooks = deliverer(store_of(3).await, FakeListener::default());
    hooks.clock.advance(Duration::from_secs(60));
    let now = hooks.clock.now();
    let short = now.plus(HOOK_TIME).minus(Duration::from_millis(1));
    assert_eq!(hooks.deliver_all(short).await, Ok(Deliveries::default()));
    let enough = now.plus(HOOK_TIME);
    assert_eq!(hooks.deliver_all(enough).await.unwrap().delivered, 6);
}

#[tokio::test]
async fn an_event_that_is_not_forgotten_is_told_again() {
    let hooks = deliverer(store_of(1).await, FakeListener::default());
    hooks.store.fail_next("forget_event");
    assert!(hooks.deliver(&of("c0"), far()).await.is_err());
    assert_eq!(types(&hooks.listener.take()), ["connection.opened"]);
    let done = hooks.deliver(&of("c0"), far()).await.unwrap();
    assert_eq!(done.delivered, 2);
}

/// A step that is left out or done wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A failure counts as told.
    IgnoresFailures,
    /// An event is forgotten before it is told.
    ForgetsFirst,
    /// The store lists a later event without the earlier one.
    ListsLaterOnly,
}

/// Lets others run before and after each call.
struct Stepped<'a, T> {
    inner: &'a T,
    mutant: Option<Mutant>,
    random: &'a Mutex<fastrand::Rng>,
}

impl<T> Stepped<'_, T> {
    fn one_in(&self, n: u32) -> bool {
        self.random.lock().unwrap().u32(0..n) == 0
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

fn lost<T>() -> Result<T, StoreError> {
    Err(StoreError {
        operation: "a call",
        cause: "the answer got lost".into(),
    })
}

impl HookEvents for Stepped<'_, FakeStore> {
    async fn waiting(&self) -> Result<Vec<WaitingSubject>, StoreError> {
        tokio::task::yield_now().await;
        self.inner.waiting().await
    }

    async fn events_of(&self, subject: &HookSubject) -> Result<PendingEvents, StoreError> {
        tokio::task::yield_now().await;
        let mut listed = self.inner.events_of(subject).await?;
        if self.is(Mutant::ListsLaterOnly) && listed.events.len() > 1 && self.one_in(4) {
            listed.events.remove(0);
        }
        if self.is(Mutant::ForgetsFirst) {
            for event in &listed.events {
                self.inner.forget_event(event).await?;
            }
        }
        tokio::task::yield_now().await;
        Ok(listed)
    }

    async fn forget_event(&self, event: &PendingEvent) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.inner.forget_event(event).await?;
        tokio::task::yield_now().await;
        if self.one_in(10) { lost() } else { Ok(()) }
    }
}

impl Listener for Stepped<'_, FakeListener> {
    async fn tell(&self, event: &HookEvent) -> Result<(), String> {
        tokio::task::yield_now().await;
        let failed = match self.random.lock().unwrap().u32(0..6) {
            0 => return self.answer("it got nothing"),
            1 => self.answer("its answer got lost"),
            _ => Ok(()),
        };
        let told = self.inner.tell(event).await;
        tokio::task::yield_now().await;
        told.and(failed)
    }
}

impl Stepped<'_, FakeListener> {
    fn answer(&self, error: &str) -> Result<(), String> {
        if self.is(Mutant::IgnoresFailures) {
            Ok(())
        } else {
            Err(error.into())
        }
    }
}

/// Connections come and go while deliverers run side by side, and die anywhere.
/// In the end everything was told, and for the first time in order.
async fn explore(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let draw = |n: usize| random.lock().unwrap().usize(0..n);
    let (store, listener) = (FakeStore::with_hooks(), FakeListener::default());
    let stepped = Stepped {
        inner: &store,
        mutant,
        random: &random,
    };
    let listening = Stepped {
        inner: &listener,
        mutant,
        random: &random,
    };
    let hooks = deliverer(stepped, listening);
    // All of it is old enough for a run.
    hooks.clock.advance(Duration::from_secs(60));
    let mut opened = Vec::new();
    {
        let mut running: Vec<BoxFuture<'_, ()>> = Vec::new();
        for _ in 0..400 {
            let at = START.plus(Duration::from_millis(draw(40) as u64));
            match draw(8) {
                0 => {
                    let id = format!("c{}", opened.len());
                    let row = crate::connections::Connection {
                        connected_at: at,
                        ..connection(&id, "alice")
                    };
                    store.put_row(&row).await;
                    opened.push(id);
                    if draw(3) == 0 {
                        store.disconnect(&row.id, at).await.unwrap();
                    }
                }
                1 => {
                    let open = store.rows();
                    if !open.is_empty() {
                        let row = &open[draw(open.len())];
                        store.disconnect(&row.id, at).await.unwrap();
                    }
                }
                2 if running.len() < 4 => {
                    let hooks = &hooks;
                    running.push(async move { drop(hooks.deliver_all(far()).await) }.boxed());
                }
                3 if running.len() < 4 => {
                    let waiting = store.waiting().await.unwrap();
                    if !waiting.is_empty() {
                        let subject = waiting[draw(waiting.len())].subject.clone();
                        let hooks = &hooks;
                        running.push(
                            async move { drop(hooks.deliver(&subject, far()).await) }.boxed(),
                        );
                    }
                }
                4 if !running.is_empty() && draw(4) == 0 => {
                    let dead = draw(running.len());
                    drop(running.swap_remove(dead));
                }
                _ if !running.is_empty() => {
                    let next = draw(running.len());
                    if running[next].as_mut().now_or_never().is_some() {
                        drop(running.swap_remove(next));
                    }
                }
                _ => {}
            }
        }
    }
    for row in store.rows() {
        store.disconnect(&row.id, START).await.unwrap();
    }
    let calm = deliverer(store, listener);
    calm.clock.advance(Duration::from_secs(60));
    calm.deliver_all(far()).await.unwrap();
    check(&calm.listener.take(), opened)
}

fn check(told: &[HookEvent], opened: Vec<String>) -> Result<(), String> {
    let opened = opened.into_iter().map(|id| (id, Vec::new()));
    let mut by_connection: BTreeMap<String, Vec<&str>> = opened.collect();
    let mut ids = BTreeSet::new();
    for event in told {
        let (HookEvent::ConnectionOpened(of) | HookEvent::ConnectionClosed(of)) = event else {
            return Err(format!("{event:?}"));
        };
        let of_connection = by_connection.get_mut(of.connection_id.as_str());
        let of_connection = of_connection.ok_or("it was never open")?;
        if ids.insert(event.id()) {
            of_connection.push(event.type_name());
        }
    }
    for (id, told) in by_connection {
        if told != ["connection.opened", "connection.closed"] {
            return Err(format!("{id}: {told:?}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_and_first_occurrences_are_in_order() {
    for seed in 0..1_000 {
        if let Err(wrong) = explore(seed, None).await {
            panic!("seed {seed}: {wrong}");
        }
    }
}

#[tokio::test]
async fn each_mutant_breaks_that() {
    for mutant in [
        Mutant::IgnoresFailures,
        Mutant::ForgetsFirst,
        Mutant::ListsLaterOnly,
    ] {
        let explored = async |seed| explore(seed, Some(mutant)).await;
        crate::testing::breaks_a_promise(mutant, explored).await;
    }
}
