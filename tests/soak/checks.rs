//! What the tables and the operator say, compared with what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use belfry_tests::{Clients, Places, Stack, text_of};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::findings::Findings;
use crate::plan::Plan;

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// How long the end of a connection takes until nothing is left of it: 35 s until
/// its subscriptions end, its grace period, and two sweeps.
const TIDIED: Duration = Duration::from_secs(75);

pub(crate) struct Checks<'a> {
    stack: &'a Stack,
    plan: &'a Plan,
}

impl<'a> Checks<'a> {
    pub(crate) fn new(stack: &'a Stack, plan: &'a Plan) -> Self {
        Self { stack, plan }
    }

    /// While each client is connected: presence, locks, rows, subscriptions.
    ///
    /// Clients go on to new connections meanwhile, and what the old ones leave is
    /// tidied up after a while. So only what stays wrong is.
    pub(crate) async fn while_open(
        &self,
        clients: &mut Clients,
        limit: Duration,
        findings: &mut Findings,
    ) {
        let begun = Instant::now();
        let mut since: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            let verdict = clients.verdict().await;
            let mut wrong = self.connections(&verdict).await;
            wrong.extend(self.rooms(&verdict).await);
            if wrong.is_empty() {
                return;
            }
            let now = Instant::now();
            since = wrong
                .into_iter()
                .map(|one| {
                    let first = since.get(&one).copied().unwrap_or(now);
                    (one, first)
                })
                .collect();
            since.retain(|_, first| begun.elapsed() < TIDIED || first.elapsed() >= TIDIED);
            if begun.elapsed() >= TIDIED && since.is_empty() {
                return;
            }
            if begun.elapsed() >= limit {
                return findings.all(since.into_keys().collect());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// After every client has closed: nothing is left of them.
    pub(crate) async fn after_close(&self, limit: Duration, findings: &mut Findings) {
        let begun = Instant::now();
        loop {
            let mut wrong = self.tables(&BTreeMap::new()).await;
            wrong.extend(self.places().await);
            if wrong.is_empty() {
                return;
            }
            if begun.elapsed() >= limit {
                return findings.all(wrong);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// No place is taken.
    async fn places(&self) -> Vec<String> {
        let Places { sets, counters } = self.stack.places().await;
        let sets = sets.iter();
        let mut wrong: Vec<_> = sets
            .map(|(pk, ids)| format!("{pk} has places: {ids:?}"))
            .collect();
        let counted: i64 = counters.iter().sum();
        if counted != 0 {
            wrong.push(format!("{counted} connections are counted, none is open"));
        }
        wrong
    }

    async fn connections(&self, verdict: &Value) -> Vec<String> {
        let mut open = BTreeMap::new();
        let mut wrong = Vec::new();
        for member in verdict["members"].as_array().expect("a list") {
            let user = member["user"].as_str().expect("a user").to_owned();
            match member["connectionId"].as_str() {
                Some(id) => {
                    open.insert(id.to_owned(), user);
                }
                None => wrong.push(format!("{user} is not connected")),
            }
        }
        wrong.extend(self.tables(&open).await);
        wrong
    }

    /// The tables have these connections, with their users, and no others.
    async fn tables(&self, open: &BTreeMap<String, String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let rows: BTreeSet<_> = self.stack.connection_ids().await.into_iter().collect();
        let ghosts = rows.iter().filter(|id| !open.contains_key(*id));
        wrong.extend(ghosts.map(|id| format!("row of nobody: {id}")));
        let missing = open.iter().filter(|(id, _)| !rows.contains(*id));
        wrong.extend(missing.map(|(id, user)| format!("no row of {user}: {id}")));
        for item in self.stack.subscription_items().await {
            let member = text_of(&item, "member");
            let channel = text_of(&item, "channel");
            if let Some((_, id)) = member
                .strip_prefix("c#")
                .and_then(|rest| rest.split_once('#'))
            {
                if !open.contains_key(id) {
                    wrong.push(format!("subscription of nobody: {channel} {id}"));
                }
            } else if let Some(user) = member.strip_prefix("u#") {
                let left = item.contains_key("absentBy");
                if !left && !open.values().any(|one| one == user) {
                    wrong.push(format!("present, but not connected: {user} in {channel}"));
                }
            }
        }
        for item in self.stack.state().await {
            let (pk, sk) = (text_of(&item, "pk"), text_of(&item, "sk"));
            if let Some(id) = pk.strip_prefix("session#") {
                // Locks are held under the name of the first of the connections that
                // replaced one another.
                let holders = item.get("holders").and_then(|ids| ids.as_ss().ok());
                let mut ids = holders
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .chain([id]);
                if !ids.any(|id| open.contains_key(id)) {
                    wrong.push(format!("session of nobody: {id}"));
                }
            } else if pk.starts_with("due#") {
                wrong.push(format!("due: {pk} {sk}"));
            } else if let (Some(user), Some(ids)) =
                (pk.strip_prefix("user#"), item.get("connectionIds"))
            {
                for id in ids.as_ss().into_iter().flatten() {
                    if open.get(id).map(String::as_str) != Some(user) {
                        wrong.push(format!("{user} has a place for nobody: {id}"));
                    }
                }
            }
        }
        wrong
    }

    /// The operator and each client know who is present, and nobody holds a lock.
    async fn rooms(&self, verdict: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        for room in self.plan.rooms() {
            let expected: BTreeSet<_> = self.plan.users_in(&room).into_iter().collect();
            let ask = |action: &str| json!({"action": action, "channel": room});
            let present = self
                .stack
                .invoke("Operator", &ask("presence"))
                .await
                .expect("presence");
            let present = users(&present["members"], |one| &one["userId"]);
            if present != expected {
                let differing = present.symmetric_difference(&expected);
                wrong.extend(
                    differing.map(|user| format!("{room}: the server is wrong about {user}")),
                );
            }
            let locks = self
                .stack
                .invoke("Operator", &ask("locks"))
                .await
                .expect("locks");
            if locks["held"] != json!([]) {
                wrong.push(format!("{room}: held by nobody: {}", locks["held"]));
            }
            for member in verdict["members"].as_array().expect("a list") {
                let Some(seen) = member["present"].get(&room) else {
                    continue;
                };
                let seen = users(seen, |one| one);
                if seen != expected {
                    let who = &member["user"];
                    let differing = seen.symmetric_difference(&expected);
                    wrong.extend(
                        differing.map(|user| format!("{room}: {who} is wrong about {user}")),
                    );
                }
            }
        }
        wrong
    }
}

fn users(list: &Value, of: fn(&Value) -> &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| of(one).as_str().expect("a user").to_owned())
        .collect()
}
