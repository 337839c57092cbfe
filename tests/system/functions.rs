//! Functions that crash, hang or talk nonsense: what clients see of it, and
//! that the next event works. With a function that does what it is told.

use std::collections::BTreeSet;
use std::path::Path;

use belfry_tests::{Socket, Stack, node, open, refused};
use serde_json::{Value, json};

fn told(stack: &Stack, what: &str) -> String {
    format!("{}?do={what}", stack.ready.websocket)
}

async fn socket(stack: &Stack) -> Socket {
    open(&stack.ready.websocket, &[]).await
}

#[tokio::test]
async fn a_failing_connect_is_a_502_and_the_next_one_works() {
    let stack = Stack::misbehaving().start().await;
    for what in ["crash", "panic", "hang", "nonsense", "error"] {
        assert_eq!(refused(&told(&stack, what), &[]).await, 502, "{what}");
        open(&told(&stack, "ok"), &[]).await.close().await;
    }
    assert_eq!(
        refused(&told(&stack, "refuse"), &[]).await,
        418,
        "a refusal is the function's own"
    );
    stack
        .logs
        .wait_for(&["Misbehave", "Runtime exited with error: exit status: 7"])
        .await;
    stack
        .logs
        .wait_for(&["Misbehave", "Task timed out after 1.00 seconds"])
        .await;
}

#[tokio::test]
async fn an_integration_that_takes_too_long_is_a_504() {
    let stack = Stack::misbehaving()
        .parameter("IntegrationTimeout", "3000")
        .parameter("FunctionTimeout", "20")
        .start()
        .await;
    assert_eq!(refused(&told(&stack, "hang"), &[]).await, 504);
    let mut socket = socket(&stack).await;
    let frame = socket_text(&mut socket, "hang").await;
    assert!(
        frame.starts_with(r#"{"message": "Endpoint request timed out", "connectionId":""#),
        "{frame}"
    );
    assert_eq!(socket_text(&mut socket, "hello").await, "hello");
}

async fn socket_text(socket: &mut Socket, text: &str) -> String {
    socket.send(text).await;
    socket.receive_text().await
}

#[tokio::test]
async fn a_failing_message_is_an_error_frame_and_the_connection_stays() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    for what in ["crash", "panic", "hang", "nonsense", "error"] {
        let frame = socket_text(&mut socket, what).await;
        let expected = r#"{"message": "Internal server error", "connectionId":""#;
        assert!(frame.starts_with(expected), "{what}: {frame}");
        let frame: Value = serde_json::from_str(&frame).unwrap();
        assert!(frame["requestId"].is_string(), "{what}");
        assert_eq!(
            socket_text(&mut socket, "still here").await,
            "still here",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_function_that_overruns_is_killed() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let pid = pid(&mut socket).await;
    assert!(is_running(pid));
    socket_text(&mut socket, "hang").await;
    // The error frame comes after the kill.
    assert!(!is_running(pid));
    assert_ne!(
        self::pid(&mut socket).await,
        pid,
        "another environment serves"
    );
}

/// The process that answers.
async fn pid(socket: &mut Socket) -> i32 {
    let answer = socket_text(socket, "pid").await;
    answer
        .parse()
        .unwrap_or_else(|_| panic!("no process id: {answer}"))
}

fn is_running(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[tokio::test]
async fn environments_are_reused_and_limited() {
    let stack = Stack::misbehaving()
        .argument("--environments")
        .argument("2")
        .start()
        .await;
    let mut socket = socket(&stack).await;
    let first = socket_text(&mut socket, "pid").await;
    assert_eq!(
        socket_text(&mut socket, "pid").await,
        first,
        "an idle environment is used again"
    );
    for _ in 0..6 {
        socket.send("slow").await;
    }
    let mut pids = BTreeSet::new();
    for _ in 0..6 {
        pids.insert(socket.receive_text().await);
    }
    assert_eq!(pids.len(), 2, "as many as allowed, each used again");
    assert!(pids.contains(&first));
}

#[tokio::test]
async fn a_function_that_cannot_start_says_why() {
    let stack = Stack::misbehaving()
        .parameter("Start", "fail")
        .start()
        .await;
    assert_eq!(refused(&stack.ready.websocket, &[]).await, 502);
    stack
        .logs
        .wait_for(&["[Misbehave] told not to start"])
        .await;
    stack
        .logs
        .wait_for(&["Runtime exited with error: exit status: 3"])
        .await;
}

#[tokio::test]
async fn an_environment_that_dies_while_idle_costs_no_event() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    for _ in 0..10 {
        let first = pid(&mut socket).await;
        let process = nix::unistd::Pid::from_raw(first);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        while is_alive(first) {
            tokio::task::yield_now().await;
        }
        assert_ne!(pid(&mut socket).await, first);
    }
}

/// Whether a process still runs; one that has ended and was not waited for
/// does not.
fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn routes_are_chosen_by_the_selection_expression() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let route = async |socket: &mut Socket, name: &str| {
        // The function answers with its body, which is the frame itself.
        let frame = format!(r#"{{"action":{{"name":{name}}}}}"#);
        assert_eq!(socket_text(socket, &frame).await, frame);
    };
    route(&mut socket, "\"chosen\"").await;
    route(&mut socket, "\"unknown\"").await;
    // A client cannot run the handshake's route: this is a message for $default.
    route(&mut socket, "\"$connect\"").await;
    route(&mut socket, "\"$disconnect\"").await;
    // A route without a response says nothing, whatever its function returns.
    socket.send(r#"{"action":{"name":"mute"}}"#).await;
    assert_eq!(
        socket_text(&mut socket, "silent, then this").await,
        "silent, then this"
    );
}

#[tokio::test]
async fn events_have_the_form_of_api_gateway() {
    let stack = Stack::misbehaving().start().await;
    let mut socket = socket(&stack).await;
    let event: Value = serde_json::from_str(&socket_text(&mut socket, "event").await).unwrap();
    let fields: Vec<_> = event.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["body", "isBase64Encoded", "requestContext"]);
    let context = &event["requestContext"];
    assert_eq!(
        (
            &context["routeKey"],
            &context["eventType"],
            &context["stage"]
        ),
        (&"$default".into(), &"MESSAGE".into(), &"test".into())
    );
    assert_eq!(context["identity"]["sourceIp"], "127.0.0.1");
    let names = socket_text(&mut socket, "environment").await;
    assert!(
        names.contains("AWS_LAMBDA_FUNCTION_NAME") && names.contains("START"),
        "{names}"
    );
    assert!(
        !names.contains("CARGO") && !names.contains("HOME"),
        "the developer's own environment stays out: {names}"
    );
}

#[tokio::test]
async fn binary_and_oversized_messages_close_the_connection() {
    let stack = Stack::misbehaving().start().await;
    let mut one = socket(&stack).await;
    one.send_binary(&[0, 1, 2]).await;
    assert_eq!(one.closed().await.0, 1003);
    // However much the client still has on its way, it learns why.
    for bytes in [32 * 1024 + 1, 8 * 1024 * 1024] {
        let mut large = socket(&stack).await;
        large.send(&"x".repeat(bytes)).await;
        assert_eq!(large.closed().await.0, 1009, "{bytes}");
    }
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let stack = Stack::misbehaving().start().await;
    socket(&stack).await.close().await;
    for (options, code) in [
        (json!({"close": []}), 1005),
        (json!({"close": [1000, "bye"]}), 1000),
        (json!({"close": [4001, "bye"]}), 4001),
    ] {
        let closed = node(
            "connect.mjs",
            &[&stack.ready.websocket, &options.to_string()],
        )
        .await;
        assert_eq!(closed["wasClean"], true, "{options}: {closed}");
        assert!(
            closed["code"] == code || closed["code"] == 1000,
            "{options}: {closed}"
        );
    }
}
