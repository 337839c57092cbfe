//! Hooks: a function of the application's own is told who comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use belfry_tests::{Socket, Stack, StackBuilder, open, repository, until};
use serde_json::{Value, json};
use tempfile::TempDir;

const ROOM: &str = "demo:room:7";

/// Writes down what it is told, unless the file `down` exists.
const LISTENER: &str = r#"
import { appendFileSync, existsSync } from "node:fs";
const folder = process.env.FOLDER;
export async function handler(event) {
  if (existsSync(`${folder}/down`)) throw new Error(`s3cr3t of ${event.userId}`);
  appendFileSync(`${folder}/told`, `${JSON.stringify(event)}\n`);
}"#;

/// The application's function.
struct Listener(TempDir);

impl Listener {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("listener.mjs"), LISTENER).unwrap();
        Self(folder)
    }

    /// A stack without a grace period, with this function.
    fn stack(&self) -> StackBuilder {
        let folder = self.0.path();
        let file = folder.join("listener.mjs");
        Stack::builder()
            .parameter("PresenceGraceSeconds", "0")
            .argument("--function")
            .argument(&format!("HookFunction={}", file.display()))
            .argument("--function-env")
            .argument(&format!("FOLDER={}", folder.display()))
    }

    /// One whose schedules run every second.
    fn stack_with_runs(&self) -> StackBuilder {
        self.stack().argument("--schedule-every").argument("1s")
    }

    fn set_down(&self, is_down: bool) {
        let file = self.0.path().join("down");
        if is_down {
            std::fs::write(file, "").unwrap();
        } else {
            std::fs::remove_file(file).unwrap();
        }
    }

    fn told(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path().join("told")).unwrap_or_default();
        // The last line may be in the middle of being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(serde_json::from_str);
        lines.map(Result::unwrap).collect()
    }

    /// The types of each subject's events in the order in which it was first told
    /// of each.
    fn first_told(&self) -> BTreeMap<String, Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut by_subject: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.told() {
            let text = |name: &str| event[name].as_str().map(str::to_owned);
            let subject = text("connectionId")
                .unwrap_or_else(|| format!("{} {}", text("channel").unwrap(), event["userId"]));
            if seen.insert(text("id").unwrap()) {
                let types = by_subject.entry(subject).or_default();
                types.push(text("type").unwrap());
            }
        }
        by_subject
    }

    async fn wait_for(&self, event: &str, expected: &BTreeMap<String, Vec<String>>) {
        until(event, async || {
            let told = self.first_told();
            expected.iter().all(|(subject, types)| {
                told.get(subject)
                    .is_some_and(|told| told.len() >= types.len())
            })
        })
        .await;
        assert_eq!(self.first_told(), *expected, "{event}");
    }
}

fn types<const N: usize>(types: [&str; N]) -> Vec<String> {
    types.map(str::to_owned).into()
}

fn both() -> Vec<String> {
    types(["connection.opened", "connection.closed"])
}

async fn subscribe(socket: &mut Socket) {
    let channels = json!([{"channel": ROOM, "presence": {}}]);
    let data = json!({"channels": channels});
    let frame = json!({"type": "subscribe", "version": "1.0", "id": "s", "data": data});
    socket.send(&frame.to_string()).await;
    while socket.receive().await["correlationId"] != "s" {}
}

async fn waiting(stack: &Stack) -> usize {
    let items = stack.state().await;
    items
        .iter()
        .filter(|item| item["pk"].as_s().unwrap().starts_with("hooks#"))
        .count()
}

#[tokio::test]
async fn it_is_told_at_once_without_the_schedule() {
    let listener = Listener::new();
    let stack = listener.stack().start().await;
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    let opened = BTreeMap::from([(id.clone(), types(["connection.opened"]))]);
    listener.wait_for("opened", &opened).await;
    let event = listener.told()[0].clone();
    assert_eq!(event["version"], "1.0");
    assert_eq!(event["userId"], "alice");
    assert_eq!(event["time"], event["connectedAt"]);
    subscribe(&mut alice).await;
    alice.close().await;
    stack.disconnected(&id).await;
    stack
        .invoke("Sweeper", &json!({"action": "sweep"}))
        .await
        .unwrap();
    let all = BTreeMap::from([
        (id, both()),
        (
            format!("{ROOM} \"alice\""),
            types(["presence.joined", "presence.left"]),
        ),
    ]);
    listener.wait_for("everything", &all).await;
    until("nothing waits", async || waiting(&stack).await == 0).await;
    stack.logs.wait_for(&["HookEventsDelivered"]).await;
}

#[tokio::test]
async fn every_end_of_a_connection_is_told() {
    let listener = Listener::new();
    let stack = listener
        .stack_with_runs()
        .parameter("HeartbeatIntervalSeconds", "2")
        .parameter("HeartbeatGraceSeconds", "1")
        .start()
        .await;
    let mut expected = BTreeMap::new();
    // Its client leaves.
    let mut socket = stack.connect("leaves").await;
    expected.insert(socket.id().await, both());
    socket.close().await;
    // Another connection replaces it.
    let mut old = stack.connect("replaced").await;
    let id = old.id().await;
    expected.insert(id.clone(), both());
    let bearer = format!("Bearer {}", stack.token("replaced").await);
    let url = format!("{}?replaces={id}", stack.ready.websocket);
    let mut successor = open(&url, &[("Authorization", &bearer)]).await;
    expected.insert(successor.id().await, both());
    // Its user is signed out.
    let mut socket = stack.connect("signed-out").await;
    expected.insert(socket.id().await, both());
    let sign_out = json!({"action": "signOut", "userId": "signed-out"});
    stack.invoke("Operator", &sign_out).await.unwrap();
    // Its token ends.
    let token = json!({"user": "expired", "ttl": 10});
    let bearer = format!("Bearer {}", stack.token_with(token).await);
    let url = &stack.ready.websocket;
    let mut expired = open(url, &[("Authorization", &bearer)]).await;
    expected.insert(expired.id().await, both());
    let expired = tokio::spawn(async move {
        let mut frame = expired.receive().await;
        while frame["type"] == "ping" {
            expired.send(r#"{"type":"pong","version":"1.0"}"#).await;
            frame = expired.receive().await;
        }
        assert_eq!(frame["data"]["code"], "TOKEN_EXPIRED", "{frame}");
    });
    // API Gateway does not say that it is gone.
    let fault = json!({"fault": "disconnect-drop"});
    let dropped = stack.fault(fault).await;
    let mut socket = stack.connect("dropped").await;
    let id = socket.id().await;
    expected.insert(id.clone(), both());
    socket.close().await;
    stack.struck(&dropped, 1).await;
    stack.end_fault(&dropped).await;
    drop((old, successor));
    expired.await.unwrap();
    stack.age_rows().await;
    listener.wait_for("all ends", &expected).await;
}

#[tokio::test]
async fn while_the_function_is_down_nothing_is_lost_and_all_comes_in_order() {
    let listener = Listener::new();
    let stack = listener.stack_with_runs().start().await;
    listener.set_down(true);
    let mut expected = BTreeMap::new();
    let mut open_sockets = Vec::new();
    for n in 0..12 {
        let user = format!("user-{n}");
        let mut socket = stack.connect(&user).await;
        let id = socket.id().await;
        if n % 2 == 0 {
            expected.insert(id, types(["connection.opened"]));
            open_sockets.push(socket);
            continue;
        }
        if n % 3 == 0 {
            subscribe(&mut socket).await;
            expected.insert(
                format!("{ROOM} \"{user}\""),
                types(["presence.joined", "presence.left"]),
            );
        }
        socket.close().await;
        stack.disconnected(&id).await;
        expected.insert(id, both());
    }
    // Attempts of the schedule, too: its first ones are for what is old enough.
    let failed = ["[Hooks]", "\"event\":\"hook.failed\""];
    stack.logs.wait_for_count(30, &failed).await;
    assert_eq!(listener.told(), [] as [Value; 0]);
    let line = stack.logs.wait_for(&failed).await;
    assert!(!line.contains("s3cr3t"), "{line}");
    stack.logs.wait_for(&["HookEventsFailed"]).await;
    stack.logs.wait_for(&["OldestHookEventAge"]).await;
    listener.set_down(false);
    listener.wait_for("all that happened", &expected).await;
    until("nothing waits", async || waiting(&stack).await == 0).await;
    let (_, letters) = stack.local("GET", "dead-letters", None).await;
    assert_eq!(letters, json!([]));
}

#[tokio::test]
async fn what_was_not_started_is_delivered_by_the_schedule() {
    let listener = Listener::new();
    let stack = listener.stack_with_runs().start().await;
    let fault = json!({"fault": "function-kill", "function": "Hooks"});
    let crashing = stack.fault(fault).await;
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    alice.close().await;
    stack.disconnected(&id).await;
    stack.struck(&crashing, 3).await;
    assert_eq!(listener.told(), [] as [Value; 0]);
    stack.end_fault(&crashing).await;
    let expected = BTreeMap::from([(id, both())]);
    listener.wait_for("delivered", &expected).await;
}

#[tokio::test]
async fn an_event_that_waited_for_a_day_is_a_dead_letter() {
    let listener = Listener::new();
    let stack = listener.stack_with_runs().start().await;
    listener.set_down(true);
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    until("it waits", async || waiting(&stack).await == 1).await;
    stack.age_hook_events().await;
    let line = ["[Hooks]", "\"event\":\"hook.given-up\""];
    stack.logs.wait_for(&line).await;
    stack.logs.wait_for(&["DEAD LETTER", "Hooks"]).await;
    stack.logs.wait_for(&["HookEventsGivenUp"]).await;
    until("nothing waits", async || waiting(&stack).await == 0).await;
    let (_, letters) = stack.local("GET", "dead-letters", None).await;
    let record = &letters[0]["record"];
    let event = &record["requestPayload"]["event"];
    assert_eq!(event["type"], "connection.opened", "{letters}");
    assert_eq!(event["connectionId"], id);
    assert_eq!(record["responsePayload"]["errorType"], "GivenUp");
    // The end of the connection is told all the same.
    listener.set_down(false);
    alice.close().await;
    let expected = BTreeMap::from([(id, types(["connection.closed"]))]);
    listener.wait_for("closed", &expected).await;
}

#[tokio::test]
async fn without_a_hook_nothing_is_written() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    let id = alice.id().await;
    subscribe(&mut alice).await;
    alice.close().await;
    stack.disconnected(&id).await;
    assert_eq!(waiting(&stack).await, 0);
    let invoked = stack
        .lambda()
        .invoke()
        .function_name("Hooks")
        .send()
        .await
        .unwrap_err();
    let error = invoked.into_service_error();
    assert!(error.is_resource_not_found_exception(), "{error}");
}

#[tokio::test]
async fn the_example_keeps_when_users_were_last_seen() {
    let example = repository().join("examples/last-seen/local.mjs");
    let stack = Stack::builder()
        .argument("--function")
        .argument(&format!("HookFunction={}", example.display()))
        .start()
        .await;
    let row = async || {
        let get = stack.dynamodb().get_item().table_name("LastSeen");
        let id = aws_sdk_dynamodb::types::AttributeValue::S("user#alice".into());
        let got = get.key("id", id).send().await.ok()?;
        got.item
    };
    let mut one = stack.connect("alice").await;
    let two = stack.connect("alice").await;
    let id = one.id().await;
    let open = async || {
        let row = row().await.unwrap_or_default();
        let open = row.get("connections").and_then(|set| set.as_ss().ok());
        open.map_or(0, Vec::len)
    };
    until("both are open", async || open().await == 2).await;
    two.close().await;
    until("one is open", async || open().await == 1).await;
    let row = row().await.unwrap();
    assert_eq!(*row["connections"].as_ss().unwrap(), [id]);
    assert!(row["lastSeenAt"].as_s().unwrap().ends_with('Z'));
}
