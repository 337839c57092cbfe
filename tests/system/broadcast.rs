//! Broadcasts to a user, to several users, to connections and to everyone.
//! Every open socket of the target gets exactly one frame, the others none.

use belfry_tests::{Socket, Stack, node, repository};
use serde_json::{Value, json};

/// Alice with two tabs, Bob and Carol with one each.
struct People {
    stack: Stack,
    sockets: Vec<(&'static str, String, Socket)>,
}

impl People {
    async fn connect() -> Self {
        let stack = Stack::start().await;
        let mut sockets = Vec::new();
        for (name, user) in [
            ("alice 1", "alice"),
            ("alice 2", "alice"),
            ("bob", "bob"),
            ("carol", "carol"),
        ] {
            let mut socket = stack.connect(user).await;
            let id = socket.id().await;
            sockets.push((name, id, socket));
        }
        Self { stack, sockets }
    }

    fn id(&self, name: &str) -> &str {
        &self.sockets.iter().find(|(n, _, _)| *n == name).unwrap().1
    }

    /// Checks that these sockets got this frame once, and no other socket did.
    async fn expect_reached(&mut self, names: &[&str], message_id: &str) {
        for (name, _, socket) in &mut self.sockets {
            if names.contains(name) {
                let frame = socket.receive().await;
                assert_eq!(frame["type"], "notification", "{name}");
                assert_eq!(frame["version"], "1.0");
                assert_eq!(frame["id"], message_id, "{name}");
                assert_eq!(frame["data"], message()["data"], "{name}");
                assert!(frame["timestamp"].as_str().unwrap().ends_with('Z'));
            }
            socket.expect_nothing().await;
        }
    }
}

fn message() -> Value {
    json!({"type": "notification", "data": {"kind": "upload.completed", "file": "x.png"}})
}

fn report(message_id: &str, success: u64, gone: u64) -> Value {
    json!({
        "messageId": message_id,
        "status": "done",
        "success": success,
        "failure": gone,
        "failures": {"gone": gone, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
    })
}

#[tokio::test]
async fn every_target_reaches_its_recipients_and_nobody_else() {
    let mut people = People::connect().await;
    let (alice_1, bob) = (people.id("alice 1").to_owned(), people.id("bob").to_owned());
    let unknown = "AAAAAAAAAAAAAAA=";
    let cases = [
        (
            json!({"type": "user", "userId": "alice"}),
            vec![],
            vec!["alice 1", "alice 2"],
            0,
        ),
        (
            json!({"type": "user", "userId": "alice"}),
            vec![&alice_1],
            vec!["alice 2"],
            0,
        ),
        (
            json!({"type": "user", "userId": "nobody"}),
            vec![],
            vec![],
            0,
        ),
        (
            json!({"type": "users", "userIds": ["alice", "bob", "alice"]}),
            vec![],
            vec!["alice 1", "alice 2", "bob"],
            0,
        ),
        (
            json!({"type": "users", "userIds": ["bob", "carol"]}),
            vec![&bob],
            vec!["carol"],
            0,
        ),
        (
            json!({"type": "connections", "connectionIds": [alice_1, bob, alice_1]}),
            vec![],
            vec!["alice 1", "bob"],
            0,
        ),
        (
            json!({"type": "connections", "connectionIds": [unknown, bob]}),
            vec![],
            vec!["bob"],
            1,
        ),
        (
            json!({"type": "connections", "connectionIds": [alice_1, bob]}),
            vec![&bob],
            vec!["alice 1"],
            0,
        ),
        (
            json!({"type": "all"}),
            vec![],
            vec!["alice 1", "alice 2", "bob", "carol"],
            0,
        ),
        (
            json!({"type": "all"}),
            vec![&alice_1, &bob],
            vec!["alice 2", "carol"],
            0,
        ),
    ];
    for (n, (target, exclude, reached, gone)) in cases.into_iter().enumerate() {
        let id = format!("m-{n}");
        let request =
            json!({"messageId": id, "target": target, "message": message(), "exclude": exclude});
        let answer = people.stack.broadcast(&request).await.unwrap();
        assert_eq!(answer, report(&id, reached.len() as u64, gone), "{request}");
        people.expect_reached(&reached, &id).await;
    }
}

#[tokio::test]
async fn a_rest_handler_in_node_reaches_a_user() {
    let mut people = People::connect().await;
    let request = json!({"messageId": "from-node", "target": {"type": "user", "userId": "alice"}, "message": message()});
    let answer = node(
        "broadcast.mjs",
        &[&people.stack.ready.lambda, &request.to_string()],
    )
    .await;
    assert_eq!(
        answer,
        json!({"functionError": null, "payload": report("from-node", 2, 0)})
    );
    people
        .expect_reached(&["alice 1", "alice 2"], "from-node")
        .await;

    let wrong = json!({"target": {"type": "user"}, "message": message()});
    let answer = node(
        "broadcast.mjs",
        &[&people.stack.ready.lambda, &wrong.to_string()],
    )
    .await;
    assert_eq!(answer["functionError"], "Unhandled");
    assert_eq!(answer["payload"]["errorType"], "InvalidRequest");
}

#[tokio::test]
async fn a_broadcast_without_a_message_id_uses_the_request_id() {
    let mut people = People::connect().await;
    let request = json!({"target": {"type": "user", "userId": "bob"}, "message": message()});
    let answer = people.stack.broadcast(&request).await.unwrap();
    let id = answer["messageId"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 36);
    people.expect_reached(&["bob"], &id).await;
    let line = people
        .stack
        .logs
        .wait_for(&["[Broadcaster]", "\"event\":\"broadcast.reported\"", &id])
        .await;
    assert!(
        line.contains("\"success\":1") && line.contains("\"failure\":0"),
        "{line}"
    );
}

#[tokio::test]
async fn an_asynchronous_invocation_is_accepted_and_delivered() {
    let mut people = People::connect().await;
    let request = json!({"messageId": "later", "target": {"type": "all"}, "message": message()});
    people.stack.invoke_later("Broadcaster", &request).await;
    for (_, _, socket) in &mut people.sockets {
        assert_eq!(socket.receive().await["id"], "later");
    }
}

#[tokio::test]
async fn every_malformed_request_is_a_function_error_that_names_the_field() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let path = repository().join("schemas/cases/broadcast-requests.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut refusals = 0;
    for case in cases
        .iter()
        .filter(|case| case["expect"] == "InvalidRequest")
    {
        // The SDK cannot send invalid JSON; the parser's own tests cover it.
        let Ok(request) = serde_json::from_str::<Value>(case["text"].as_str().unwrap()) else {
            continue;
        };
        if case["schema"] == "cannot tell" {
            continue;
        }
        let error = stack.broadcast(&request).await.unwrap_err();
        assert_eq!(error["errorType"], "InvalidRequest", "{case}");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(
            message.contains(case["names"].as_str().unwrap()),
            "{case}: {message}"
        );
        refusals += 1;
    }
    assert!(
        refusals >= 20,
        "only {refusals} malformed requests were tried"
    );
    socket.expect_nothing().await;
}

#[tokio::test]
async fn a_duplicate_key_is_refused_also_through_lambda() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let request = format!(
        r#"{{"target":{{"type":"all"}},"target":{{"type":"user","userId":"bob"}},"message":{}}}"#,
        message()
    );
    let payload = aws_sdk_lambda::primitives::Blob::new(request);
    let output = stack
        .lambda()
        .invoke()
        .function_name("Broadcaster")
        .payload(payload)
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap();
    assert_eq!(answer["errorType"], "InvalidRequest");
    assert!(
        answer["errorMessage"].as_str().unwrap().contains("target"),
        "{answer}"
    );
    socket.expect_nothing().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_reaches_nobody() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let message =
        json!({"type": "notification", "data": {"kind": "k", "text": "x".repeat(128 * 1024)}});
    let error = stack
        .broadcast(&json!({"target": {"type": "all"}, "message": message}))
        .await
        .unwrap_err();
    assert_eq!(error["errorType"], "PayloadTooLarge");
    socket.expect_nothing().await;
}
