//! The load test, run from the command line.

use belfry_tests::{Stack, StackBuilder, binaries, ended};
use serde_json::json;
use tokio::process::Command;

/// Runs it and returns the exit code and both outputs together.
async fn loadtest(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binaries().join("loadtest"));
    let output = ended(command.args(arguments)).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[tokio::test]
async fn it_reports_latencies_and_losses() {
    let stack = Stack::builder().start().await;
    let url = stack.ready.websocket.as_str();
    // Some users have several connections, and connecting takes two seconds.
    let (code, said) = loadtest(&[
        "--url",
        url,
        "--connections",
        "120",
        "--rate",
        "40",
        "--seconds",
        "2",
        "--connect-rate",
        "80",
    ])
    .await;
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "80 connected, 0 refused",
        "120 connected, 0 refused",
        "handshakes    120: p50 ",
        "frames        80: p50 ",
        "0 lost, 0 more than once",
        "to the last of 120 frames, 0 lost",
        r#""success":120"#,
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    // It closed every connection.
    let closed = ["[Disconnect]", "\"event\":\"connection.ended\"", "1000"];
    stack.logs.wait_for_count(120, &closed).await;
    assert_eq!(stack.rows().await, 0);
}

#[tokio::test]
async fn it_waits_until_another_broadcast_to_all_is_allowed() {
    let stack = StackBuilder::default()
        .parameter("BroadcastAllIntervalSeconds", "10")
        .start()
        .await;
    let request = json!({
        "target": {"type": "all"},
        "message": {"type": "notification", "data": {"kind": "x"}},
    });
    stack.broadcast(&request).await.expect("the first");
    let token = stack.token("alice").await;
    let (code, said) = loadtest_with(&stack, &[token], "1").await;
    assert_eq!(code, Some(0), "{said}");
    let notice = " s: the last one to all was too recent";
    assert!(said.contains(notice), "{said}");
    assert!(said.contains("to the last of 1 frames, 0 lost"), "{said}");
}

/// Runs it for a second with a file of these tokens.
async fn loadtest_with(
    stack: &Stack,
    tokens: &[String],
    connections: &str,
) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), tokens.join("\n")).expect("written");
    let (url, file) = (&stack.ready.websocket, file.path().to_str());
    let target = ["--url", url, "--tokens", file.expect("a path")];
    let load = [
        "--connections",
        connections,
        "--rate",
        "5",
        "--seconds",
        "1",
    ];
    loadtest(&[target.as_slice(), &load].concat()).await
}

#[tokio::test]
async fn tokens_come_from_a_file_and_refusals_are_reported() {
    let stack = Stack::builder().start().await;
    let expired = json!({"user": "bob", "ttl": -60});
    let expired = stack.token_with(expired).await;
    let tokens = [stack.token("alice").await, String::new(), expired.clone()];
    let (code, said) = loadtest_with(&stack, &tokens, "4").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("refused       2 with HTTP 401"), "{said}");
    // Both of Alice's connections were accepted.
    assert!(said.contains("frames        "), "{said}");
    assert!(!said.contains(&expired), "a token was printed");
}

#[tokio::test]
async fn connections_are_spread_evenly_over_the_tokens() {
    let stack = Stack::builder()
        .parameter("MaxConnectionsPerUser", "2")
        .start()
        .await;
    let mut tokens = Vec::new();
    // More than the users that have a single connection without a file.
    for number in 0..110 {
        tokens.push(stack.token(&format!("user-{number}")).await);
    }
    let (code, said) = loadtest_with(&stack, &tokens, "220").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("220 connected, 0 refused"), "{said}");
}

#[tokio::test]
async fn it_says_what_is_missing() {
    let numbers = ["--connections", "1", "--rate", "1"];
    for (url, more, problem) in [
        (
            "wss://api.example.com/dev",
            [].as_slice(),
            "TOKENS is missing",
        ),
        (
            "ws://127.0.0.1:9/dev",
            &[],
            "no stack runs at http://127.0.0.1:9 (`make run` starts one)",
        ),
        (
            "wss://api.example.com/dev",
            &["--tokens", "/missing"],
            "/missing: No such file",
        ),
        (
            "ws://127.0.0.1:9/dev",
            &["--seconds", "0"],
            "every number must be at least 1",
        ),
    ] {
        let arguments = [&["--url", url], &numbers[..], more].concat();
        let (code, said) = loadtest(&arguments).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(problem), "no {problem:?} in:\n{said}");
    }
    let (code, said) = loadtest(&[
        "--url",
        "ws://127.0.0.1:9/dev",
        "--connections",
        "1000000",
        "--rate",
        "1",
    ])
    .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("run several, on several machines"), "{said}");
}
