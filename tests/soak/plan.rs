//! What will happen. Follows from the seed alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::faults;
use crate::options::Options;

/// How long a connection lives.
pub(crate) const LIFE: Duration = Duration::from_secs(120);

pub(crate) const STEP: Duration = Duration::from_millis(100);

const STEPS_PER_SECOND: u32 = 10;

/// Clients in a room.
const ROOM: usize = 20;

/// How long a fault, or a pair of them, strikes, and none does afterwards, in
/// steps. In a short run less: each fault strikes once.
const LONGEST: u32 = 9 * STEPS_PER_SECOND;
const SHORTEST: u32 = 2 * STEPS_PER_SECOND;

/// How many times in ten seconds a thousand clients do something, and how often
/// something befalls one of them.
const PUBLISHES: usize = 100;
const ANNOUNCEMENTS: usize = 25;
const LOCKS: usize = 20;
const ACKS: usize = 20;
const CUTS: usize = 10;
const RELOADS: usize = 1;
const TOKENLESS: usize = 1;

const THOUSAND: usize = 1_000;
const STEPS_IN_TEN_SECONDS: usize = 100;

/// Fewer clients do as much as this many.
const LEAST: usize = 400;

pub(crate) struct Plan {
    random: fastrand::Rng,
    clients: usize,
    steps: u32,
    /// How long each slot of the schedule is, in steps.
    slot: u32,
    /// What strikes, a slot each.
    strikes: Vec<Vec<Value>>,
    ids: u64,
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Self {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let single = faults::all();
        let mut strikes: Vec<_> = single.iter().map(|fault| vec![fault.clone()]).collect();
        for (index, one) in single.iter().enumerate() {
            for other in &single[index + 1..] {
                strikes.push(vec![one.clone(), other.clone()]);
            }
        }
        random.shuffle(&mut strikes);
        // Whoever has little time wants to see each fault rather than each pair.
        strikes.sort_by_key(Vec::len);
        let steps = Duration::from_secs_f64(options.minutes * 60.0).as_millis() / STEP.as_millis();
        let steps = u32::try_from(steps).expect("less than years");
        let single = u32::try_from(single.len()).expect("few");
        Self {
            random,
            clients: options.clients,
            steps,
            slot: (steps / single).clamp(SHORTEST, LONGEST),
            strikes,
            ids: 0,
        }
    }

    /// How long the clients take to come. On AWS, their connections live for hours,
    /// and the server spreads over minutes when they move; here they would all
    /// move within seconds of each other.
    pub(crate) fn opening(&self) -> Duration {
        (STEP * self.steps / 10).min(LIFE)
    }

    pub(crate) fn steps(&self) -> u32 {
        self.steps
    }

    /// Clients that come and go all the time.
    pub(crate) fn churning(&self) -> usize {
        (self.clients / 50).max(2)
    }

    fn room_of(&self, client: usize) -> String {
        format!("room:{}", client / ROOM)
    }

    pub(crate) fn rooms(&self) -> Vec<String> {
        let rooms = self.clients.div_ceil(ROOM);
        (0..rooms).map(|room| format!("room:{room}")).collect()
    }

    pub(crate) fn user_of(client: usize) -> String {
        format!("user-{client}")
    }

    /// Who is present in a room.
    pub(crate) fn users_in(&self, room: &str) -> Vec<String> {
        let clients = (0..self.clients).filter(|client| self.room_of(*client) == room);
        clients.map(Self::user_of).collect()
    }

    /// The clients, each in a room. A part of the tokens is short-lived.
    pub(crate) fn members(&self) -> Vec<Value> {
        let member = |client: usize| {
            let channel = json!({"channel": self.room_of(client), "isPresent": true});
            let seconds = if client.is_multiple_of(3) { 90 } else { 600 };
            json!({"user": Self::user_of(client), "channels": [channel], "tokenSeconds": seconds})
        };
        (0..self.clients).map(member).collect()
    }

    /// The faults that are active from this step on, if that changes.
    pub(crate) fn faults(&self, step: u32) -> Option<&[Value]> {
        let strikes = &self.strikes[(step / self.slot) as usize % self.strikes.len()];
        match step % self.slot {
            0 => Some(strikes),
            at if at == self.slot * 3 / 4 => Some(&[]),
            _ => None,
        }
    }

    /// What the clients and the servers do in a step.
    pub(crate) fn acts(&mut self) -> Vec<Value> {
        let mut acts = Vec::new();
        for _ in 0..self.times(PUBLISHES) {
            let member = self.member();
            let (channel, id) = (self.room_of(member), self.id());
            acts.push(json!({"what": "publish", "member": member, "channel": channel, "id": id}));
        }
        for _ in 0..self.times(ANNOUNCEMENTS) {
            let member = self.member();
            let log = match self.random.u32(0..100) {
                0..=3 => "@all".into(),
                4..=40 => format!("@me:{}", Self::user_of(member)),
                _ => self.room_of(member),
            };
            acts.push(json!({"what": "announce", "log": log, "id": self.id()}));
        }
        for _ in 0..self.times(LOCKS) {
            let member = self.member();
            let (name, hold) = (
                format!("field-{}", self.random.u32(0..3)),
                self.random.u32(0..5_000),
            );
            acts.push(json!({"what": "lock", "member": member, "channel": self.room_of(member), "name": name, "holdMs": hold}));
        }
        for _ in 0..self.times(ACKS) {
            let member = self.member();
            acts.push(json!({"what": "ack", "member": member, "channel": self.room_of(member)}));
        }
        for (what, rate) in [("cut", CUTS), ("reload", RELOADS)] {
            for _ in 0..self.times(rate) {
                acts.push(json!({"what": what, "member": self.member()}));
            }
        }
        for _ in 0..self.times(TOKENLESS) {
            let ms = self.random.u32(1_000..20_000);
            acts.push(json!({"what": "refuseTokens", "member": self.member(), "ms": ms}));
        }
        acts
    }

    /// How many times something happens in a step.
    fn times(&mut self, rate: usize) -> usize {
        let times = rate * self.clients.max(LEAST);
        let per_step = THOUSAND * STEPS_IN_TEN_SECONDS;
        times / per_step + usize::from(self.random.usize(0..per_step) < times % per_step)
    }

    fn member(&mut self) -> usize {
        self.random.usize(0..self.clients)
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("m-{}", self.ids)
    }
}
