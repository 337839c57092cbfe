//! Many publishers on one channel on a bad day.

use std::collections::{BTreeMap, BTreeSet};

use belfry_tests::{Socket, request, soon};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{ROOM, crowd, subscribe};

const PUBLISHERS: usize = 20;

/// Messages of each publisher.
const MESSAGES: usize = 4;

/// What happens to functions and to DynamoDB. Kills come at several moments of
/// an invocation.
fn troubles() -> Vec<Value> {
    let lost = |operation: &str, times: u64| json!({"fault": "dynamodb-lose-answer", "operation": operation, "share": 0.5, "times": times});
    let kill = |delay: &str| json!({"fault": "function-kill", "function": "Default", "share": 0.03, "delay": delay});
    let mut troubles = vec![
        json!({"fault": "dynamodb-contention", "delay": "3ms"}),
        lost("TransactWriteItems", 4),
        // Some of them publish, without an id.
        lost("PutItem", 16),
        json!({"fault": "dynamodb-throttle", "share": 0.05}),
        json!({"fault": "function-lose-answer", "function": "Default", "share": 0.05}),
    ];
    troubles.extend(["0ms", "5ms", "10ms", "20ms", "50ms"].map(kill));
    troubles
}

/// How a publish was answered.
#[derive(Debug)]
enum Outcome {
    /// At this number.
    Published(u64),
    /// Certainly not published.
    Busy,
    /// Perhaps published: the function died, or DynamoDB failed.
    Unknown,
}

/// Publishes once. The socket's only other frames are API Gateway's errors,
/// which have no type.
async fn attempt(socket: &mut Socket, message: &Value) -> Outcome {
    let answer = socket.ask(&request("publish", message)).await;
    match (answer["type"].as_str(), answer["data"]["code"].as_str()) {
        (Some("published"), _) => {
            let seq = answer["data"]["position"]["seq"].as_u64();
            Outcome::Published(seq.expect("a number"))
        }
        (Some("error"), Some("CHANNEL_BUSY")) => Outcome::Busy,
        (Some("error"), Some("INTERNAL")) | (None, _) => Outcome::Unknown,
        _ => panic!("{answer}"),
    }
}

/// What became of the attempts to publish, by the messages' data.
#[derive(Debug, Default)]
struct Attempts {
    published: BTreeMap<String, u64>,
    busy: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Publishes each message until it is acknowledged, under one `messageId`.
async fn publish_named(socket: &mut Socket, user: &str) -> Attempts {
    let mut attempts = Attempts::default();
    for n in 0..MESSAGES {
        let data = format!("{user}: {n}");
        let message =
            json!({"channel": ROOM, "kind": "k", "data": data, "messageId": format!("m-{n}")});
        let seq = loop {
            if let Outcome::Published(seq) = attempt(socket, &message).await {
                break seq;
            }
        };
        attempts.published.insert(data, seq);
    }
    attempts
}

/// Publishes until so many messages are acknowledged. Each attempt is another
/// message, without an id.
async fn publish_unnamed(socket: &mut Socket, user: &str) -> Attempts {
    let mut attempts = Attempts::default();
    for n in 0.. {
        let data = format!("{user}: {n}");
        let message = json!({"channel": ROOM, "kind": "k", "data": data});
        match attempt(socket, &message).await {
            Outcome::Published(seq) => drop(attempts.published.insert(data, seq)),
            Outcome::Busy => drop(attempts.busy.insert(data)),
            Outcome::Unknown => drop(attempts.unknown.insert(data)),
        }
        if attempts.published.len() == MESSAGES {
            break;
        }
    }
    attempts
}

/// Reads live messages up to the one of the kind `end`.
fn read_live(mut socket: Socket) -> JoinHandle<(Socket, Vec<Value>)> {
    tokio::spawn(async move {
        let mut live = Vec::new();
        while let Some(text) = socket.next_text().await {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(frame["type"], "message", "{frame}");
            if frame["data"]["kind"] == "end" {
                break;
            }
            live.push(frame);
        }
        (socket, live)
    })
}

/// All messages after a position, page by page.
async fn whole_history(socket: &mut Socket, before: &Value) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut after = before.clone();
    loop {
        let data = json!({"channel": ROOM, "after": after, "limit": 50});
        let page = socket.request("history", data).await["data"].clone();
        assert_eq!(page["recovered"], true, "{page}");
        messages.extend(page["messages"].as_array().unwrap().iter().cloned());
        if page["more"] == false {
            return messages;
        }
        after = messages.last().expect("a message")["position"].clone();
    }
}

/// Checks the log against the attempts.
fn check(log: &[Value], attempts: &[Attempts]) {
    let mut numbers = BTreeMap::new();
    for (message, expected) in log.iter().zip(1_u64..) {
        assert_eq!(message["position"]["seq"], expected);
        let data = message["data"]["data"].as_str().unwrap().to_owned();
        let sender = message["from"]["userId"].as_str().unwrap();
        assert!(data.starts_with(&format!("{sender}: ")), "{message}");
        let twice = numbers.insert(data, expected);
        assert_eq!(twice, None, "twice in the log: {message}");
    }
    let mut published = 0;
    for attempts in attempts {
        for (data, seq) in &attempts.published {
            assert_eq!(numbers.get(data), Some(seq), "{data}");
            published += 1;
        }
        for data in &attempts.busy {
            assert!(!numbers.contains_key(data), "{data}");
        }
        let unknown = attempts.unknown.iter();
        published += unknown.filter(|data| numbers.contains_key(*data)).count();
    }
    assert_eq!(log.len(), published, "nobody published the others");
}

#[tokio::test]
async fn every_acknowledged_message_is_in_the_log_once_whatever_fails() {
    let stack = crowd().await;
    let mut subscriber = stack.connect("subscriber").await;
    let state = subscribe(&mut subscriber, json!([{"channel": ROOM}])).await;
    let before = json!({"epoch": state[0]["epoch"], "seq": 0});
    let users: Vec<_> = (0..PUBLISHERS).map(|n| format!("user-{n}")).collect();
    let mut sockets = join_all(users.iter().map(|user| stack.connect(user))).await;
    let live = read_live(subscriber);

    for trouble in troubles() {
        stack.fault(trouble).await;
    }
    let publishing = sockets.iter_mut().zip(&users).enumerate();
    let publishing = publishing.map(async |(n, (socket, user))| match n % 2 {
        0 => publish_named(socket, user).await,
        _ => publish_unnamed(socket, user).await,
    });
    let attempts = join_all(publishing).await;
    let (_, faults) = stack.local("GET", "faults", None).await;
    for fault in faults.as_array().unwrap() {
        assert!(fault["struck"].as_u64() > Some(0), "{faults}");
    }
    assert_eq!(stack.local("DELETE", "faults", None).await.0, 204);

    let mut fresh = stack.connect("fresh").await;
    let log = whole_history(&mut fresh, &before).await;
    check(&log, &attempts);

    // A repetition of what was acknowledged changes nothing, whatever it says.
    let repeating = sockets.iter_mut().zip(&attempts).step_by(2);
    join_all(repeating.map(async |(socket, attempts)| {
        for (n, seq) in attempts.published.values().enumerate() {
            let message = json!({"channel": ROOM, "kind": "k", "data": "other", "messageId": format!("m-{n}")});
            let again = attempt(socket, &message).await;
            assert!(matches!(again, Outcome::Published(s) if s == *seq), "{again:?}");
        }
    }))
    .await;
    assert_eq!(whole_history(&mut fresh, &before).await, log);

    // Whoever listened has the same messages at the same numbers.
    let end = json!({"channel": ROOM, "kind": "end", "store": false});
    let end = fresh.request("publish", end);
    let (ended, read) = join(end, soon("the last message arrives", live)).await;
    assert_eq!(ended["type"], "published", "{ended}");
    let (mut subscriber, live) = read.unwrap();
    assert!(!live.is_empty());
    for message in &live {
        let seq = message["position"]["seq"].as_u64().unwrap();
        assert_eq!(*message, log[usize::try_from(seq).unwrap() - 1]);
    }
    assert_eq!(whole_history(&mut subscriber, &before).await, log);
}
