//! The end of connections: with their token, with their peer, with their user's
//! session.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use belfry_tests::{Socket, Stack, StackBuilder, open, refused, soon, try_open, unix_time, until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The log event of a connection that a sweep has ended.
const SWEPT: &str = "\"event\":\"connection.swept\"";

/// A stack that sweeps every second.
fn sweeping() -> StackBuilder {
    Stack::builder().argument("--schedule-every").argument("1s")
}

async fn open_with(stack: &Stack, token: &str) -> Socket {
    let bearer = format!("Bearer {token}");
    open(&stack.ready.websocket, &[("Authorization", &bearer)]).await
}

/// The sweeper's log lines, as JSON.
fn sweeper_log(stack: &Stack) -> Vec<Value> {
    let lines = stack.logs.lines_with("[Sweeper]");
    let json = lines
        .iter()
        .filter_map(|line| Some(&line[line.find('{')?..]));
    json.filter_map(|json| serde_json::from_str(json).ok())
        .collect()
}

/// When a sweep began and ended, in milliseconds since 1970.
fn sweep_times(line: &Value) -> Option<(u64, u64)> {
    let took = line["SweepDuration"].as_u64()?;
    let ended = line["_aws"]["Timestamp"].as_u64()?;
    Some((ended - took, ended))
}

fn refresh(token: &str) -> String {
    json!({"type": "auth.refresh", "version": "1.0", "data": {"token": token}}).to_string()
}

#[tokio::test]
async fn sessions_end_with_their_token_unless_it_is_refreshed() {
    let stack = sweeping().start().await;
    let mut ending = Vec::new();
    let mut going_on = Vec::new();
    for n in 0..20 {
        let short = json!({"user": format!("user-{n}"), "ttl": 8});
        let token = stack.token_with(short).await;
        let mut socket = open_with(&stack, &token).await;
        let id = socket.id().await;
        let row = stack.row(&id).await.unwrap();
        let end: u64 = row["tokenExpiresAt"].as_n().unwrap().parse().unwrap();
        ending.push((socket, id, end));
        let mut other = open_with(&stack, &token).await;
        let longer = stack.token(&format!("user-{n}")).await;
        let answer = other.ask(&refresh(&longer)).await;
        assert_eq!(answer["type"], "auth.refreshed");
        going_on.push(other);
    }
    for (socket, id, _) in &mut ending {
        let error = socket.receive().await;
        assert_eq!(error["data"]["code"], "TOKEN_EXPIRED", "{id}");
        assert_eq!(socket.closed().await.0, 1000);
    }
    for (_, id, _) in &ending {
        stack.logs.wait_for(&[SWEPT, id]).await;
        assert!(stack.row(id).await.is_none());
    }
    // The first or the second sweep that began after the expiry ended each of
    // them, however long the sweeps took.
    let lines = sweeper_log(&stack);
    for (_, id, end) in &ending {
        let ended = lines
            .iter()
            .find(|line| line["event"] == "connection.swept" && line["connectionId"] == **id);
        let at = ended.unwrap()["timestamp"].as_str().unwrap();
        let at: jiff::Timestamp = at.parse().unwrap();
        let at = u64::try_from(at.as_millisecond()).unwrap();
        let sweeps = lines.iter().filter_map(sweep_times);
        let missed = sweeps.filter(|(began, ended)| *began >= (end + 1) * 1_000 && *ended < at);
        assert!(missed.count() <= 1, "{id}: {lines:?}");
    }
    for socket in &mut going_on {
        socket.expect_nothing().await;
    }
}

/// Answers pings until it gets a permit and has used it for a `hello`, which
/// shows that the connection is usable.
async fn answer_pings(mut socket: Socket, permits: Arc<Semaphore>) {
    let mut permit = None;
    loop {
        tokio::select! {
            acquired = permits.acquire(), if permit.is_none() => {
                permit = Some(acquired.expect("never closed"));
                socket.send(r#"{"type":"hello","version":"1.0"}"#).await;
            }
            text = socket.next_text() => {
                let text = text.expect("the connection is open");
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                match frame["type"].as_str() {
                    Some("ping") => socket.send(r#"{"type":"pong","version":"1.0"}"#).await,
                    Some("welcome") => return,
                    _ => panic!("{frame}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn silent_connections_are_removed_and_the_others_stay() {
    // The test invokes the sweeps itself, one after the other.
    let stack = Stack::builder()
        .parameter("HeartbeatIntervalSeconds", "10")
        .parameter("HeartbeatGraceSeconds", "10")
        .start()
        .await;
    let permits = Arc::new(Semaphore::new(0));
    let (mut frozen, mut living) = (BTreeSet::new(), BTreeSet::new());
    let (mut silent, mut clients) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let token = stack.token(&format!("user-{n}")).await;
        let sockets = join_all((0..10).map(|_| open_with(&stack, &token))).await;
        for (m, mut socket) in sockets.into_iter().enumerate() {
            let id = socket.id().await;
            if m < 2 {
                let fault = json!({"fault": "peer-freeze", "connection": id});
                stack.fault(fault).await;
                frozen.insert(id);
                silent.push(socket);
            } else {
                living.insert(id);
                clients.push(tokio::spawn(answer_pings(socket, Arc::clone(&permits))));
            }
        }
    }
    assert_eq!((frozen.len(), living.len()), (100, 400));
    let sweep = json!({"action": "sweep"});
    let removing = async {
        while stack.rows().await > living.len() {
            stack.invoke("Sweeper", &sweep).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let removed = tokio::time::timeout(Duration::from_secs(120), removing).await;
    removed.expect("the silent connections are removed");
    let rows: BTreeSet<_> = stack.connection_ids().await.into_iter().collect();
    assert_eq!(rows, living);
    for id in &frozen {
        stack.logs.wait_for(&[SWEPT, "Silent", id]).await;
    }
    let report = stack.invoke("Sweeper", &sweep).await.unwrap();
    assert_eq!(report["connections"], 400, "{report}");
    // A few at a time: 400 at once would delay each other, and the pongs.
    permits.add_permits(8);
    for client in clients {
        soon("a client gets its welcome", client).await.unwrap();
    }
}

#[tokio::test]
async fn a_connect_that_died_after_its_write_leaves_no_ghost() {
    let stack = sweeping()
        .parameter("HeartbeatIntervalSeconds", "1")
        .start()
        .await;
    let fault = json!({"fault": "function-lose-answer", "function": "Connect", "times": 1});
    stack.fault(fault).await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let url = &stack.ready.websocket;
    assert_eq!(refused(url, &[("Authorization", &bearer)]).await, 502);
    // The row was written: a sweep finds it, and no connection.
    stack.age_rows().await;
    stack
        .logs
        .wait_for(&["[Sweeper]", "\"event\":\"sweep.completed\"", "\"gone\":1"])
        .await;
    assert_eq!(stack.rows().await, 0);
    stack.expect_connections(0).await;
}

#[tokio::test]
async fn a_client_is_told_to_reconnect_and_its_successor_replaces_it() {
    let stack = sweeping()
        .parameter("ConnectionLifetimeSeconds", "12")
        .parameter("MaxConnectionsPerUser", "1")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    let frame = socket.receive().await;
    assert_eq!(frame["type"], "reconnect");
    let welcome = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
    assert_eq!(
        frame["data"]["deadline"],
        welcome["data"]["connectionExpiresAt"]
    );
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let headers = [("Authorization", bearer.as_str())];
    let url = &stack.ready.websocket;
    assert_eq!(refused(url, &headers).await, 429, "the limit is one");
    let mut next = open(&format!("{url}?replaces={id}"), &headers).await;
    // Nothing is missed: both receive until the old connection closes.
    let request = json!({
        "target": {"type": "user", "userId": "alice"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    assert_eq!(stack.broadcast(&request).await.unwrap()["success"], 2);
    assert_eq!(next.receive().await["type"], "notification");
    assert_eq!(socket.receive().await["type"], "notification");
    socket.close().await;
    stack.logs.wait_for(&["[Disconnect]", &id]).await;
    stack.expect_connections(1).await;
    assert_eq!(refused(url, &headers).await, 429);
    next.expect_nothing().await;
}

#[tokio::test]
async fn one_flag_shows_the_end_of_a_connection_and_its_announcement() {
    // The template's schedule alone would sweep after a minute.
    let stack = Stack::builder()
        .argument("--max-duration")
        .argument("12s")
        .start()
        .await;
    let mut socket = stack.connect("alice").await;
    let welcome = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
    let frame = socket.receive().await;
    assert_eq!(frame["type"], "reconnect");
    assert_eq!(
        frame["data"]["deadline"],
        welcome["data"]["connectionExpiresAt"]
    );
    assert_eq!(socket.closed().await.0, 1001);
}

#[tokio::test]
async fn signing_out_ends_every_session_of_a_user() {
    let stack = Stack::start().await;
    let old = stack.token("alice").await;
    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(open_with(&stack, &old).await);
    }
    let mut bob = stack.connect("bob").await;
    let request = json!({"action": "signOut", "userId": "alice"});
    let report = stack.invoke("Operator", &request).await.unwrap();
    assert_eq!(report, json!({"closed": 3, "failed": 0, "notEnded": 0}));
    for tab in &mut tabs {
        let error = tab.receive().await;
        assert_eq!(error["data"]["code"], "SIGNED_OUT");
        assert_eq!(tab.closed().await.0, 1000);
    }
    let url = &stack.ready.websocket;
    let bearer = format!("Bearer {old}");
    assert_eq!(refused(url, &[("Authorization", &bearer)]).await, 401);
    stack
        .logs
        .wait_for(&[
            "[Connect]",
            "\"event\":\"connection.refused\"",
            "signed out",
        ])
        .await;
    bob.expect_nothing().await;
    assert_eq!(stack.rows().await, 1);
    // Clocks may differ by five seconds. A token issued later starts a new
    // session. The old token does not extend it.
    let signed_out = unix_time().as_secs();
    let is_later = async || unix_time().as_secs() > signed_out + 5;
    until("five seconds have passed", is_later).await;
    let mut again = stack.connect("alice").await;
    let answer = again.ask(&refresh(&old)).await;
    assert_eq!(answer["data"]["code"], "SIGNED_OUT");
    again.expect_nothing().await;
}

/// A handshake as alice whose function waits with its row written, before it
/// looks for the row: for two seconds, when its client gives up the first attempt.
async fn pending(stack: &Stack) -> JoinHandle<Result<Socket, u16>> {
    let slow =
        json!({"fault": "dynamodb-slow", "operation": "BatchGetItem", "delay": "3s", "times": 1});
    stack.fault(slow).await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    let url = stack.ready.websocket.clone();
    let handshake =
        tokio::spawn(async move { try_open(&url, &[("Authorization", &bearer)]).await });
    until("the row is written", async || stack.rows().await == 1).await;
    handshake
}

#[tokio::test]
async fn a_pending_handshake_does_not_outlive_a_sign_out() {
    let stack = Stack::start().await;
    // Started now, so that the sign-out does not wait for a start.
    let nobody = json!({"action": "signOut", "userId": "nobody"});
    stack.invoke("Operator", &nobody).await.unwrap();
    let handshake = pending(&stack).await;
    let request = json!({"action": "signOut", "userId": "alice"});
    let report = stack.invoke("Operator", &request).await.unwrap();
    assert_eq!(report, json!({"closed": 1, "failed": 0, "notEnded": 0}));
    let outcome = soon("the handshake ends", handshake).await.unwrap();
    assert_eq!(outcome.err(), Some(401));
    stack.expect_connections(0).await;
}

#[tokio::test]
async fn a_broadcast_leaves_the_row_of_a_pending_handshake() {
    let stack = Stack::start().await;
    let request = json!({
        "target": {"type": "user", "userId": "alice"},
        "message": {"type": "notification", "data": {"kind": "k"}},
    });
    // Starts the broadcaster.
    assert_eq!(stack.broadcast(&request).await.unwrap()["success"], 0);
    let handshake = pending(&stack).await;
    let report = stack.broadcast(&request).await.unwrap();
    assert_eq!(
        report["success"].as_u64().unwrap() + report["failures"]["gone"].as_u64().unwrap(),
        1
    );
    let outcome = soon("the handshake ends", handshake).await.unwrap();
    let mut socket = outcome.expect("let in");
    stack.expect_connections(1).await;
    assert_eq!(stack.broadcast(&request).await.unwrap()["success"], 1);
    assert_eq!(socket.receive().await["type"], "notification");
}

#[tokio::test]
async fn nobody_is_let_in_without_a_row() {
    let stack = Stack::start().await;
    let handshake = pending(&stack).await;
    // An operator removes the row.
    let id = stack.connection_ids().await.remove(0);
    let delete = stack.dynamodb().delete_item().table_name("Connections");
    let delete = delete.key("connectionId", AttributeValue::S(id)).send();
    delete.await.unwrap();
    let outcome = soon("the handshake ends", handshake).await.unwrap();
    assert_eq!(outcome.err(), Some(503));
}

#[tokio::test]
async fn invalid_requests_to_sweeper_and_operator_name_the_field() {
    let stack = Stack::start().await;
    for (function, request, names) in [
        ("Sweeper", json!({}), "action"),
        (
            "Sweeper",
            json!({"action": "signOut", "userId": "alice"}),
            "sweep",
        ),
        ("Operator", json!({}), "action"),
        ("Operator", json!({"action": "signOut"}), "userId"),
        ("Operator", json!({"action": "dance"}), "signOut"),
    ] {
        let error = stack.invoke(function, &request).await.unwrap_err();
        assert_eq!(
            error["errorType"], "InvalidRequest",
            "{function}: {request}"
        );
        let message = error["errorMessage"].as_str().unwrap();
        assert!(message.contains(names), "{function}: {request}: {message}");
    }
    let report = stack.invoke("Sweeper", &json!({"action": "sweep"})).await;
    assert_eq!(report.unwrap()["complete"], true);
}

#[tokio::test]
async fn every_sweep_audits_counters() {
    let stack = Stack::start().await;
    let sweep = json!({"action": "sweep"});
    stack.invoke("Sweeper", &sweep).await.unwrap();
    let state = stack.state().await;
    let noted = state.iter().filter(|item| item.contains_key("notedAt"));
    assert_eq!(noted.count(), 4, "{state:?}");
}
