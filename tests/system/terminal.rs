//! `belfry subscribe` and `belfry publish`.

use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use belfry_tests::{Logs, Stack, binaries, ended, repository, soon};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const ROOM: &str = "demo:room:7";

fn belfry(arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("belfry"));
    command
        .args(arguments)
        .current_dir(repository())
        .env_remove("BELFRY_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The flags of a user at the stack.
fn as_user<'a>(stack: &'a Stack, user: &'a str) -> [&'a str; 4] {
    ["--user", user, "--endpoint", &stack.ready.lambda]
}

/// A running `belfry subscribe`.
struct Subscriber {
    process: Child,
    frames: Logs,
    said: Logs,
}

impl Subscriber {
    /// Starts as bob, and waits until he is subscribed.
    async fn start(stack: &Stack, arguments: &[&str]) -> Self {
        let flags = as_user(stack, "bob");
        let arguments = [&["subscribe"], arguments, &flags].concat();
        let mut process = belfry(&arguments).spawn().unwrap();
        let this = Self {
            frames: Logs::of(process.stdout.take().unwrap()),
            said: Logs::of(process.stderr.take().unwrap()),
            process,
        };
        this.said.wait_for(&["connected as bob"]).await;
        this.said.wait_for(&["demo:"]).await;
        this
    }

    /// The content of the messages so far.
    fn contents(&self) -> Vec<Value> {
        let text = self.frames.text();
        let frames = text.lines().map(|line| serde_json::from_str(line).unwrap());
        frames
            .map(|frame: Value| frame["data"]["data"].clone())
            .collect()
    }

    async fn ended(&mut self) -> ExitStatus {
        let status = soon("the command ends", self.process.wait()).await.unwrap();
        self.frames.ended().await;
        status
    }
}

async fn publish(stack: &Stack, text: &str, arguments: &[&str]) -> Output {
    let flags = as_user(stack, "alice");
    let command = ["publish", ROOM, "-", "--kind", "chat.line"];
    let mut process = belfry(&[&command[..], &flags, arguments].concat())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    soon("the command ends", process.wait_with_output())
        .await
        .unwrap()
}

fn frame(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_subscriber_prints_what_a_publisher_sends() {
    let stack = Stack::start().await;
    let mut bob = Subscriber::start(&stack, &[ROOM, "--count", "3"]).await;
    for n in 1..=2 {
        let published = frame(&publish(&stack, &format!("{{\"n\":{n}}}"), &[]).await);
        assert_eq!(published["type"], "published");
        assert_eq!(published["data"]["position"]["seq"], n);
    }
    bob.frames.wait_for(&["\"seq\":2"]).await;
    // Not kept, with an id of its own.
    let flags = ["--no-store", "--message-id", "third"];
    let published = frame(&publish(&stack, "null", &flags).await);
    assert_eq!(
        published["data"],
        json!({"channel": ROOM, "messageId": "third"})
    );
    assert!(bob.ended().await.success());
    assert_eq!(
        bob.contents(),
        [json!({"n": 1}), json!({"n": 2}), Value::Null]
    );
    bob.said.wait_for(&["--count", "3 messages"]).await;

    // The same id again publishes nothing.
    let mut bob = Subscriber::start(&stack, &[ROOM]).await;
    let flags = ["--message-id", "once"];
    let first = frame(&publish(&stack, "3", &flags).await);
    let second = frame(&publish(&stack, "3", &flags).await);
    assert_eq!(first["data"], second["data"]);
    frame(&publish(&stack, "4", &[]).await);
    bob.frames.wait_for(&["\"seq\":4"]).await;
    let pid = bob.process.id().and_then(|id| i32::try_from(id).ok());
    kill(Pid::from_raw(pid.unwrap()), Signal::SIGINT).unwrap();
    assert!(bob.ended().await.success());
    assert_eq!(bob.contents(), [3, 4]);
}

#[tokio::test]
async fn a_position_goes_on_where_another_run_ended() {
    let stack = Stack::talkative().start().await;
    let mut alice = stack.connect("alice").await;
    let mut seq = 0;
    let mut publish_up_to = async |last: u64| {
        while seq < last {
            seq += 1;
            let data = json!({"channel": ROOM, "kind": "k", "data": seq});
            let frame = json!({"type": "publish", "version": "1.0", "data": data});
            let answer = alice.ask(&frame.to_string()).await;
            assert_eq!(answer["data"]["position"]["seq"], seq, "{answer}");
        }
    };
    let mut bob = Subscriber::start(&stack, &[ROOM, "--count", "1"]).await;
    publish_up_to(1).await;
    assert!(bob.ended().await.success());
    let next = bob.said.wait_for(&["--since"]).await;
    let mut words = next.split_whitespace();
    let since = words.find(|word| *word == "--since").and(words.next());
    let since = since.unwrap().to_owned();
    assert!(since.ends_with(":1"), "{next}");

    // The answer to the subscription has not room for all of them.
    publish_up_to(250).await;
    let big = "x".repeat(8_000);
    for _ in 0..15 {
        frame(&publish(&stack, &json!(big).to_string(), &[]).await);
    }
    let arguments = [ROOM, "--since", &since, "--count", "264"];
    let mut bob = Subscriber::start(&stack, &arguments).await;
    assert!(bob.ended().await.success());
    bob.said.wait_for(&[ROOM, "more messages follow"]).await;
    let contents = bob.contents();
    let numbers: Vec<_> = (2..=250).map(Value::from).collect();
    assert_eq!(&contents[..249], &numbers[..]);
    assert!(contents[249..].iter().all(|content| *content == big));

    let unknown = [ROOM, "--since", "elsewhere:7"];
    let bob = Subscriber::start(&stack, &unknown).await;
    bob.said.wait_for(&[ROOM, "not recovered (epoch)"]).await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let stack = Stack::start().await;
    let flags = as_user(&stack, "alice");
    let subscribe = ["subscribe", ROOM, "secret:1", "--group", "staff"];
    let refused = ended(&mut belfry(&[&subscribe[..], &flags].concat())).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused);
    assert!(text.contains("secret:1: FORBIDDEN"), "{text}");
    let command = "channels check --channel secret:1 --user alice --group staff";
    assert!(text.contains(command), "{text}");

    let publish = ["publish", "secret:1", "channels.json", "--kind", "k"];
    let refused = ended(&mut belfry(&[&publish[..], &flags].concat())).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("secret:1: FORBIDDEN"));
    assert!(refused.stdout.is_empty());

    // Longer than a frame may be, so the stack does not read which one it is.
    let large = self::publish(&stack, &json!("x".repeat(90_000)).to_string(), &[]).await;
    assert_eq!(large.status.code(), Some(1));
    assert!(said(&large).contains("MESSAGE_TOO_LARGE"), "{large:?}");
    let broken = self::publish(&stack, "[1", &[]).await;
    assert_eq!(broken.status.code(), Some(1));
    assert!(said(&broken).contains("standard input is not JSON"));

    // A token's text is never repeated.
    let given = ["subscribe", ROOM, "--token", "wrong", flags[2], flags[3]];
    let refused = ended(&mut belfry(&given)).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused);
    assert!(text.contains("401") && !text.contains("wrong"), "{text}");
}

#[tokio::test]
async fn a_token_can_come_from_the_environment() {
    let stack = Stack::start().await;
    let arguments = ["subscribe", ROOM, "--url", &stack.ready.websocket];
    let arguments = [&arguments[..], &["--seconds", "1"]].concat();
    let token = stack.token("carol").await;
    let output = ended(belfry(&arguments).env("BELFRY_TOKEN", &token)).await;
    assert!(output.status.success(), "{output:?}");
    let text = said(&output);
    assert!(text.contains("connected as carol") && !text.contains(&token));
    let without = ended(&mut belfry(&arguments)).await;
    assert_eq!(without.status.code(), Some(2));
    assert!(said(&without).contains("BELFRY_TOKEN"));
}

/// Puts TLS before a stack, and returns the URL and the certificate.
async fn behind_tls(stack: &Stack) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["127.0.0.1".into()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/dev", listener.local_addr().unwrap());
    let stack = stack.ready.lambda.replace("http://", "");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, stack) = (acceptor.clone(), stack.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut stack = TcpStream::connect(stack).await?;
                copy_bidirectional(&mut client, &mut stack).await
            });
        }
    });
    (url, certificate.pem())
}

#[tokio::test]
async fn a_stack_elsewhere_is_reached_with_tls_alone() {
    let stack = Stack::start().await;
    let (url, certificate) = behind_tls(&stack).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let token = stack.token("carol").await;
    let arguments = ["publish", ROOM, "channels.json", "--kind", "k"];
    let arguments = [&arguments[..], &["--url", &url]].concat();
    let mut command = belfry(&arguments);
    command.env("BELFRY_TOKEN", &token);
    let untrusted = ended(&mut command).await;
    assert_eq!(untrusted.status.code(), Some(1));
    let text = said(&untrusted);
    assert!(text.contains("certificate"), "{text}");
    let trusted = ended(command.env("SSL_CERT_FILE", file.path())).await;
    assert_eq!(frame(&trusted)["type"], "published");
}

#[tokio::test]
async fn wrong_flags_are_found_before_anything_connects() {
    // Nothing listens there.
    let nowhere = ["--user", "alice", "--endpoint", "http://127.0.0.1:9"];
    let token = ["--token", "t"];
    for (arguments, flags, problem) in [
        (&["subscribe", "a b"][..], &nowhere[..], "channel must be"),
        (
            &["subscribe", "a", "b", "--since", "e:1"],
            &nowhere,
            "one channel",
        ),
        (&["subscribe", "a", "--since", "1"], &nowhere, "EPOCH:SEQ"),
        (
            &["publish", "@all", "-", "--kind", "k"],
            &nowhere,
            "channel must be",
        ),
        (&["publish", "a", "-"], &nowhere, "--kind"),
        (
            &["subscribe", "a", "--url", "ws://example.com/dev"],
            &token,
            "unencrypted",
        ),
        (
            &["subscribe", "a", "--endpoint", "http://example.com"],
            &token,
            "--endpoint: a token",
        ),
        (
            &["subscribe", "a", "--url", "wss://example.com/dev"],
            &nowhere,
            "--url",
        ),
    ] {
        let output = ended(&mut belfry(&[arguments, flags].concat())).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let text = said(&output);
        assert!(text.contains(problem), "{arguments:?}: {text}");
    }
    let output = ended(&mut belfry(&[&["subscribe", "a"], &nowhere[..]].concat())).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("make run"));
}

#[tokio::test]
async fn a_lost_connection_says_how_to_continue() {
    let mut stack = Stack::start().await;
    let mut bob = Subscriber::start(&stack, &[ROOM, "demo:other"]).await;
    frame(&publish(&stack, "1", &[]).await);
    let message = bob.frames.wait_for(&["\"seq\":1"]).await;
    let message: Value = serde_json::from_str(&message).unwrap();
    let epoch = message["position"]["epoch"].as_str().unwrap();
    stack.stop(Signal::SIGTERM, Duration::from_secs(20)).await;
    assert_eq!(bob.ended().await.code(), Some(1));
    bob.said.wait_for(&["closed the connection", "1001"]).await;
    let continuing = format!("subscribe {ROOM} --since {epoch}:1 --user bob --endpoint http");
    bob.said.wait_for(&[&continuing]).await;
    bob.said.wait_for(&["subscribe demo:other --since "]).await;
}

#[tokio::test]
async fn a_subscription_that_the_application_limits_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("channels.json");
    let text = r#"{"version":"1.0","channels":[{"match":"demo:**","allow":"ask","history":{"seconds":60}}]}"#;
    std::fs::write(&rules, text).unwrap();
    let briefly = folder.path().join("briefly.mjs");
    let text = r#"export const handler = async ({ userId }) => {
        console.log(`asked about ${userId}`);
        return { allow: ["subscribe", "publish"], seconds: 1 };
    };"#;
    std::fs::write(&briefly, text).unwrap();
    let stack = Stack::talkative()
        .argument("--channels")
        .argument(rules.to_str().unwrap())
        .argument("--function")
        .argument(&format!("AuthorizeFunction={}", briefly.display()))
        .start()
        .await;
    // A question does not wait long for the function's start.
    let nobody = json!({"userId": "nobody"});
    stack.invoke("AuthorizeFunction", &nobody).await.unwrap();
    let bob = Subscriber::start(&stack, &[ROOM]).await;
    for n in 1..=3 {
        stack.logs.wait_for_count(2 * n, &["asked about bob"]).await;
        frame(&publish(&stack, "1", &[]).await);
        bob.frames.wait_for(&[&format!("\"seq\":{n}")]).await;
    }
}

#[tokio::test]
async fn the_end_of_a_pipe_ends_a_subscriber() {
    let stack = Stack::start().await;
    let flags = as_user(&stack, "bob");
    let mut process = belfry(&[&["subscribe", ROOM], &flags[..]].concat())
        .spawn()
        .unwrap();
    let said = Logs::of(process.stderr.take().unwrap());
    drop(process.stdout.take());
    said.wait_for(&["demo:room:7: subscribed at"]).await;
    frame(&publish(&stack, "1", &[]).await);
    let status = soon("the command ends", process.wait()).await.unwrap();
    assert!(status.success(), "{}", said.text());
}

#[tokio::test]
async fn what_the_user_has_not_acknowledged_comes_first() {
    let stack = Stack::talkative().start().await;
    for n in 1..=3 {
        frame(&publish(&stack, &n.to_string(), &[]).await);
    }
    let arguments = [ROOM, "demo:other", "--since", "acked"];
    let bob = Subscriber::start(&stack, &arguments).await;
    bob.said
        .wait_for(&[ROOM, "nothing is acknowledged; subscribed at"])
        .await;
    let last = frame(&publish(&stack, "4", &[]).await);
    bob.frames.wait_for(&["\"seq\":4"]).await;
    assert_eq!(bob.contents(), [4]);
    // Bob reads the second message on another device.
    let mut phone = stack.connect("bob").await;
    let epoch = &last["data"]["position"]["epoch"];
    let data = json!({"channel": ROOM, "epoch": epoch, "seq": 2});
    let ack = json!({"type": "ack", "version": "1.0", "data": data});
    assert_eq!(phone.ask(&ack.to_string()).await["type"], "acked");
    let arguments = [ROOM, "--since", "acked", "--count", "2"];
    let mut bob = Subscriber::start(&stack, &arguments).await;
    assert!(bob.ended().await.success());
    bob.said.wait_for(&[ROOM, "recovered, 2 missed"]).await;
    assert_eq!(bob.contents(), [3, 4]);
}

#[tokio::test]
async fn a_call_prints_its_result_or_says_what_to_do() {
    let function = repository().join("examples/quote/local.mjs");
    let function = format!("CallFunction={}", function.display());
    let stack = Stack::builder().argument("--function").argument(&function);
    let stack = stack.start().await;
    let flags = as_user(&stack, "alice");
    let call = async |stack: &Stack, arguments: &[&str], data: &str| {
        let flags = as_user(stack, "alice");
        let mut process = belfry(&[&["call"], arguments, &flags].concat())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        // It may end without reading it.
        let _ = input.write_all(data.as_bytes()).await;
        drop(input);
        let ended = soon("the command ends", process.wait_with_output());
        ended.await.unwrap()
    };
    let result = frame(&call(&stack, &["quote.get", "-"], r#"{"id":"q-1"}"#).await);
    assert_eq!(result["type"], "result", "{result}");
    assert_eq!(result["data"]["quote"]["version"], 0, "{result}");
    let result = frame(&call(&stack, &["quote.get"], "").await);
    assert_eq!(result["data"]["reason"], "invalid", "without data");
    let wrong = call(&stack, &["quote.get", "-"], "{").await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).contains("standard input is not JSON"));
    let wrong = ended(&mut belfry(&[&["call", "no spaces"], &flags[..]].concat())).await;
    assert_eq!(wrong.status.code(), Some(2));

    let stack = Stack::start().await;
    let refused = call(&stack, &["quote.get"], "").await;
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused);
    assert!(text.contains("FORBIDDEN"), "{text}");
    assert!(text.contains("--function CallFunction=FILE"), "{text}");
}
