//! If a stack cannot start, its message says why and what to do.

use std::process::Output;

use belfry_tests::{Stack, StackBuilder, binaries, ended, http, open, repository};

async fn fails(builder: StackBuilder) -> String {
    let Output { status, stderr, .. } = ended(&mut builder.command()).await;
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// The repository's template with one text replaced.
pub(crate) fn template(find: &str, replace: &str) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(repository().join("template.yaml")).unwrap();
    assert!(text.contains(find));
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), text.replacen(find, replace, 1)).unwrap();
    file
}

#[tokio::test]
async fn an_unknown_intrinsic_is_named_with_resource_and_property() {
    let file = template("!Ref Connections", "!ImportValue Connections");
    let said = fails(Stack::builder().template(file.path())).await;
    let expected = "Globals.Function.Environment.Variables.WEBSOCKET_CONNECTION_TABLE: unknown intrinsic !ImportValue";
    assert!(said.contains(expected), "{said}");
}

#[tokio::test]
async fn a_missing_function_is_named_with_resource_and_property() {
    let file = template("!GetAtt Default.Arn", "!GetAtt Defaults.Arn");
    let said = fails(Stack::builder().template(file.path())).await;
    assert!(
        said.contains("Api.Properties.Routes.$default.FunctionArn: no resource Defaults"),
        "{said}"
    );
}

#[tokio::test]
async fn an_unknown_property_is_an_error() {
    let file = template(
        "      Description: Forgets",
        "      AutoPublishAlias: live\n      Description: Forgets",
    );
    let said = fails(Stack::builder().template(file.path())).await;
    assert!(
        said.contains(
            "Disconnect.Properties.AutoPublishAlias: is not supported by the local stack"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let said = fails(Stack::builder().parameter("TokenUse", "refresh")).await;
    assert!(
        said.contains("Parameters.TokenUse: must be one of access, id, any"),
        "{said}"
    );
    let said = fails(Stack::builder().parameter("MaxConnection", "100")).await;
    assert!(
        said.contains(
            "Parameters.MaxConnection: the template has no such parameter; did you mean MaxConnections"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn an_origin_that_no_browser_sends_is_named_with_what_to_write() {
    for (list, expected) in [
        (
            "https://app.example.com, localhost:5173",
            "\"localhost:5173\": write http://localhost:5173",
        ),
        ("https://u@h", "\"https://u@h\": write https://h"),
        ("https://a:99999", "\"https://a:99999\": the port must be"),
        (
            "https://256.256.256.256",
            "\"https://256.256.256.256\": write the",
        ),
    ] {
        let said = fails(Stack::builder().parameter("AllowedOrigins", list)).await;
        let expected = format!("Parameters.AllowedOrigins: no browser sends the origin {expected}");
        assert!(said.contains(&expected), "{said}");
    }
}

#[tokio::test]
async fn a_missing_file_or_binary_says_what_to_do() {
    let said = fails(Stack::builder().template("/nowhere/template.yaml".as_ref())).await;
    assert!(said.contains("--template"), "{said}");
    let file = template("Binary: connect", "Binary: konnect");
    let said = fails(Stack::builder().template(file.path())).await;
    assert!(
        said.contains("konnect for function Connect") && said.contains("cargo build"),
        "{said}"
    );
    let built = "    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: connect\n    Properties:\n";
    let file = template(built, "    Properties:\n      CodeUri: functions/konnect\n");
    let said = fails(Stack::builder().template(file.path())).await;
    let program = file.path().with_file_name("functions/konnect/bootstrap");
    assert!(
        said.contains(&format!("{} for function Connect", program.display()))
            && said.contains("CodeUri"),
        "{said}"
    );
}

#[tokio::test]
async fn reserving_more_than_the_concurrency_says_what_to_do() {
    let builder = Stack::misbehaving().parameter("Reserved", "5");
    let said = fails(builder.argument("--concurrency").argument("4")).await;
    assert!(
        said.contains("reserve 5 of a concurrency of 4") && said.contains("--concurrency"),
        "{said}"
    );
}

#[tokio::test]
async fn a_port_in_use_says_what_to_do() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = tokio::process::Command::new(binaries().join("belfry"));
    command
        .args(["run", "--dynamodb-port", "0", "--port", &port, "--template"])
        .arg(repository().join("template.yaml"));
    let output = ended(&mut command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("--port"),
        "{said}"
    );
}

#[tokio::test]
async fn an_idle_stack_is_silent_unless_it_is_verbose() {
    let sweeping = || Stack::builder().argument("--schedule-every").argument("1s");
    let swept = "\"event\":\"sweep.completed\"";
    let stack = sweeping().start().await;
    // The metrics of two sweeps are there.
    stack.logs.wait_for_count(2, &["SweepDuration"]).await;
    let log = stack.logs.text();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| !line.contains("\"_aws\""))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("the local stack does not emulate AWS::"),
        "{log}"
    );

    let stack = sweeping().argument("--verbose").start().await;
    stack
        .logs
        .wait_for(&["ignoring BroadcasterLogs, ConnectLogs"])
        .await;
    stack.logs.wait_for(&["[Sweeper]", swept]).await;
}

#[tokio::test]
async fn resources_without_a_local_meaning_are_listed_once() {
    let file = template(
        "Outputs:",
        "  Topic:\n    Type: AWS::SNS::Topic\n\nOutputs:",
    );
    let stack = Stack::builder().template(file.path()).start().await;
    let emulated = ["does not emulate", "AWS::SNS::Topic"];
    assert_eq!(stack.logs.wait_for_count(1, &emulated).await, 1);
}

#[tokio::test]
async fn localhost_is_either_loopback_address() {
    let stack = Stack::start().await;
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        if host == "[::1]" && !has_ipv6 {
            continue;
        }
        for url in [&stack.ready.lambda, &stack.ready.dynamodb] {
            let url = url.replace("127.0.0.1", host);
            let response = http().get(&url).send().await;
            assert!(response.is_ok(), "{url}: {response:?}");
        }
        let token = stack.token("alice").await;
        let url = stack.ready.websocket.replace("127.0.0.1", host);
        let mut socket = open(&format!("{url}?token={token}"), &[]).await;
        let hello = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
        assert_eq!(hello["data"]["userId"], "alice");
    }
}

#[tokio::test]
async fn the_host_flag_chooses_one_address() {
    for (host, other) in [("127.0.0.1", "[::1]"), ("::1", "127.0.0.1")] {
        if std::net::TcpListener::bind((host, 0)).is_err() {
            // This machine has no IPv6.
            continue;
        }
        let builder = Stack::builder().argument("--host").argument(host);
        let stack = builder.start().await;
        stack.connect("alice").await.close().await;
        let url = reqwest::Url::parse(&stack.ready.lambda).unwrap();
        let elsewhere = format!("http://{other}:{}", url.port().unwrap());
        assert!(http().get(elsewhere).send().await.unwrap_err().is_connect());
    }
}
