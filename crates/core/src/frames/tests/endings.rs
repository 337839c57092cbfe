//! Frames, ends of connections and sweeps in any order, any of which may die at
//! any call: at rest, those are present whose connections are, and nobody else
//! holds a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use belfry_protocol::{ChannelName, LockName};
use proptest::prelude::*;

use super::*;
use crate::connections::Recipient;
use crate::liveness::Sweeper;
use crate::ports::{
    Admission, Admissions, Admitted, Departures, Disconnections, Due, Listing, LockKey, Segment,
};
use crate::presence::PRESENCE_GRACE;
use crate::testing::{LIMITS, LIVENESS};

const RULES: &str = r#"{"version":"1.0",
    "channels": [{"match": "room:*", "allow": ["subscribe", "presence", "lock"]}]}"#;

const CONNECTIONS: usize = 6;

const LOCKS: [&str; 2] = ["title", "body"];

#[derive(Debug, Clone)]
enum Step {
    /// A frame. The function may die after some calls.
    Frame(usize, Sent, Option<u32>),
    /// The end of a connection. Its function may die right after it has removed
    /// the row.
    End(usize, By, bool),
    /// A client moves to a new connection. The old one ends later.
    Replace(usize),
    /// The end of a connection that was replaced.
    EndReplaced(By, bool),
    Wait(u64),
    Sweep(Option<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Subscribe { is_present: bool },
    Unsubscribe,
    Lock(usize),
    Unlock(usize),
}

#[derive(Debug, Clone, Copy)]
enum By {
    Disconnect,
    /// A post finds it gone.
    Removal,
    SignOut,
}

impl Sent {
    /// A frame about the subscription, or about a lock, makes up for an earlier
    /// one that was not answered.
    fn subject(self) -> Option<usize> {
        match self {
            Self::Subscribe { .. } | Self::Unsubscribe => None,
            Self::Lock(name) | Self::Unlock(name) => Some(name),
        }
    }

    fn body(self) -> Value {
        let lock = |name: usize| json!({"channel": "room:7", "name": LOCKS[name]});
        let (frame_type, data) = match self {
            Self::Subscribe { is_present } => {
                let mut wanted = json!({"channel": "room:7"});
                if is_present {
                    wanted["presence"] = json!({});
                }
                ("subscribe", json!({"channels": [wanted]}))
            }
            Self::Unsubscribe => ("unsubscribe", json!({"channels": ["room:7"]})),
            Self::Lock(name) => ("lock", lock(name)),
            Self::Unlock(name) => ("unlock", lock(name)),
        };
        json!({"type": frame_type, "version": "1.0", "data": data})
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let dies = || prop::option::weighted(0.3, 0..8_u32);
    let sent = prop_oneof![
        4 => any::<bool>().prop_map(|is_present| Sent::Subscribe { is_present }),
        1 => Just(Sent::Unsubscribe),
        4 => (0..LOCKS.len()).prop_map(Sent::Lock),
        1 => (0..LOCKS.len()).prop_map(Sent::Unlock),
    ];
    let by = prop_oneof![Just(By::Disconnect), Just(By::Removal), Just(By::SignOut)];
    let by = || by.clone();
    let step = prop_oneof![
        6 => (0..CONNECTIONS, sent, dies()).prop_map(|(n, sent, dies)| Step::Frame(n, sent, dies)),
        2 => (0..CONNECTIONS, by(), any::<bool>()).prop_map(|(n, by, dies)| Step::End(n, by, dies)),
        2 => (0..CONNECTIONS).prop_map(Step::Replace),
        1 => (by(), any::<bool>()).prop_map(|(by, dies)| Step::EndReplaced(by, dies)),
        1 => (1..50_u64).prop_map(Step::Wait),
        1 => dies().prop_map(Step::Sweep),
    ];
    prop::collection::vec(step, 1..40)
}

fn user(connection: usize) -> String {
    format!("user-{}", connection % 3)
}

fn room() -> ChannelName {
    ChannelName::parse("room:7").unwrap()
}

struct World {
    dispatcher: Fixture,
    /// No id comes again.
    ids: Vec<String>,
    /// Frames of a connection about a subject that were not answered.
    unanswered: BTreeMap<(usize, Option<usize>), Sent>,
    /// Connections that were replaced and are still open.
    replaced: Vec<String>,
    /// The live connections whose clients want their users to be present.
    present: BTreeSet<usize>,
}

impl World {
    async fn new() -> Self {
        let mut dispatcher = dispatcher().await;
        dispatcher.rules = RULES.parse().unwrap();
        dispatcher.messages_per_minute = 60_000;
        dispatcher.presence.announced = 100;
        Self {
            dispatcher,
            ids: (0..CONNECTIONS).map(|n| format!("n{n}")).collect(),
            unanswered: BTreeMap::new(),
            replaced: Vec::new(),
            present: BTreeSet::new(),
        }
    }

    fn is_live(&self, connection: usize) -> bool {
        self.dispatcher.store.row(&self.ids[connection]).is_some()
    }

    async fn send(&mut self, connection: usize, sent: Sent, dies: Option<u32>) {
        let id = self.ids[connection].clone();
        let store = &self.dispatcher.store;
        if !self.is_live(connection) {
            store.put(&id, &user(connection)).await;
            self.dispatcher.outbox.open(&id);
        }
        if let Some(calls) = dies {
            store.fail_after(calls);
        }
        let (answer, _) = send(&self.dispatcher, &id, &sent.body().to_string()).await;
        store.recover();
        let failed = answer.is_none_or(|answer| answer["data"]["code"] == "INTERNAL");
        let subject = (connection, sent.subject());
        if failed {
            self.unanswered.insert(subject, sent);
        } else {
            self.unanswered.remove(&subject);
        }
        match sent {
            Sent::Subscribe { is_present: true } => drop(self.present.insert(connection)),
            Sent::Subscribe { is_present: false } | Sent::Unsubscribe => {
                self.present.remove(&connection);
            }
            Sent::Lock(_) | Sent::Unlock(_) => {}
        }
    }

    async fn end(&mut self, connection: usize, by: By, dies: bool) {
        let id = connection_id(&self.ids[connection]);
        if self.end_row(&id, by, dies).await {
            self.forget(connection);
        }
    }

    /// Returns whether there was a row.
    async fn end_row(&self, id: &ConnectionId, by: By, dies: bool) -> bool {
        let (store, now) = (&self.dispatcher.store, self.dispatcher.now());
        let Some(row) = store.row(id.as_str()) else {
            return false;
        };
        store.leave_remains(dies);
        if matches!(by, By::SignOut) {
            let user = &row.user_id;
            store.end_session(user, id, now).await.unwrap();
        }
        match by {
            By::Disconnect => store.disconnect(id, now).await.unwrap(),
            By::Removal | By::SignOut => {
                let seen = Recipient::from(&row);
                store.remove_unchanged(&seen, now).await.unwrap();
            }
        }
        store.leave_remains(false);
        true
    }

    /// The client asks for its presence again, and not for its locks.
    async fn replace(&mut self, connection: usize) {
        if !self.is_live(connection) {
            return;
        }
        let old = self.ids[connection].clone();
        self.ids[connection].push('r');
        let new = Connection {
            connected_at: self.dispatcher.now(),
            ..crate::testing::connection(&self.ids[connection], &user(connection))
        };
        let admission = Admission {
            connection: &new,
            token_issued_at: self.dispatcher.now().to_seconds(),
            replaces: Some(&connection_id(&old)),
        };
        let admitted = self.dispatcher.store.admit(admission, LIMITS).await;
        assert_eq!(admitted, Ok(Admitted::Yes));
        self.dispatcher.outbox.open(new.id.as_str());
        self.replaced.push(old);
        let is_present = self.present.contains(&connection);
        self.send(connection, Sent::Subscribe { is_present }, None)
            .await;
    }

    async fn end_replaced(&mut self, by: By, dies: bool) {
        if let Some(id) = self.replaced.pop() {
            self.end_row(&connection_id(&id), by, dies).await;
        }
    }

    /// Its client has gone.
    fn forget(&mut self, connection: usize) {
        self.ids[connection].push('x');
        self.unanswered.retain(|one, _| one.0 != connection);
        self.present.remove(&connection);
    }

    async fn sweep(&mut self, dies: Option<u32>) {
        let dispatcher = &mut self.dispatcher;
        if let Some(calls) = dies {
            dispatcher.store.fail_after(calls);
        }
        let sweeper = Sweeper {
            store: take(&mut dispatcher.store),
            outbox: take(&mut dispatcher.outbox),
            clock: dispatcher.clock.clone(),
            metrics: FakeMetrics::default(),
            workers: FakeWorkers::default(),
            random: SeededRandomness::default(),
            settings: LIVENESS,
            delivery: DELIVERY,
            fanout: FANOUT,
            presence: dispatcher.presence,
        };
        let deadline = dispatcher.clock.now().plus(Duration::from_secs(55));
        let _ = sweeper.sweep(deadline).await;
        (dispatcher.store, dispatcher.outbox) = (sweeper.store, sweeper.outbox);
        dispatcher.store.recover();
        // It may have ended silent connections.
        for connection in 0..CONNECTIONS {
            if !self.is_live(connection) {
                self.unanswered.retain(|one, _| one.0 != connection);
                self.present.remove(&connection);
            }
        }
    }

    /// How many connections of each user are subscribed with presence.
    async fn subscribed(&self) -> BTreeMap<String, u64> {
        let (room, now) = (room(), self.dispatcher.now());
        let whole = Segment { index: 0, total: 1 };
        let store = &self.dispatcher.store;
        let page = store.subscribers(&room, Listing::All, whole, None, 100, now);
        for one in page.await.unwrap().recipients {
            assert!(store.row(one.id.as_str()).is_some(), "a ghost: {}", one.id);
        }
        let page = store.subscribers(&room, Listing::Present, whole, None, 100, now);
        let mut users = BTreeMap::new();
        for one in page.await.unwrap().recipients {
            *users.entry(one.user_id.to_string()).or_default() += 1;
        }
        users
    }

    async fn members(&self) -> BTreeMap<String, u64> {
        let present = self.dispatcher.store.present(&room(), 100).await.unwrap();
        let users = present.users.into_iter();
        users
            .map(|user| (user.user_id.to_string(), user.connections))
            .collect()
    }

    /// The names under which locks are held.
    async fn holders(&self) -> Vec<String> {
        let mut holders = Vec::new();
        for name in LOCKS {
            let key = LockKey {
                channel: room(),
                name: LockName::parse(name).unwrap(),
            };
            let state = self.dispatcher.store.find_lock(&key).await.unwrap();
            let held = state.filter(|state| state.until > UnixMillis(0));
            holders.extend(held.map(|state| state.owner.to_string()));
        }
        holders
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_members_and_holders_are_live_connections(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(explore(steps))?;
    }
}

async fn explore(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    for step in steps {
        match step {
            Step::Frame(connection, sent, dies) => world.send(connection, sent, dies).await,
            Step::End(connection, by, dies) => world.end(connection, by, dies).await,
            Step::Replace(connection) => world.replace(connection).await,
            Step::EndReplaced(by, dies) => world.end_replaced(by, dies).await,
            Step::Wait(seconds) => world.dispatcher.clock.advance(Duration::from_secs(seconds)),
            Step::Sweep(dies) => world.sweep(dies).await,
        }
    }
    while !world.replaced.is_empty() {
        world.end_replaced(By::Disconnect, false).await;
    }
    // Clients that had no answer ask again.
    for ((connection, _), sent) in world.unanswered.clone() {
        world.send(connection, sent, None).await;
    }
    for _ in 0..3 {
        world.dispatcher.clock.advance(PRESENCE_GRACE);
        world.sweep(None).await;
    }
    let mut expected = BTreeMap::new();
    for connection in &world.present {
        *expected.entry(user(*connection)).or_default() += 1;
    }
    prop_assert_eq!(&world.members().await, &expected);
    prop_assert_eq!(&world.subscribed().await, &expected);
    let rows = world.dispatcher.store.rows();
    for holder in world.holders().await {
        let is_live = rows.iter().any(|row| row.lock_owner().as_str() == holder);
        prop_assert!(is_live, "{holder} holds a lock");
    }
    let later = world.dispatcher.now().plus(PRESENCE_GRACE);
    let rest = world.dispatcher.store.due_list(later).await.unwrap();
    prop_assert_eq!(rest, Due::default());
    Ok(())
}
