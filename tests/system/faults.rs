//! Faults on demand, and their effect on a real client and a real function.

mod disconnects;
mod dynamodb;
mod functions;
mod posts;

use belfry_tests::{Socket, Stack, ended, try_open};
use serde_json::{Value, json};

const PING: &str = r#"{"type":"ping","version":"1.0"}"#;

fn to(user: &str) -> Value {
    json!({
        "target": {"type": "user", "userId": user},
        "message": {"type": "notification", "data": {"kind": "k"}},
    })
}

/// Tries a handshake as alice.
async fn connects(stack: &Stack) -> Result<Socket, u16> {
    let bearer = format!("Bearer {}", stack.token("alice").await);
    try_open(&stack.ready.websocket, &[("Authorization", &bearer)]).await
}

async fn alice(stack: &Stack) -> (Socket, String) {
    let mut socket = stack.connect("alice").await;
    let id = socket.id().await;
    (socket, id)
}

#[tokio::test]
async fn faults_are_listed_ended_and_named() {
    let stack = Stack::builder()
        .argument("--fault")
        .argument("post-410,share=0.1")
        .start()
        .await;
    stack
        .logs
        .wait_for(&["FAULT active: post-410,share=0.1"])
        .await;
    let id = stack
        .fault(json!({"fault": "function-kill", "delay": "50ms"}))
        .await;
    stack
        .logs
        .wait_for(&["FAULT active: function-kill,delay=50ms", &id])
        .await;
    let (_, list) = stack.local("GET", "faults", None).await;
    assert_eq!(
        list,
        json!([
            {"id": "f1", "fault": "post-410", "share": 0.1, "struck": 0},
            {"id": id, "fault": "function-kill", "delay": "50ms", "struck": 0},
        ])
    );
    stack.end_fault(&id).await;
    stack
        .logs
        .wait_for(&["fault ended: function-kill,delay=50ms"])
        .await;
    assert_eq!(stack.local("DELETE", "faults", None).await.0, 204);
    stack.logs.wait_for(&["fault ended: post-410"]).await;
    assert_eq!(stack.local("GET", "faults", None).await.1, json!([]));

    let (status, answer) = stack.local("DELETE", "faults/f9", None).await;
    assert_eq!(status, 404);
    assert!(
        answer["message"].as_str().unwrap().contains("f9"),
        "{answer}"
    );
    for (wrong, part) in [
        (
            json!({"fault": "post-404"}),
            "is not one of the faults disconnect-drop",
        ),
        (
            json!({"fault": "post-410", "share": 2}),
            "share must be above 0",
        ),
        (json!({"fault": "post-410", "shares": 2}), "shares"),
        (
            json!({"fault": "function-kill", "function": "Conect"}),
            "did you mean Connect",
        ),
        (
            json!({"fault": "dynamodb-throttle", "operation": "PutIem"}),
            "did you mean PutItem",
        ),
        (json!({}), "fault"),
    ] {
        let (status, answer) = stack.local("POST", "faults", Some(&wrong)).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(
            answer["message"].as_str().unwrap().contains(part),
            "{wrong}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_unknown_name_on_the_command_line_is_refused_with_the_known_ones() {
    for (fault, part) in [
        ("post-404", "disconnect-drop"),
        ("function-kill,function=Conect", "did you mean Connect"),
        (
            "dynamodb-slow,delay=1s,operation=PutIem",
            "did you mean PutItem",
        ),
    ] {
        let mut command = Stack::builder()
            .argument("--fault")
            .argument(fault)
            .command();
        let output = ended(&mut command).await;
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--fault") && said.contains(part), "{said}");
    }
}
