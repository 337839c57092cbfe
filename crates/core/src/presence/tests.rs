//! Who is told what: the frames that a watcher receives, after any sequence of
//! arrivals, ends and sweeps, some of which die half-way.

use std::collections::BTreeMap;
use std::time::Duration;

use belfry_protocol::{ChannelName, PresenceInfo, UserId};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::broadcast::Fanout;
use crate::channels::Actions;
use crate::ports::{
    Arrival, Clock, Departures, Disconnections, Due, JoinsPresence, Sessions, SubscribeResult,
    Subscription, Subscriptions, Touched,
};
use crate::testing::{
    BUCKET, DELIVERY, FANOUT, FakeMetrics, FakeOutbox, FakeStore, FakeWorkers, SeededRandomness,
    TestClock, connection_id,
};
use crate::time::UnixMillis;

const WATCHER: &str = "watcher";

#[derive(Default)]
struct World {
    store: FakeStore,
    outbox: FakeOutbox,
    clock: TestClock,
    metrics: FakeMetrics,
    workers: FakeWorkers,
    random: SeededRandomness,
    announced: usize,
}

type Told<'a> =
    Announcer<'a, FakeStore, FakeOutbox, TestClock, FakeMetrics, FakeWorkers, SeededRandomness>;

impl World {
    async fn new(announced: usize) -> Self {
        let world = Self {
            announced,
            ..Self::default()
        };
        world.come(WATCHER, "watcher", "w").await;
        world
    }

    fn announcer(&self) -> Told<'_> {
        Announcer {
            fanout: Fanout {
                store: &self.store,
                outbox: &self.outbox,
                clock: &self.clock,
                metrics: &self.metrics,
                workers: &self.workers,
                random: &self.random,
                delivery: DELIVERY,
                settings: FANOUT,
            },
            settings: PresenceSettings {
                announced: self.announced,
            },
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Subscribes with presence, as a `subscribe` frame does. Returns what is
    /// still to be announced.
    async fn subscribe(&self, id: &str, user: &str, name: &str) -> Vec<Arrival> {
        if self.store.row(id).is_none() {
            self.store.put(id, user).await;
            self.outbox.open(id);
        }
        let id = connection_id(id);
        let begun = self.store.begin_session(&id, &BUCKET, self.now()).await;
        let Ok(Touched::Live(row)) = begun else {
            panic!("{begun:?}")
        };
        let wanted = [Subscription {
            channel: room(),
            ends_at: row.token_expires_at,
            allowed: None,
            actions: Actions::default(),
            presence: JoinsPresence::With(info(name)),
        }];
        let subscribed = self.store.subscribe(&row, &wanted, 50, self.now()).await;
        match subscribed.unwrap() {
            SubscribeResult::Subscribed { arrivals, .. } => arrivals,
            SubscribeResult::Ended => panic!("ended"),
        }
    }

    async fn come(&self, id: &str, user: &str, name: &str) {
        let user_id = UserId::parse(user).unwrap();
        for arrival in self.subscribe(id, user, name).await {
            let change = if arrival.is_update {
                Change::Updated(&arrival.info)
            } else {
                Change::Joined(&arrival.info)
            };
            let (announcer, own) = (self.announcer(), connection_id(id));
            let announcement = Announcement {
                channel: &room(),
                user: &user_id,
                change,
                at: arrival.at,
                count: announcer.count_announced(&room()).await.unwrap(),
            };
            let announced = announcer.announce(announcement, Some(&own)).await;
            announced.unwrap();
            self.store.announced(&room(), &user_id).await.unwrap();
        }
    }

    async fn sweep(&self) {
        let due = self.store.due_list(self.now()).await.unwrap();
        for departure in &due.departures {
            self.store.depart(departure).await.unwrap();
            self.store.forget_departure(departure).await.unwrap();
        }
        let announcer = self.announcer();
        for leave in &due.leaves {
            announcer.leave(leave).await.unwrap();
        }
        for count in &due.counts {
            announcer.count(count).await.unwrap();
        }
    }

    fn frames(&self) -> Vec<Value> {
        let posted = self.outbox.posted(WATCHER).into_iter();
        posted
            .map(|frame| serde_json::from_str(&frame).unwrap())
            .collect()
    }

    /// What a client makes of the frames: the latest change of each user holds.
    fn watched(&self) -> BTreeMap<String, String> {
        let mut latest = BTreeMap::<String, (String, Option<String>)>::new();
        for frame in self.frames() {
            let data = &frame["data"];
            let Some(user) = data["userId"].as_str() else {
                continue;
            };
            let at = data["at"].as_str().unwrap().to_owned();
            let name = data["info"]["name"].as_str().map(ToOwned::to_owned);
            assert_eq!(name.is_none(), frame["type"] == "presence.left");
            let entry = latest.entry(user.into()).or_default();
            if entry.0 <= at {
                *entry = (at, name);
            }
        }
        let present = latest.into_iter();
        present
            .filter_map(|(user, (_, name))| Some((user, name?)))
            .collect()
    }

    async fn present(&self) -> BTreeMap<String, String> {
        let present = self.store.present(&room(), 1_000).await.unwrap();
        let users = present.users.iter();
        let users = users.filter(|user| user.user_id.as_str() != "watcher");
        let name = |info: &PresenceInfo| {
            let info: Value = serde_json::from_str(&info.to_json()).unwrap();
            info["name"].as_str().unwrap().to_owned()
        };
        users
            .map(|user| (user.user_id.to_string(), name(&user.info)))
            .collect()
    }
}

fn room() -> ChannelName {
    ChannelName::parse("room:7").unwrap()
}

fn info(name: &str) -> PresenceInfo {
    PresenceInfo::from_json(&format!(r#"{{"name":"{name}"}}"#)).unwrap()
}

fn types(frames: &[Value]) -> Vec<(&str, u64)> {
    let of = |frame: &'_ Value| frame["data"]["count"].as_u64().unwrap();
    frames
        .iter()
        .map(|frame| (frame["type"].as_str().unwrap(), of(frame)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn three_tabs_come_once_and_go_once() {
    let world = World::new(100).await;
    for id in ["a1", "a2", "a3"] {
        world.come(id, "alice", "A").await;
    }
    world.come("a3", "alice", "B").await;
    for id in ["a1", "a2", "a3"] {
        let id = connection_id(id);
        world.store.disconnect(&id, world.now()).await.unwrap();
        world.sweep().await;
    }
    world.clock.advance(PRESENCE_GRACE);
    world.sweep().await;
    world.sweep().await;
    let frames = world.frames();
    let expected = [
        ("presence.joined", 2),
        ("presence.updated", 2),
        ("presence.left", 1),
    ];
    assert_eq!(types(&frames), expected);
    assert_eq!(frames[0]["data"]["channel"], "room:7");
    assert_eq!(frames[1]["data"]["info"]["name"], "B");
    // Nobody is told of itself.
    assert!(
        world
            .outbox
            .posted("a1")
            .iter()
            .all(|frame| frame.contains("updated"))
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_user_who_comes_back_in_time() {
    let world = World::new(100).await;
    world.come("a1", "alice", "A").await;
    for n in 2..5 {
        let id = connection_id(&format!("a{}", n - 1));
        world.store.disconnect(&id, world.now()).await.unwrap();
        world.clock.advance(PRESENCE_GRACE - Duration::from_secs(1));
        world.sweep().await;
        world.come(&format!("a{n}"), "alice", "A").await;
        world.clock.advance(PRESENCE_GRACE);
        world.sweep().await;
    }
    assert_eq!(types(&world.frames()), [("presence.joined", 2)]);
}

#[tokio::test(start_paused = true)]
async fn of_many_users_only_the_number_is_told() {
    let world = World::new(3).await;
    for n in 0..10 {
        world
            .come(&format!("c{n}"), &format!("user-{n}"), "U")
            .await;
    }
    let joined = [("presence.joined", 2), ("presence.joined", 3)];
    assert_eq!(types(&world.frames()), joined);
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(60));
        world.sweep().await;
    }
    let frames = world.frames();
    assert_eq!(types(&frames[2..]), [("presence.updated", 11)]);
    assert_eq!(frames[2]["data"].get("userId"), None);
    world.come("c10", "user-10", "U").await;
    world.clock.advance(Duration::from_secs(60));
    world.sweep().await;
    let frames = world.frames();
    assert_eq!(types(&frames[3..]), [("presence.updated", 12)]);
    assert!(frames[3]["data"]["at"].as_str() > frames[2]["data"]["at"].as_str());
    let settings = PresenceSettings { announced: 3 };
    let present = present(&world.store, &room(), settings).await.unwrap();
    assert_eq!(
        (present.members.len(), present.count, present.more),
        (3, 12, true)
    );
    let one = serde_json::to_string(&present.members[0]).unwrap().len();
    let mut bytes = one * 2;
    let less = within(present, &mut bytes);
    assert_eq!((less.members.len(), less.more), (1, true));
}

#[derive(Debug, Clone)]
enum Step {
    /// A connection subscribes; the function may die before it announces.
    Come {
        connection: usize,
        name: bool,
        dies: bool,
    },
    End {
        connection: usize,
    },
    /// The function may die before it makes the user absent.
    Unsubscribe {
        connection: usize,
        dies: bool,
    },
    Wait(u64),
    /// A sweep may die after it has made a user absent.
    Sweep {
        dies: bool,
    },
}

fn user(connection: usize) -> String {
    format!("user-{}", connection % 3)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..9_usize, any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(connection, name, dies)| Step::Come { connection, name, dies }),
        3 => (0..9_usize).prop_map(|connection| Step::End { connection }),
        2 => (0..9_usize, prop::bool::weighted(0.3))
            .prop_map(|(connection, dies)| Step::Unsubscribe { connection, dies }),
        2 => (1..50_u64).prop_map(Step::Wait),
        2 => prop::bool::weighted(0.3).prop_map(|dies| Step::Sweep { dies }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_those_are_present_whose_connections_are(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(explore(steps))?;
    }
}

async fn explore(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let world = World::new(100).await;
    // Nine connections of three users. No id comes again.
    let mut ids: [_; 9] = std::array::from_fn(|n| format!("c{n}"));
    // Those that are subscribed, and whether the client had an answer.
    let mut subscribed = BTreeMap::<usize, bool>::new();
    // What each user told last.
    let mut names = BTreeMap::<String, &str>::new();
    for step in steps {
        match step {
            Step::Come {
                connection,
                name,
                dies,
            } => {
                let (id, user) = (&ids[connection], user(connection));
                let name = if name { "X" } else { "Y" };
                if dies {
                    world.subscribe(id, &user, name).await;
                } else {
                    world.come(id, &user, name).await;
                }
                names.insert(user, name);
                subscribed.insert(connection, !dies);
            }
            Step::End { connection } => {
                let id = connection_id(&ids[connection]);
                world.store.disconnect(&id, world.now()).await.unwrap();
                ids[connection].push('x');
                subscribed.remove(&connection);
            }
            Step::Unsubscribe { connection, dies } => {
                let Some(row) = world.store.row(&ids[connection]) else {
                    continue;
                };
                let left = world.store.unsubscribe(&row, &[room()], world.now()).await;
                for leave in left.unwrap().leaves {
                    if !dies {
                        world.announcer().leave(&leave).await.unwrap();
                    }
                }
                subscribed.remove(&connection);
            }
            Step::Wait(seconds) => world.clock.advance(Duration::from_secs(seconds)),
            Step::Sweep { dies: true } => {
                let due = world.store.due_list(world.now()).await.unwrap();
                for leave in &due.leaves {
                    world.store.make_absent(leave, world.now()).await.unwrap();
                }
            }
            Step::Sweep { dies: false } => world.sweep().await,
        }
    }
    // Clients that had no answer ask again.
    for (connection, _) in subscribed.iter().filter(|(_, answered)| !**answered) {
        let user = user(*connection);
        world.come(&ids[*connection], &user, names[&user]).await;
    }
    for _ in 0..3 {
        world.clock.advance(PRESENCE_GRACE);
        world.sweep().await;
    }
    let users = subscribed.keys().map(|connection| user(*connection));
    let expected: BTreeMap<_, _> = users
        .map(|user| (user.clone(), names[&user].to_owned()))
        .collect();
    prop_assert_eq!(&world.present().await, &expected);
    prop_assert_eq!(&world.watched(), &expected);
    let later = world.now().plus(PRESENCE_GRACE);
    let rest = world.store.due_list(later).await.unwrap();
    prop_assert_eq!(rest, Due::default());
    Ok(())
}
