//! `belfry token`, `belfry invoke`, `belfry channels` and `belfry cost`.

use std::process::Output;

use belfry_tests::{Stack, binaries, ended, open, repository};
use serde_json::Value;
use tokio::process::Command;

async fn belfry(arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries().join("belfry"));
    ended(command.args(arguments).current_dir(repository())).await
}

#[tokio::test]
async fn a_token_opens_a_connection() {
    let stack = Stack::start().await;
    let endpoint = &format!("{}/", stack.ready.lambda);
    let arguments = [
        "token",
        "--user",
        "alice",
        "--ttl",
        "60",
        "--group",
        "staff",
        "--claim",
        "custom:a=b",
        "--endpoint",
        endpoint,
    ];
    let output = belfry(&arguments).await;
    assert!(output.status.success());
    let token = String::from_utf8(output.stdout).unwrap();
    let mut socket = open(
        &format!("{}?token={}", stack.ready.websocket, token.trim()),
        &[],
    )
    .await;
    assert_eq!(
        socket.ask(r#"{"type":"hello","version":"1.0"}"#).await["data"]["userId"],
        "alice"
    );
}

#[tokio::test]
async fn a_token_is_valid_for_a_day_at_most() {
    let stack = Stack::start().await;
    let issue = async |ttl: &str| {
        let endpoint = &stack.ready.lambda;
        belfry(&[
            "token",
            "--user",
            "alice",
            "--ttl",
            ttl,
            "--endpoint",
            endpoint,
        ])
        .await
    };
    let output = issue("86400").await;
    let token = String::from_utf8(output.stdout).unwrap();
    open(
        &format!("{}?token={}", stack.ready.websocket, token.trim()),
        &[],
    )
    .await;
    let output = issue("86401").await;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("400 Bad Request ttl must be at most 86400 seconds"),
        "{said}"
    );
}

#[tokio::test]
async fn an_event_file_invokes_a_function() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let endpoint = &stack.ready.lambda;
    let output = belfry(&[
        "invoke",
        "Broadcaster",
        "events/broadcast-to-user.json",
        "--endpoint",
        endpoint,
    ])
    .await;
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["success"], 1);
    assert_eq!(socket.receive().await["data"]["file"], "x.png");

    let output = belfry(&[
        "invoke",
        "Broadcaster",
        "events/broadcast-invalid.json",
        "--endpoint",
        endpoint,
    ])
    .await;
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["errorType"], "InvalidRequest");

    let output = belfry(&[
        "invoke",
        "Nobody",
        "events/broadcast-invalid.json",
        "--endpoint",
        endpoint,
    ])
    .await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("Function not found: ")
            && said.contains(":function:Nobody")
            && said.contains("Broadcaster"),
        "{said}"
    );
}

#[tokio::test]
async fn every_event_file_can_be_sent_to_its_function() {
    let stack = Stack::start().await;
    for entry in std::fs::read_dir(repository().join("events")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (function, expected) = match name.split_once('-').unwrap().0 {
            "connect" => ("Connect", "statusCode"),
            "disconnect" => ("Disconnect", "statusCode"),
            "message" => ("Default", "statusCode"),
            "broadcast" if name == "broadcast-invalid" => ("Broadcaster", "errorType"),
            "broadcast" => ("Broadcaster", "messageId"),
            "sweeper" => ("Sweeper", "complete"),
            "operator" if name == "operator-sign-out" => ("Operator", "closed"),
            "operator" => ("Operator", "messageId"),
            _ => panic!("{name} belongs to no function"),
        };
        let event = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (Ok(answer) | Err(answer)) = stack.invoke(function, &event).await;
        assert!(answer.get(expected).is_some(), "{name}: {answer}");
    }
}

#[tokio::test]
async fn without_a_stack_it_says_what_to_do() {
    let output = belfry(&[
        "token",
        "--user",
        "alice",
        "--endpoint",
        "http://127.0.0.1:9",
    ])
    .await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("make run") && said.contains("--endpoint"),
        "{said}"
    );
}

#[tokio::test]
async fn the_cost_of_a_month_is_printed_or_what_is_wrong_with_the_flags() {
    let page = std::fs::read_to_string(repository().join("docs/COSTS.md")).unwrap();
    let flags = ["--connections", "10000", "--messages-per-user", "20"];
    let printed = belfry(&[&["cost"], &flags[..]].concat()).await;
    assert!(printed.status.success(), "{printed:?}");
    let shown = format!("$ target/debug/belfry cost {}\n", flags.join(" "));
    let (_, shown) = page.split_once(&shown).unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), shown);

    let refused = belfry(&["cost"]).await;
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("give --connections"), "{said}");
}

#[tokio::test]
async fn channel_rules_are_checked_and_explained() {
    let valid = belfry(&["channels", "check", "channels.json"]).await;
    assert!(valid.status.success(), "{valid:?}");
    let said = String::from_utf8(valid.stdout).unwrap();
    assert_eq!(said, "channels.json: valid, 1 rule, 126 of 3,072 bytes\n");

    let channels = ["--channel", "demo:a", "--channel", "room:7"];
    let command = ["channels", "check", "channels.json", "--user", "alice"];
    let explained = belfry(&[&command[..], &channels].concat()).await;
    let said = String::from_utf8(explained.stdout).unwrap();
    assert_eq!(
        said,
        "demo:a: channels[0] (demo:**) allows subscribe, publish, presence, lock; history of 300 s\n\
         room:7: no rule: FORBIDDEN; no history\n"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("channels.json");
    let rules = r#"{"version":"1.0","channels":[{"match":"a:**","allow":["subscribe"],"autoSubscribe":true}]}"#;
    std::fs::write(&file, rules).unwrap();
    let refused = belfry(&["channels", "check", file.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    let expected = "channels[0] (a:**), autoSubscribe: needs a match without * and **";
    assert!(
        said.contains(expected) && said.contains("docs/CHANNELS.md"),
        "{said}"
    );

    let unknown = belfry(&[&command[..], &["--channel", "a b"]].concat()).await;
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        said.contains("--channel \"a b\": channel must be"),
        "{said}"
    );
}
