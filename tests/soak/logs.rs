//! What was published, acknowledged and told, compared with the logs.

use std::collections::{BTreeMap, BTreeSet};

use belfry_tests::{Item, Stack, text_of};
use serde_json::Value;

use crate::findings::Findings;

/// The most messages that a subscription recovers.
const MAX_RECOVERED: u64 = 300;

/// A log as it is stored.
struct Log {
    epoch: String,
    newest: u64,
    ids: BTreeMap<u64, String>,
}

impl Log {
    /// `None` if nothing was ever published.
    fn of(items: &[Item]) -> Option<Self> {
        let seq =
            |item: &Item| -> u64 { item["seq"].as_n().expect("a number").parse().expect("seq") };
        let id = |frame: &str| -> String {
            let frame: Value = serde_json::from_str(frame).expect("JSON");
            frame["id"].as_str().expect("an id").into()
        };
        let head = items
            .iter()
            .find(|item| text_of(item, "position") == "head")?;
        let newest = seq(head);
        let mut ids = BTreeMap::from([(newest, id(&text_of(head, "frame")))]);
        for item in items {
            if text_of(item, "position") != "head" {
                ids.insert(seq(item), id(&text_of(item, "frame")));
            }
        }
        let epoch = text_of(head, "epoch");
        Some(Self { epoch, newest, ids })
    }
}

/// Each log has each message once and no hole; each acknowledged message has its
/// place in it; and each client has been told of all of it, in order.
pub(crate) async fn check(stack: &Stack, verdict: &Value, findings: &mut Findings) {
    for wrong in verdict["wrong"].as_array().expect("a list") {
        findings.add(wrong.as_str().expect("a text").into());
    }
    let mut logs = BTreeMap::new();
    for told in list(&verdict["told"]) {
        let name = told["log"].as_str().expect("a name");
        let Some(log) = Log::of(&stack.log_items(name).await) else {
            findings.add(format!(
                "{name}: clients were told of a log that does not exist"
            ));
            continue;
        };
        let ids: BTreeSet<_> = log.ids.values().collect();
        findings.check(ids.len() == log.ids.len(), || {
            format!("{name}: a message is in it twice")
        });
        findings.check(log.ids.keys().copied().eq(1..=log.newest), || {
            format!(
                "{name}: {} messages up to number {}",
                log.ids.len(),
                log.newest
            )
        });
        for (place, id) in told["ids"].as_object().expect("an object") {
            let (epoch, seq) = place.split_once('#').expect("a position");
            let kept = seq.parse().ok().and_then(|seq: u64| log.ids.get(&seq));
            findings.check(
                epoch == log.epoch && kept.map(String::as_str) == id.as_str(),
                || format!("{name}: clients were told that {id} is at {place}; there is {kept:?}"),
            );
        }
        logs.insert(name.to_owned(), log);
    }
    for message in list(&verdict["acknowledgedMessages"]) {
        let kept = logs
            .get(message["log"].as_str().expect("a log"))
            .filter(|log| message["epoch"] == log.epoch)
            .and_then(|log| log.ids.get(&message["seq"].as_u64().expect("a number")));
        findings.check(kept.map(String::as_str) == message["id"].as_str(), || {
            format!("{message} was acknowledged; there is {kept:?}")
        });
    }
    for member in list(&verdict["members"]) {
        for one in list(&member["logs"]) {
            let (user, name) = (&member["user"], one["log"].as_str().expect("a log"));
            let newest = logs.get(name).map(|log| log.newest);
            findings.check(one["position"]["seq"].as_u64() == newest, || {
                format!("{user} is at {} of {newest:?} in {name}", one["position"])
            });
        }
    }
    for member in list(&verdict["members"])
        .iter()
        .chain(list(&verdict["left"]))
    {
        for one in list(&member["logs"]) {
            for lost in list(&one["losses"]) {
                let seq = |end: &str| lost[end]["seq"].as_u64().unwrap_or_default();
                let is_far = seq("to").saturating_sub(seq("from")) > MAX_RECOVERED;
                findings.check(lost["reason"] == "tooFar" && is_far, || {
                    format!(
                        "{} was told in {} that it has lost {lost}",
                        member["user"], one["log"]
                    )
                });
            }
        }
    }
    check_locks(verdict, findings);
}

/// Nobody holds a lock while another one believes that he holds it, and the
/// numbers rise with every new holder. One whose `unlock` was lost still is the
/// holder if nobody else has got the lock since.
fn check_locks(verdict: &Value, findings: &mut Findings) {
    let mut of_locks: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    for grant in list(&verdict["grants"]) {
        let text = |name: &str| grant[name].as_str().expect("a text").to_owned();
        let lock = (text("channel"), text("name"));
        of_locks.entry(lock).or_default().push(grant);
    }
    for grants in of_locks.values_mut() {
        grants.sort_by_key(|grant| grant["fencing"].as_u64());
        for pair in grants.windows(2) {
            let (one, next) = (pair[0], pair[1]);
            let ended = one["to"]
                .as_u64()
                .is_some_and(|to| Some(to) <= next["from"].as_u64());
            let is_new = one["fencing"] != next["fencing"];
            findings.check(ended && (is_new || one["user"] == next["user"]), || {
                format!("a lock has two holders: {one} and {next}")
            });
        }
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}
