//! A function of the application's own decides: `belfry run --function`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use belfry_tests::{Socket, Stack, StackBuilder, ended, repository};
use serde_json::{Value, json};
use tempfile::TempDir;

const RULES: &str = r#"{"version":"1.0","channels":[{"match":"doc:*","allow":"ask"}]}"#;

/// Does what the channel's name says.
const MOODY: &str = r#"
export async function handler({ userId, channel, action }, context) {
  if (channel === "doc:throw") throw new RangeError(`no ${action} for ${userId}`);
  if (channel === "doc:hang") await new Promise((resolve) => setTimeout(resolve, 3_600_000));
  if (channel === "doc:exit") process.exit(7);
  if (channel === "doc:odd") return "yes";
  if (channel === "doc:nothing") return undefined;
  console.log(`asked as ${context.functionName}`);
  return { allow: [action], seconds: 60 };
}"#;

/// The Runtime API in another language.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, os, urllib.request

api = os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        request = event.headers["Lambda-Runtime-Aws-Request-Id"]
        question = json.load(event)
    allow = ["subscribe"] if question["userId"] == os.environ["OWNER"] else []
    answer = json.dumps({"allow": allow, "seconds": 60}).encode()
    urllib.request.urlopen(api + request + "/response", answer).close()
"#;

/// A stack with the rules, written to the folder.
fn with_rules(folder: &TempDir) -> StackBuilder {
    let rules = write(folder, "channels.json", RULES);
    Stack::builder()
        .argument("--channels")
        .argument(rules.to_str().unwrap())
}

/// A stack that asks a function.
fn asking(folder: &TempDir, file: &Path) -> StackBuilder {
    with_rules(folder)
        .argument("--function")
        .argument(&format!("AuthorizeFunction={}", file.display()))
}

fn write(folder: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Starts the function: a question waits for three seconds, and a start may take
/// longer on a busy machine.
async fn started(stack: &Stack) {
    let event = json!({"userId": "a", "claims": {}, "channel": "doc:a", "action": "publish"});
    stack.invoke("AuthorizeFunction", &event).await.unwrap();
}

/// The entry of the answer to `subscribe`.
async fn subscribe(socket: &mut Socket, channel: &str) -> Value {
    let data = json!({"channels": [{"channel": channel}]});
    let frame = json!({"type": "subscribe", "version": "1.0", "data": data});
    let answer = socket.ask(&frame.to_string()).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer["data"]["channels"][0].clone()
}

/// The code that refuses a message, or null.
async fn publish(socket: &mut Socket, channel: &str) -> Value {
    let data = json!({"channel": channel, "kind": "k"});
    let frame = json!({"type": "publish", "version": "1.0", "data": data});
    socket.ask(&frame.to_string()).await["data"]["code"].clone()
}

#[tokio::test]
async fn the_example_lets_owners_into_their_documents() {
    let folder = tempfile::tempdir().unwrap();
    let example = repository().join("examples/authorize/index.mjs");
    let stack = asking(&folder, &example).start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    started(&stack).await;
    let plan = "doc:alice~plan";
    let allowed = subscribe(&mut alice, plan).await;
    assert!(allowed["until"].is_string(), "{allowed}");
    assert_eq!(publish(&mut alice, plan).await, Value::Null);
    let refused = subscribe(&mut bob, plan).await;
    assert_eq!(refused["error"]["code"], "FORBIDDEN", "{refused}");
    assert_eq!(publish(&mut bob, plan).await, "FORBIDDEN");
    let event = json!({"userId": "bob", "claims": {}, "channel": "doc:bob~a", "action": "publish"});
    let answer = stack.invoke("AuthorizeFunction", &event).await.unwrap();
    assert_eq!(answer["seconds"], 300);
}

#[tokio::test]
async fn a_function_that_fails_allows_nothing_and_the_next_event_works() {
    let folder = tempfile::tempdir().unwrap();
    let moody = write(&folder, "moody.mjs", MOODY);
    let stack = asking(&folder, &moody).start().await;
    let mut alice = stack.connect("alice").await;
    started(&stack).await;
    for (channel, reason) in [
        ("doc:throw", "failed: Unhandled"),
        ("doc:exit", "failed: Unhandled"),
        ("doc:odd", "odd answer"),
        ("doc:nothing", "odd answer"),
        ("doc:hang", "did not answer within 3s"),
    ] {
        let refused = subscribe(&mut alice, channel).await;
        assert_eq!(refused["error"]["code"], "FORBIDDEN", "{channel}");
        stack
            .logs
            .wait_for(&["channel.not-authorized", reason])
            .await;
        started(&stack).await;
        let fine = subscribe(&mut alice, "doc:fine").await;
        assert!(fine["until"].is_string(), "after {channel}: {fine}");
    }
    let logged = "no subscribe for alice";
    let line = stack.logs.wait_for(&["[AuthorizeFunction]", logged]).await;
    assert!(line.contains("RangeError"), "{line}");
    stack.logs.wait_for(&["exit status: 7"]).await;
    stack.logs.wait_for(&["asked as AuthorizeFunction"]).await;
}

#[tokio::test]
async fn a_module_that_does_not_load_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(&folder, "empty.mjs", "export const other = 1;");
    let stack = asking(&folder, &empty).start().await;
    let mut alice = stack.connect("alice").await;
    let refused = subscribe(&mut alice, "doc:7").await;
    assert_eq!(refused["error"]["code"], "FORBIDDEN");
    let said = ["AuthorizeFunction", "initialization error", "handler"];
    stack.logs.wait_for(&said).await;
}

#[tokio::test]
async fn a_program_in_any_language_can_decide() {
    let folder = tempfile::tempdir().unwrap();
    let program = write(&folder, "authorize", PROGRAM);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let stack = asking(&folder, &program)
        .argument("--function-env")
        .argument("OWNER=alice");
    let stack = stack.start().await;
    let mut alice = stack.connect("alice").await;
    let mut bob = stack.connect("bob").await;
    started(&stack).await;
    for _ in 0..2 {
        let allowed = subscribe(&mut alice, "doc:7").await;
        assert!(allowed["until"].is_string(), "{allowed}");
        let refused = subscribe(&mut bob, "doc:7").await;
        assert_eq!(refused["error"]["code"], "FORBIDDEN", "{refused}");
    }
}

#[tokio::test]
async fn without_a_function_a_rule_that_asks_refuses_everybody_and_the_start_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let stack = with_rules(&folder).start().await;
    let hint = "--function AuthorizeFunction=FILE";
    stack.logs.wait_for(&["channels[0] (doc:*)", hint]).await;
    let mut alice = stack.connect("alice").await;
    let refused = subscribe(&mut alice, "doc:7").await;
    assert_eq!(refused["error"]["code"], "FORBIDDEN");
    let reason = "the stack has no AuthorizeFunction";
    stack
        .logs
        .wait_for(&["channel.not-authorized", reason])
        .await;

    let program = write(&folder, "authorize.mjs", MOODY);
    let stack = asking(&folder, &program).start().await;
    assert!(!stack.logs.text().contains(hint));
}

#[tokio::test]
async fn a_function_that_cannot_run_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let module = write(&folder, "moody.mjs", MOODY);
    let module = module.to_str().unwrap();
    let text = write(&folder, "text", "");
    let authorize = |file: &str| vec!["--function".into(), format!("AuthorizeFunction={file}")];
    let twice = [
        authorize(module),
        vec!["--parameter".into(), "AuthorizeFunction=".into()],
    ];
    for (arguments, path, problem) in [
        (authorize("nowhere.mjs"), None, "cannot read nowhere.mjs"),
        (authorize(text.to_str().unwrap()), None, "chmod +x"),
        (authorize(module), Some("/nowhere"), "Install Node 20"),
        (twice.concat(), None, "has a value already"),
        (
            vec!["--function".into(), format!("AuthoriseFunction={module}")],
            None,
            "did you mean AuthorizeFunction?",
        ),
    ] {
        let stack = Stack::builder();
        let mut command = arguments
            .iter()
            .fold(stack, |stack, argument: &String| stack.argument(argument))
            .command();
        command.stderr(Stdio::piped());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let output = ended(&mut command).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(problem), "{arguments:?}: {said}");
    }
}
