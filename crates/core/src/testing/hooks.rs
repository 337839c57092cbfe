use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use belfry_protocol::{ChannelName, HookEvent, PresenceInfo};
use uuid::Uuid;

use super::store::State;
use super::{BUCKET, FakeStore, LIMITS, START, Store, connection, connection_id, put, user_id};
use crate::channels::Actions;
use crate::connections::{Connection, Recipient};
use crate::hooks::{HookSubject, PendingEvent};
use crate::ports::{
    Admission, Admitted, DeadLetters, HookEvents, JoinsPresence, Listener, PendingEvents,
    StoreError, Subscription, Touched, WaitingSubject,
};
use crate::time::UnixMillis;

/// How many events of a subject are listed: few, so that tests reach it.
const LISTED: usize = 3;

/// The events as the fake remembers them.
#[derive(Default)]
pub(super) struct HookState {
    is_on: bool,
    events: BTreeMap<(Uuid, UnixMillis, &'static str), PendingEvent>,
}

impl State {
    /// Writes an event, if there is a hook.
    pub(super) fn write_event(&mut self, pending: PendingEvent) {
        if self.hooks.is_on {
            self.hooks.events.insert(key(&pending), pending);
        }
    }
}

fn key(pending: &PendingEvent) -> (Uuid, UnixMillis, &'static str) {
    let subject = pending.subject().key();
    (subject, pending.at, pending.event.type_name())
}

impl FakeStore {
    /// A store of an application with a hook.
    #[must_use]
    pub fn with_hooks() -> Self {
        let store = Self::default();
        store.state().hooks.is_on = true;
        store
    }
}

impl HookEvents for FakeStore {
    async fn waiting(&self) -> Result<Vec<WaitingSubject>, StoreError> {
        let state = self.working("waiting")?;
        let mut waiting: Vec<WaitingSubject> = Vec::new();
        for pending in state.hooks.events.values() {
            let subject = pending.subject();
            if waiting.last().is_none_or(|last| last.subject != subject) {
                let since = pending.at;
                waiting.push(WaitingSubject { subject, since });
            }
        }
        Ok(waiting)
    }

    async fn events_of(&self, subject: &HookSubject) -> Result<PendingEvents, StoreError> {
        let state = self.working("events_of")?;
        let of_subject = state.hooks.events.values();
        let of_subject = of_subject.filter(|pending| pending.subject() == *subject);
        let mut events: Vec<_> = of_subject.cloned().collect();
        let more = events.len() > LISTED;
        events.truncate(LISTED);
        Ok(PendingEvents { events, more })
    }

    async fn forget_event(&self, event: &PendingEvent) -> Result<(), StoreError> {
        let mut state = self.working("forget_event")?;
        state.hooks.events.remove(&key(event));
        Ok(())
    }
}

/// The application's function: remembers what it was told, and fails when it is
/// told to.
#[derive(Debug, Default)]
pub struct FakeListener {
    is_down: Mutex<bool>,
    told: Mutex<Vec<HookEvent>>,
}

impl FakeListener {
    /// Makes every later call fail or succeed.
    pub fn set_down(&self, is_down: bool) {
        *self.is_down.lock().expect("no panic") = is_down;
    }

    /// What it was told since the last time, failures included.
    pub fn take(&self) -> Vec<HookEvent> {
        std::mem::take(&mut *self.told.lock().expect("no panic"))
    }
}

impl Listener for FakeListener {
    async fn tell(&self, event: &HookEvent) -> Result<(), String> {
        self.told.lock().expect("no panic").push(event.clone());
        if *self.is_down.lock().expect("no panic") {
            return Err("told to fail".into());
        }
        Ok(())
    }
}

/// Dead letters in memory.
#[derive(Debug, Default)]
pub struct FakeDeadLetters(Mutex<Vec<HookEvent>>);

impl FakeDeadLetters {
    /// Those that were kept since the last time.
    pub fn take(&self) -> Vec<HookEvent> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl DeadLetters for FakeDeadLetters {
    async fn keep(&self, event: &HookEvent) -> Result<(), String> {
        self.0.lock().expect("no panic").push(event.clone());
        Ok(())
    }
}

/// Holds a store of an application with a hook to the promises of
/// [`HookEvents`]. `new` makes an empty one.
///
/// # Panics
/// If a promise is broken.
pub async fn hooks_contract<S: Store + HookEvents>(new: impl AsyncFn() -> S) {
    a_connection_is_opened_and_closed_once(&new().await).await;
    every_end_is_an_event(&new().await).await;
    a_refused_handshake_is_no_event(&new().await).await;
    a_user_joins_and_leaves_in_turn(&new().await).await;
    subjects_are_listed_with_their_oldest_event(&new().await).await;
    many_events_of_a_subject_are_listed_oldest_first(&new().await).await;
}

fn after(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn of(id: &str) -> HookSubject {
    HookSubject::Connection(connection_id(id))
}

fn room() -> ChannelName {
    ChannelName::parse("room:7").expect("a name")
}

fn member(user: &str) -> HookSubject {
    HookSubject::Member(room(), user_id(user))
}

async fn events<S: HookEvents>(store: &S, subject: &HookSubject) -> Vec<PendingEvent> {
    store.events_of(subject).await.expect("events_of").events
}

async fn types<S: HookEvents>(store: &S, subject: &HookSubject) -> Vec<&'static str> {
    let events = events(store, subject).await;
    events.iter().map(|one| one.event.type_name()).collect()
}

const BOTH: [&str; 2] = ["connection.opened", "connection.closed"];

async fn a_connection_is_opened_and_closed_once<S: Store + HookEvents>(store: &S) {
    let row = connection("c1", "alice");
    for _ in 0..2 {
        put(store, &row).await;
        assert_eq!(events(store, &of("c1")).await, [PendingEvent::opened(&row)]);
    }
    for now in [after(7), after(8)] {
        assert_eq!(store.disconnect(&row.id, now).await, Ok(()));
        assert_eq!(
            events(store, &of("c1")).await,
            [
                PendingEvent::opened(&row),
                PendingEvent::closed(&row, after(7))
            ]
        );
    }
    let [opened, closed] = &events(store, &of("c1")).await[..] else {
        panic!("two events")
    };
    for _ in 0..2 {
        assert_eq!(store.forget_event(opened).await, Ok(()));
        let left = events(store, &of("c1")).await;
        assert_eq!(left, std::slice::from_ref(closed));
    }
    assert_eq!(store.forget_event(closed).await, Ok(()));
    assert_eq!(store.waiting().await, Ok(Vec::new()));
    // The same handshake, repeated late, is no other connection.
    let admission = Admission {
        connection: &row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    let _ = store.admit(admission, LIMITS).await;
    for again in events(store, &of("c1")).await {
        let ids = [opened.event.id(), closed.event.id()];
        assert!(ids.contains(&again.event.id()), "{again:?}");
    }
}

async fn every_end_is_an_event<S: Store + HookEvents>(store: &S) {
    for id in ["gone", "signed-out", "replaced", "early"] {
        let row = connection(id, id);
        put(store, &row).await;
        match id {
            "replaced" => {
                let successor = connection("successor", id);
                let admission = Admission {
                    connection: &successor,
                    token_issued_at: START.to_seconds(),
                    replaces: Some(&row.id),
                };
                assert_eq!(store.admit(admission, LIMITS).await, Ok(Admitted::Yes));
                assert_eq!(types(store, &of(id)).await, BOTH[..1], "it is still open");
                assert_eq!(types(store, &of("successor")).await, BOTH[..1]);
            }
            "signed-out" => {
                let user = &row.user_id;
                let ids = store.sign_out(user, START.to_seconds(), START).await;
                assert_eq!(ids, Ok(vec![row.id.clone()]));
                let ended = store.end_session(user, &row.id, START).await;
                assert!(ended.expect("end_session").is_some());
                assert_eq!(types(store, &of(id)).await, BOTH[..1], "it is still open");
            }
            _ => {}
        }
        // The function's clock may be slow.
        let now = if id == "early" {
            START.minus(Duration::from_secs(2))
        } else {
            after(1)
        };
        for _ in 0..2 {
            let seen = Recipient::from(&row);
            assert_eq!(store.remove_unchanged(&seen, now).await, Ok(()));
            assert_eq!(types(store, &of(id)).await, BOTH, "{id}");
        }
    }
}

async fn a_refused_handshake_is_no_event<S: Store + HookEvents>(store: &S) {
    let row = connection("c1", "alice");
    assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
    assert_eq!(types(store, &of("c1")).await, [""; 0], "it never was open");
    let admission = Admission {
        connection: &row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    assert_eq!(store.admit(admission, LIMITS).await, Ok(Admitted::Ended));
    // It may have been open for a moment.
    let types = types(store, &of("c1")).await;
    assert!(types.is_empty() || types == BOTH, "{types:?}");
}

async fn open<S: Store>(store: &S, id: &str, user: &str) -> Connection {
    put(store, &connection(id, user)).await;
    let begun = store
        .begin_session(&connection_id(id), &BUCKET, START)
        .await;
    match begun.expect("begin_session") {
        Touched::Live(row) => row,
        other => panic!("{other:?}"),
    }
}

async fn join<S: Store>(store: &S, row: &Connection, name: &str, now: UnixMillis) {
    let info = PresenceInfo::from_json(&format!(r#"{{"name":"{name}"}}"#)).expect("info");
    let wanted = [Subscription {
        channel: room(),
        ends_at: row.token_expires_at,
        allowed: None,
        actions: Actions::default(),
        presence: JoinsPresence::With(info),
    }];
    let subscribed = store.subscribe(row, &wanted, 50, now).await;
    subscribed.expect("subscribe");
}

/// Makes everybody absent who has left.
async fn sweep<S: Store>(store: &S, now: UnixMillis) {
    let due = store.due_list(now).await.expect("due_list");
    for departure in &due.departures {
        assert_eq!(store.depart(departure).await, Ok(Vec::new()));
    }
    for leave in &due.leaves {
        for _ in 0..2 {
            store.make_absent(leave, now).await.expect("make_absent");
        }
        assert_eq!(store.forget_leave(leave).await, Ok(()));
    }
}

async fn a_user_joins_and_leaves_in_turn<S: Store + HookEvents>(store: &S) {
    let one = open(store, "c1", "alice").await;
    let two = open(store, "c2", "alice").await;
    let (joined, left) = ("presence.joined", "presence.left");
    // Nobody announces the first arrival, so the others are told again.
    for name in ["a", "a", "b"] {
        join(store, &one, name, after(1)).await;
        assert_eq!(types(store, &member("alice")).await, [joined], "{name}");
    }
    let announced = store.announced(&room(), &one.user_id).await;
    assert_eq!(announced, Ok(()));
    join(store, &two, "b", after(2)).await;
    let channels = [room()];
    let unsubscribed = store.unsubscribe(&one, &channels, after(3)).await;
    let leaves = unsubscribed.expect("unsubscribe").leaves;
    assert_eq!(leaves, [], "the other tab is there");
    sweep(store, after(3)).await;
    assert_eq!(types(store, &member("alice")).await, [joined]);
    assert_eq!(store.disconnect(&two.id, after(4)).await, Ok(()));
    sweep(store, after(63)).await;
    assert_eq!(types(store, &member("alice")).await, [joined], "in grace");
    sweep(store, after(64)).await;
    assert_eq!(types(store, &member("alice")).await, [joined, left]);
    sweep(store, after(99)).await;
    join(store, &one, "b", after(20)).await;
    let events = events(store, &member("alice")).await;
    let types: Vec<_> = events.iter().map(|one| one.event.type_name()).collect();
    assert_eq!(types, [joined, left, joined], "whatever the clocks say");
    assert_eq!(events[1].at, after(64));
    assert!(events[2].at > events[1].at, "{events:?}");
}

async fn subjects_are_listed_with_their_oldest_event<S: Store + HookEvents>(store: &S) {
    for n in 0..20 {
        let row = connection(&format!("c{n}"), &format!("user-{n}"));
        put(store, &row).await;
        if n % 2 == 0 {
            assert_eq!(store.disconnect(&row.id, after(5)).await, Ok(()));
        }
        if n == 4 {
            let opened = PendingEvent::opened(&row);
            assert_eq!(store.forget_event(&opened).await, Ok(()));
        }
    }
    let mut waiting = store.waiting().await.expect("waiting");
    waiting.sort_by_key(|one| one.subject.clone());
    let mut expected: Vec<_> = (0..20)
        .map(|n| WaitingSubject {
            subject: of(&format!("c{n}")),
            since: if n == 4 { after(5) } else { START },
        })
        .collect();
    expected.sort_by_key(|one| one.subject.clone());
    assert_eq!(waiting, expected);
}

async fn many_events_of_a_subject_are_listed_oldest_first<S: Store + HookEvents>(store: &S) {
    let row = open(store, "c1", "alice").await;
    for n in 0..70 {
        join(store, &row, "a", after(10 * n)).await;
        let channels = [room()];
        let left = store.unsubscribe(&row, &channels, after(10 * n + 5)).await;
        assert_eq!(left.expect("unsubscribe").leaves.len(), 1);
        sweep(store, after(10 * n + 5)).await;
    }
    let (mut found, mut calls) = (Vec::new(), 0);
    loop {
        let PendingEvents { events, more } =
            store.events_of(&member("alice")).await.expect("events_of");
        for event in events {
            assert_eq!(store.forget_event(&event).await, Ok(()));
            found.push(event.at);
        }
        calls += 1;
        if !more {
            break;
        }
    }
    let expected: Vec<_> = (0..140).map(|n| after(5 * n)).collect();
    assert_eq!(found, expected);
    assert!(calls > 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Disconnections;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        hooks_contract(async || FakeStore::with_hooks()).await;
        super::super::store_contract(async || FakeStore::with_hooks()).await;
    }

    #[tokio::test]
    async fn without_a_hook_there_are_no_events() {
        let store = FakeStore::default();
        let row = open(&store, "c1", "alice").await;
        join(&store, &row, "a", START).await;
        assert_eq!(store.disconnect(&row.id, START).await, Ok(()));
        assert_eq!(store.waiting().await, Ok(Vec::new()));
    }
}
