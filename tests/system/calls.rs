//! A function of the application's own serves calls: frame `call`.

use belfry_tests::{Socket, Stack, repository};
use serde_json::{Value, json};

/// Does what the action says.
const MOODY: &str = r#"
export async function handler({ connectionId, userId, claims, action, data }) {
  if (action === "throw") throw new RangeError(`no ${data} for ${userId}`);
  if (action === "exit") process.exit(7);
  if (action === "hang") await new Promise((resolve) => setTimeout(resolve, 3_600_000));
  if (action === "much") return "x".repeat(200_000);
  if (action === "nothing") return undefined;
  return { connectionId, userId, claims, action, data };
}"#;

async fn call(socket: &mut Socket, data: Value) -> Value {
    let frame = json!({"type": "call", "version": "1.0", "id": "7", "data": data});
    let answer = socket.ask(&frame.to_string()).await;
    assert_eq!(answer["correlationId"], "7", "{answer}");
    answer
}

#[tokio::test]
async fn a_function_that_fails_tells_the_client_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("moody.mjs");
    std::fs::write(&file, MOODY).unwrap();
    let stack = Stack::builder()
        .argument("--function")
        .argument(&format!("CallFunction={}", file.display()))
        .start()
        .await;
    let mut alice = stack.connect("alice").await;
    let echoed = call(&mut alice, json!({"action": "a:b.c", "data": [1, null]})).await;
    assert_eq!(echoed["type"], "result", "{echoed}");
    let seen = &echoed["data"];
    assert!(seen["connectionId"].is_string(), "{seen}");
    assert_eq!(seen["userId"], "alice");
    assert_eq!(seen["claims"], json!({}), "no rule names a claim");
    assert_eq!(seen["data"], json!([1, null]));
    let nothing = call(&mut alice, json!({"action": "nothing"})).await;
    assert_eq!(nothing["data"], Value::Null, "{nothing}");
    let mut messages = Vec::new();
    for (action, reason) in [
        ("throw", "failed"),
        ("exit", "failed"),
        ("much", "answer too large"),
        ("hang", "timeout"),
    ] {
        let error = call(&mut alice, json!({"action": action, "data": "s3cr3t"})).await;
        assert_eq!(error["data"]["code"], "CALL_FAILED", "{action}: {error}");
        messages.push(error["data"]["message"].clone());
        let line = stack
            .logs
            .wait_for(&["call.failed", &format!("\"{action}\""), reason])
            .await;
        assert!(!line.contains("s3cr3t"), "{line}");
        let fine = call(&mut alice, json!({"action": "fine"})).await;
        assert_eq!(fine["type"], "result", "after {action}: {fine}");
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    stack.logs.wait_for(&["CallsServed", "CallDuration"]).await;
    stack.logs.wait_for(&["CallsFailed"]).await;
}

#[tokio::test]
async fn two_people_edit_the_quote_of_the_example() {
    let example = repository().join("examples/quote/local.mjs");
    let stack = Stack::builder()
        .argument("--function")
        .argument(&format!("CallFunction={}", example.display()))
        .start()
        .await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    for socket in [&mut alice, &mut bob] {
        let data = json!({"channels": [{"channel": "demo:quote:q-1"}]});
        let frame = json!({"type": "subscribe", "version": "1.0", "data": data});
        let answer = socket.ask(&frame.to_string()).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
    }
    let edit = |version: u64, set: Value| json!({"action": "quote.edit", "data": {"id": "q-1", "version": version, "set": set}});
    let edited = call(&mut alice, edit(0, json!({"driverAge": 22}))).await;
    assert_eq!(edited["data"]["ok"], true, "{edited}");
    let quote = &edited["data"]["quote"];
    assert_eq!(
        (&quote["version"], &quote["premium"]),
        (&json!(1), &json!(90_112))
    );
    let told = bob.receive().await;
    assert_eq!(told["type"], "notification", "{told}");
    assert_eq!(told["channel"], "demo:quote:q-1");
    assert_eq!(told["data"]["quote"], *quote);
    assert_eq!(told["data"]["by"], "alice");
    let stale = call(&mut bob, edit(0, json!({"driverAge": 60}))).await;
    assert_eq!(stale["data"]["reason"], "conflict", "{stale}");
    assert_eq!(stale["data"]["quote"], *quote);
    let forged = call(&mut bob, edit(1, json!({"premium": 1}))).await;
    assert_eq!(forged["data"]["fields"], json!(["premium"]), "{forged}");
    let edited = call(&mut bob, edit(1, json!({"driverAge": 60}))).await;
    assert_eq!(edited["data"]["quote"]["version"], 2, "{edited}");
    let told = alice.receive().await;
    assert_eq!(told["data"]["quote"], edited["data"]["quote"]);
    alice.expect_nothing().await;
}
