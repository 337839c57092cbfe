//! What the functions use is what `belfry cost` says.

use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use belfry_tests::{Socket, Stack, binaries, ended, http, repository, template_with};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

const ROOMS: usize = 4;
const MEMBERS: usize = 20;
const PEOPLE: usize = ROOMS * MEMBERS;

/// How far the prediction may be off.
const TOLERANCE: f64 = 0.05;

/// Days in a month of `belfry cost`.
const DAYS: f64 = 730.0 / 24.0;

/// A proxy of the database that sums what DynamoDB says it has consumed.
#[derive(Default)]
struct Meter {
    database: OnceLock<String>,
    client: reqwest::Client,
    consumed: Mutex<Consumed>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Consumed {
    write: f64,
    read: f64,
    failed_conditions: u32,
}

impl Meter {
    fn take(&self) -> Consumed {
        std::mem::take(&mut *self.consumed.lock().unwrap())
    }
}

async fn meter() -> (Arc<Meter>, String) {
    let meter = Arc::new(Meter {
        client: http(),
        ..Meter::default()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(pass).with_state(Arc::clone(&meter));
    tokio::spawn(async { axum::serve(listener, app).await });
    (meter, url)
}

async fn pass(State(meter): State<Arc<Meter>>, mut headers: HeaderMap, body: Bytes) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap();
    request["ReturnConsumedCapacity"] = json!("TOTAL");
    for name in ["host", "content-length"] {
        headers.remove(name);
    }
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    let database = meter.database.get().expect("the stack has started");
    let forwarded = meter.client.post(database).headers(headers);
    let answer = forwarded.body(request.to_string()).send().await.unwrap();
    let (status, text) = (answer.status(), answer.bytes().await.unwrap());
    let answer: Value = serde_json::from_slice(&text).unwrap();
    let mut consumed = meter.consumed.lock().unwrap();
    if status == StatusCode::OK {
        let units = &answer["ConsumedCapacity"];
        let one = std::slice::from_ref(units);
        let tables = units.as_array().map_or(one, Vec::as_slice);
        let units = tables.iter().map(|table| table["CapacityUnits"].as_f64());
        let units: f64 = units.map(|units| units.expect("units")).sum();
        let is_read = ["GetItem", "BatchGetItem", "Query", "Scan"]
            .iter()
            .any(|read| target.ends_with(&format!(".{read}")));
        let sum = match is_read {
            true => &mut consumed.read,
            false => &mut consumed.write,
        };
        *sum += units;
    } else {
        // AWS: a write whose condition fails consumes a unit, and does not
        // report it.
        consumed.write += 1.0;
        consumed.failed_conditions += 1;
    }
    (status, text).into_response()
}

/// Sends a frame and waits for its answer. Returns how many messages came
/// before it.
async fn ask(socket: &mut Socket, frame_type: &str, data: &Value) -> usize {
    let frame = json!({"type": frame_type, "version": "1.0", "id": "asked", "data": data});
    socket.send(&frame.to_string()).await;
    for messages in 0.. {
        let frame = socket.receive().await;
        if frame["correlationId"] == "asked" {
            assert_ne!(frame["type"], "error", "{frame}");
            return messages;
        }
        assert_eq!(frame["type"], "message", "{frame}");
    }
    unreachable!("an answer comes")
}

/// What a message of each of these users a day adds to the bill, for one
/// message.
async fn predicted(what: &[&str]) -> Vec<f64> {
    let bill = async |publishes: &str| {
        let mut command = Command::new(binaries().join("belfry"));
        let flags = format!(
            "cost --json --connections {PEOPLE} --hours-per-day 1 --history-hours 1 \
             --fan-out {MEMBERS} --publishes-per-user {publishes}"
        );
        let output = ended(command.args(flags.split_whitespace())).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (without, with) = (bill("0").await, bill("1").await);
    let quantity = |bill: &Value, what: &str| {
        let lines = bill["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["what"] == what).unwrap();
        line["quantity"].as_f64().unwrap()
    };
    let difference = |what: &&str| quantity(&with, what) - quantity(&without, what);
    let messages = PEOPLE as f64 * DAYS;
    what.iter().map(|one| difference(one) / messages).collect()
}

#[tokio::test]
async fn publishing_in_rooms_costs_what_the_command_says() {
    let (meter, url) = meter().await;
    let template = template_with("Default", &[("AWS_ENDPOINT_URL_DYNAMODB", &url)]);
    let rules = repository().join("channels.json");
    let stack = Stack::talkative()
        .template(template.path())
        .argument("--channels")
        .argument(rules.to_str().unwrap())
        .argument("--connect-rate")
        .argument("0")
        .argument("--request-rate")
        .argument("0")
        // Nobody else calls `Default`.
        .argument("--schedule-every")
        .argument("1h");
    let stack = stack.start().await;
    let database = meter.database.set(stack.ready.dynamodb.clone());
    database.expect("the first stack");

    let channel = |room: usize| format!("demo:room:{room}");
    // As JSON it has two quotes.
    let data = "x".repeat(498);
    let mut rooms: Vec<Vec<Socket>> = Vec::new();
    for room in 0..ROOMS {
        let joining = (0..MEMBERS).map(async |member| {
            let mut socket = stack.connect(&format!("user-{room}-{member}")).await;
            let channels = json!({"channels": [{"channel": channel(room)}]});
            ask(&mut socket, "subscribe", &channels).await;
            socket
        });
        let mut members = join_all(joining).await;
        // The other messages find a log.
        let first = json!({"channel": channel(room), "kind": "chat.line", "data": "first"});
        ask(&mut members[0], "publish", &first).await;
        rooms.push(members);
    }
    meter.take();

    // They take turns, so nobody has to try again.
    let mut received = 0;
    for (room, members) in rooms.iter_mut().enumerate() {
        let message = json!({
            "channel": channel(room), "kind": "chat.line", "data": data, "echo": true,
        });
        for member in members {
            received += ask(member, "publish", &message).await;
        }
    }
    let consumed = meter.take();
    for member in rooms.iter_mut().flatten() {
        // Everything that was posted comes before the answer.
        received += ask(member, "echo", &json!(null)).await;
    }
    // All but the sender have the first message of each room.
    received -= ROOMS * (MEMBERS - 1);
    assert_eq!(received, PEOPLE * MEMBERS, "everyone got every message");
    assert_eq!(consumed.failed_conditions, 0, "{consumed:?}");

    let publishes = PEOPLE as f64;
    let counted = [
        // The frame, its answer, and the posts.
        2.0 + received as f64 / publishes,
        consumed.write / publishes,
        consumed.read / publishes,
    ];
    let what = ["messages", "write units", "read units"];
    let predicted = predicted(&what).await;
    for ((what, counted), predicted) in what.iter().zip(counted).zip(predicted) {
        println!("{what:<12} {counted:>6.2} counted, {predicted:>6.2} predicted");
        let off = (predicted - counted).abs() / counted;
        assert!(off <= TOLERANCE, "{what}: {counted}, not {predicted}");
    }
}
