//! Clients that subscribe while messages flow.

use std::collections::BTreeMap;

use belfry_tests::{Socket, Stack, request, soon};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{ROOM, crowd, subscribe};

const PUBLISHERS: u64 = 4;

/// Messages of each publisher. Together they are few enough to be recovered.
const MESSAGES: u64 = 40;

const TOTAL: u64 = PUBLISHERS * MESSAGES;

const JOINERS: u64 = 16;

/// Publishes as fast as the stack takes it. Counts what is published.
async fn publish_all(stack: &Stack, publisher: u64, published: &watch::Sender<u64>) {
    let mut socket = stack.connect(&format!("publisher-{publisher}")).await;
    for n in 0..MESSAGES {
        let data = json!({"channel": ROOM, "kind": "k", "data": [publisher, n]});
        loop {
            let answer = socket.request("publish", data.clone()).await;
            if answer["type"] == "published" {
                break;
            }
            assert_eq!(answer["data"]["code"], "CHANNEL_BUSY", "{answer}");
        }
        published.send_modify(|published| *published += 1);
    }
}

/// Messages by their number.
#[derive(Debug, Default)]
struct Merged(BTreeMap<u64, Value>);

impl Merged {
    /// A message that comes twice must be the same.
    fn add(&mut self, message: &Value) {
        assert_eq!(message["type"], "message", "{message}");
        let seq = message["position"]["seq"].as_u64().expect("a number");
        let known = self.0.entry(seq).or_insert_with(|| message.clone());
        assert_eq!(message, known);
    }

    fn missing_after(&self, seq: u64) -> Vec<u64> {
        let numbers = seq + 1..=TOTAL;
        numbers.filter(|seq| !self.0.contains_key(seq)).collect()
    }
}

/// Subscribes, and receives until no message is missing after `since`, or else
/// after the newest position. Never asks for what is missing: nothing may be.
async fn join_in(socket: &mut Socket, since: Option<&Value>) {
    let channels = json!({"channels": [{"channel": ROOM, "since": since}]});
    socket.send(&request("subscribe", &channels)).await;
    let (mut merged, mut begins_after) = (Merged::default(), None);
    loop {
        let missing = begins_after.map(|seq| merged.missing_after(seq));
        if missing.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let event = match missing {
            None => "subscribed".to_owned(),
            Some(numbers) => format!("messages {numbers:?} arrive"),
        };
        let text = soon(&event, socket.next_text()).await;
        let frame: Value = serde_json::from_str(&text.expect(&event)).expect("JSON");
        if frame["type"] != "subscribed" {
            // Live messages may come before the answer.
            merged.add(&frame);
            continue;
        }
        let state = &frame["data"]["channels"][0];
        begins_after = match since {
            Some(since) => since["seq"].as_u64(),
            None => state["seq"].as_u64(),
        };
        if since.is_some() {
            assert_eq!(state["recovered"], true, "{state}");
            assert_eq!(state["more"], false, "{state}");
        }
        let missed = state["messages"].as_array();
        missed
            .into_iter()
            .flatten()
            .for_each(|message| merged.add(message));
    }
}

#[tokio::test]
async fn a_joiner_sees_every_message_while_they_flow() {
    let stack = crowd().await;
    let mut first = stack.connect("first").await;
    let state = subscribe(&mut first, json!([{"channel": ROOM}])).await;
    let beginning = json!({"epoch": state[0]["epoch"], "seq": 0});
    let mut joiners = Vec::new();
    for n in 0..JOINERS {
        joiners.push(stack.connect(&format!("joiner-{n}")).await);
    }
    let (published, count) = watch::channel(0);
    let publishing = (0..PUBLISHERS).map(|n| publish_all(&stack, n, &published));
    let joining = joiners
        .iter_mut()
        .zip(0..)
        .map(async |(socket, n): (_, u64)| {
            // At different moments, some while nothing was published yet.
            let (mut count, moment) = (count.clone(), n * TOTAL / JOINERS);
            // Each publish has its own deadline.
            let reached = count.wait_for(|count| *count >= moment);
            reached.await.expect("publishers");
            let since = (n % 2 == 0).then_some(&beginning);
            join_in(socket, since).await;
        });
    join(join_all(publishing), join_all(joining)).await;
}
