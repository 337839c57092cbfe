//! The clients that Belfry's users have: wscat, Node's `ws`, and Python's
//! websocket-client.

use belfry_tests::{
    Logs, Stack, Terminal, binaries, http, node, node_text, python, repository, wscat_path,
};
use serde_json::json;
use tokio::process::Command;

const PING: &str = r#"{"type":"ping","version":"1.0"}"#;

#[tokio::test]
async fn the_printed_wscat_line_connects() {
    let mut stack = Command::new(binaries().join("belfry"))
        .args(["run", "--port", "0", "--dynamodb-port", "0", "--functions"])
        .arg(binaries())
        .current_dir(repository())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = Logs::of(stack.stdout.take().unwrap());
    let printed = output.wait_for(&["npx --yes wscat@", "--connect"]).await;
    let invoke = output.wait_for(&["invoke Broadcaster"]).await;
    let console = output.wait_for(&["Console"]).await;
    let address = console.trim().rsplit(' ').next().unwrap();
    let page = http().get(address).send().await.unwrap();
    assert_eq!(page.status(), 200, "{console}");

    // As printed, but with the wscat that is already installed.
    let line = printed.trim().split_once("--connect").unwrap().1;
    let mut wscat = Terminal::start(&format!("{} --connect {line}", wscat_path().display()));
    wscat.type_until(PING, &["\"type\":\"pong\""]).await;
    wscat
        .type_line(r#"{"type":"hello","version":"1.0","id":"h"}"#)
        .await;
    wscat
        .output
        .wait_for(&[
            "\"type\":\"welcome\"",
            "\"userId\":\"alice\"",
            "\"correlationId\":\"h\"",
        ])
        .await;
    wscat
        .type_line(r#"{"type":"echo","version":"1.0","data":{"a":1}}"#)
        .await;
    wscat
        .output
        .wait_for(&["\"type\":\"echo\"", "\"data\":{\"a\":1}"])
        .await;

    // Then the line for the other terminal.
    let broadcast = Terminal::start(invoke.trim());
    broadcast.output.wait_for(&["\"success\":1"]).await;
    wscat
        .output
        .wait_for(&["\"type\":\"notification\"", "x.png"])
        .await;

    // AWS's own example has a slash after the stage.
    let with_slash = line.replacen("?token=", "/?token=", 1);
    assert_ne!(with_slash, line);
    let wscat = wscat_path();
    let mut wscat = Terminal::start(&format!("{} --connect {with_slash}", wscat.display()));
    wscat.type_until(PING, &["\"type\":\"pong\""]).await;
}

#[test]
fn the_printed_wscat_is_the_one_that_is_tested() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let package: serde_json::Value =
        serde_json::from_str(&read("tests/node/package.json")).unwrap();
    let printed = format!(
        "wscat@{} ",
        package["dependencies"]["wscat"].as_str().unwrap()
    );
    assert!(
        read("crates/local/src/ready.rs").contains(&printed),
        "{printed}"
    );
    assert!(read("README.md").contains(&printed), "{printed}");
}

#[tokio::test]
async fn node_connects_with_a_token_from_each_source() {
    let stack = Stack::start().await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);
    let ask = async |url: &str, options: serde_json::Value| {
        node("connect.mjs", &[url, &options.to_string()]).await
    };

    let answer = ask(&format!("{url}?token={token}"), json!({"send": PING})).await;
    assert_eq!(
        (&answer["protocol"], &answer["message"]["type"]),
        (&json!(""), &json!("pong"))
    );

    let bearer = format!("Bearer {token}");
    let answer = ask(
        url,
        json!({"headers": {"Authorization": bearer}, "send": PING}),
    )
    .await;
    assert_eq!(answer["message"]["type"], "pong");

    let answer = ask(
        url,
        json!({"protocols": ["belfry.v1", format!("bearer.{token}")], "send": PING}),
    )
    .await;
    assert_eq!(
        (&answer["protocol"], &answer["message"]["type"]),
        (&json!("belfry.v1"), &json!("pong"))
    );

    let answer = ask(
        &format!("{url}?token={token}"),
        json!({"headers": {"Authorization": bearer}}),
    )
    .await;
    assert_eq!(answer, json!({"status": 400}));
    assert_eq!(ask(url, json!({})).await, json!({"status": 401}));
}

#[tokio::test]
async fn pythons_websocket_client_connects_although_it_sends_the_servers_origin() {
    let stack = Stack::start().await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);
    let by_name = url.replace("127.0.0.1", "localhost");
    let with_query = format!("{url}?token={token}");
    let headers = json!({"Authorization": format!("Bearer {token}")});
    let ask = async |url: &str, options: serde_json::Value| {
        python("connect.py", &[url, &options.to_string()]).await
    };
    for url in [url, &by_name] {
        let answer = ask(url, json!({"headers": headers, "send": PING})).await;
        assert_eq!(answer["message"]["type"], "pong", "{url}: {answer}");
    }
    let foreign = json!({"headers": headers, "origin": "https://evil.test"});
    for (url, options) in [(url, foreign), (&with_query, json!({}))] {
        assert_eq!(
            ask(url, options.clone()).await,
            json!({"status": 403}),
            "{options}"
        );
    }
}

#[tokio::test]
async fn the_readmes_rest_handler_works_as_it_stands() {
    let stack = Stack::start().await;
    let mut socket = stack.connect("alice").await;
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let program = readme
        .split("```js\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    // The variables that the README exports, with this stack's address.
    let mut environment: Vec<(&str, &str)> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ export "))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.split_once('='))
        .collect();
    assert_eq!(environment[0].0, "LAMBDA_ENDPOINT");
    environment.push(("LAMBDA_ENDPOINT", &stack.ready.lambda));
    let report = node_text(program, &environment).await;
    assert_eq!(report["success"], 1, "{report}");
    assert_eq!(socket.receive().await["data"]["file"], "x.png");

    // On AWS, the function and the user have other names.
    let mut socket = stack.connect("5e1c").await;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:Broadcaster";
    environment.extend([("BROADCASTER_FUNCTION", arn), ("USER_ID", "5e1c")]);
    let report = node_text(program, &environment).await;
    assert_eq!(report["success"], 1, "{report}");
    assert_eq!(socket.receive().await["data"]["file"], "x.png");
}
