//! The follower against a server that does what a test wants. Time stands still
//! unless everyone waits.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::*;
use crate::cli::{Cli, Command};
use crate::client::access::Access;

/// The server's end of the connection.
struct Server(WebSocketStream<TcpStream>);

impl Server {
    /// The next frame, which must have this type.
    async fn expect(&mut self, kind: &str) -> Value {
        let Some(Ok(Message::Text(text))) = self.0.next().await else {
            panic!("the client is gone");
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    async fn send(&mut self, frame: Value) {
        let message = Message::text(frame.to_string());
        self.0.send(message).await.unwrap();
    }

    async fn answer(&mut self, asked: &Value, kind: &str, data: Value) {
        let id = &asked["id"];
        let frame = json!({"type": kind, "version": "1.0", "data": data, "correlationId": id});
        self.send(frame).await;
    }

    /// Answers `hello`, with this channel.
    async fn welcome(&mut self, channel: Value) {
        let hello = self.expect("hello").await;
        let data = json!({"userId": "alice", "tokenExpiresAt": "soon", "subscribed": {"channels": [channel]}});
        self.answer(&hello, "welcome", data).await;
    }

    async fn message(&mut self, seq: u64) {
        self.send(message(seq)).await;
    }

    /// Waits for the end of the connection.
    async fn ended(&mut self) {
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

fn message(seq: u64) -> Value {
    json!({"type": "message", "channel": "demo:a", "position": {"epoch": "e", "seq": seq}, "data": seq})
}

fn at(seq: u64) -> Value {
    json!({"channel": "demo:a", "epoch": "e", "seq": seq})
}

fn history(newest: u64, messages: &[u64]) -> Value {
    let messages: Vec<_> = messages.iter().copied().map(message).collect();
    json!({"channel": "demo:a", "epoch": "e", "seq": newest, "recovered": true, "messages": messages, "more": false})
}

/// What a terminal would show.
#[derive(Clone, Default)]
struct Screen(Rc<RefCell<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

struct Outcome {
    end: End,
    /// The contents of the messages that were printed.
    contents: Vec<u64>,
    said: String,
    /// Where another run would go on.
    resume: Vec<Option<u64>>,
    lasted: Duration,
}

/// Follows `demo:a` at a server with this script.
async fn follow(flags: &[&str], script: impl AsyncFnOnce(&mut Server)) -> Outcome {
    let command = ["belfry", "subscribe", "demo:a", "--token", "t"];
    let cli = Cli::try_parse_from(command.iter().chain(flags)).unwrap();
    let Command::Subscribe(arguments) = cli.command else {
        panic!("another command");
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/dev", listener.local_addr().unwrap());
    let access = Access {
        url: url.parse().unwrap(),
        token: "t".into(),
    };
    let accepted = async {
        let (stream, _) = listener.accept().await.unwrap();
        // Else the second of two frames waits for an acknowledgement, in real time.
        stream.set_nodelay(true).unwrap();
        accept_async(stream).await.unwrap()
    };
    let (stream, socket) = tokio::join!(accepted, ClientSocket::open(&access));
    tokio::time::pause();
    let started = Instant::now();
    let (out, err) = (Screen::default(), Screen::default());
    let terminal = Terminal::new(out.clone(), err.clone());
    let mut follower = Follower::new(&arguments, socket.unwrap(), terminal);
    let mut server = Server(stream);
    let end = {
        let serving = async {
            script(&mut server).await;
            server.ended().await;
            std::future::pending().await
        };
        tokio::select! {
            end = follower.run() => end,
            () = serving => unreachable!(),
        }
    };
    let printed = out.text();
    let frames = printed.lines().map(serde_json::from_str::<Value>);
    Outcome {
        end,
        contents: frames
            .filter_map(|frame| frame.unwrap()["data"].as_u64())
            .collect(),
        said: err.text(),
        resume: follower
            .channels
            .iter()
            .map(|channel| match &channel.resume {
                Some(Since::Position(position)) => Some(position.seq),
                Some(Since::Acked) | None => None,
            })
            .collect(),
        lasted: started.elapsed(),
    }
}

fn lost(end: End) -> String {
    match end {
        End::Lost(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_silent_connection_is_checked_and_given_up() {
    let outcome = follow(&[], async |server| {
        server.welcome(at(5)).await;
        let sync = server.expect("sync").await;
        let since = json!({"channel": "demo:a", "since": {"epoch": "e", "seq": 5}});
        assert_eq!(sync["data"], json!({"channels": [since]}));
    })
    .await;
    assert_eq!(lost(outcome.end), "the server has fallen silent");
    let expected = SILENCE + PROBE_TIMEOUT;
    assert!(outcome.lasted >= expected && outcome.lasted < expected + 3 * TICK);
    assert_eq!(outcome.resume, [Some(5)]);
}

#[tokio::test]
async fn a_check_finds_a_lost_last_message() {
    let outcome = follow(&["--count", "1"], async |server| {
        server.welcome(at(5)).await;
        let sync = server.expect("sync").await;
        let synced = json!({"channel": "demo:a", "subscribed": true, "missed": true});
        let data = json!({"channels": [synced]});
        server.answer(&sync, "synced", data).await;
        let asked = server.expect("history").await;
        assert_eq!(asked["data"]["after"]["seq"], 5);
        server.answer(&asked, "history", history(6, &[6])).await;
    })
    .await;
    assert_eq!(outcome.contents, [6]);
    assert!(matches!(outcome.end, End::Wanted(_)));
}

#[tokio::test]
async fn a_check_finds_a_subscription_that_has_ended() {
    let outcome = follow(&[], async |server| {
        server.welcome(at(5)).await;
        let sync = server.expect("sync").await;
        let data = json!({"channels": [{"channel": "demo:a", "subscribed": false}]});
        server.answer(&sync, "synced", data).await;
    })
    .await;
    assert!(matches!(outcome.end, End::Refused(_)));
    let said = "demo:a: the subscription has ended";
    assert!(outcome.said.contains(said), "{}", outcome.said);
}

#[tokio::test]
async fn what_is_missing_is_asked_for_until_it_comes() {
    let outcome = follow(&["--count", "4"], async |server| {
        server.welcome(at(5)).await;
        server.message(7).await;
        server.message(9).await;
        let asked = server.expect("history").await;
        assert_eq!(asked["data"]["after"]["seq"], 5);
        // It does not say which frame it refuses.
        let data = json!({"code": "RATE_LIMITED", "message": "m", "retryAfterMs": 5_000});
        server.send(json!({"type": "error", "data": data})).await;
        let asked = server.expect("history").await;
        let data = json!({"code": "INTERNAL", "message": "m"});
        server.answer(&asked, "error", data).await;
        // This answer is lost.
        server.expect("history").await;
        let asked = server.expect("history").await;
        assert_eq!(asked["data"]["after"]["seq"], 5);
        server
            .answer(&asked, "history", history(9, &[6, 7, 8]))
            .await;
    })
    .await;
    assert_eq!(outcome.contents, [6, 7, 8, 9]);
    assert_eq!(outcome.resume, [Some(9)]);
    let expected = 2 * GAP_TIMEOUT + Duration::from_secs(5) + ANSWER_TIMEOUT;
    let lasted = outcome.lasted;
    assert!(
        lasted >= expected && lasted < expected + 8 * TICK,
        "{lasted:?}"
    );
}

#[tokio::test]
async fn a_message_that_comes_late_needs_no_history() {
    let outcome = follow(&["--count", "3"], async |server| {
        server.welcome(at(5)).await;
        server.message(7).await;
        tokio::time::sleep(GAP_TIMEOUT / 2).await;
        server.message(6).await;
        // A gap of its own, with two seconds of its own.
        server.message(9).await;
        server.message(8).await;
    })
    .await;
    assert_eq!(outcome.contents, [6, 7, 8]);
    assert!(outcome.lasted < GAP_TIMEOUT);
    // The message that came, but was not printed, comes again.
    assert_eq!(outcome.resume, [Some(8)]);
}

#[tokio::test]
async fn a_history_that_is_forbidden_ends_it() {
    let outcome = follow(&[], async |server| {
        server.welcome(at(5)).await;
        server.message(7).await;
        let asked = server.expect("history").await;
        let data = json!({"code": "FORBIDDEN", "message": "no"});
        server.answer(&asked, "error", data).await;
    })
    .await;
    let End::Refused(reason) = outcome.end else {
        panic!("{:?}", outcome.end);
    };
    assert!(reason.starts_with("demo:a: FORBIDDEN: no\n"), "{reason}");
}

#[tokio::test]
async fn a_ping_is_answered_and_a_subscription_that_ends_is_told() {
    let outcome = follow(&[], async |server| {
        server.welcome(at(5)).await;
        server.send(json!({"type": "ping", "version": "1.0"})).await;
        server.expect("pong").await;
        let deadline = json!({"deadline": "2026-01-01T00:00:00Z"});
        server
            .send(json!({"type": "reconnect", "data": deadline}))
            .await;
        server.send(json!({"type": "unheard.of", "data": 7})).await;
        let data = json!({"channels": ["demo:a"], "reason": "FORBIDDEN"});
        server
            .send(json!({"type": "unsubscribed", "data": data}))
            .await;
    })
    .await;
    assert!(matches!(outcome.end, End::Refused(_)));
    assert_eq!(outcome.contents, [7]);
    for said in ["ends at 2026-01-01T00:00:00Z", "has ended: FORBIDDEN"] {
        assert!(outcome.said.contains(said), "{}", outcome.said);
    }
}

#[tokio::test]
async fn an_unanswered_hello_is_given_up() {
    let outcome = follow(&[], async |server| {
        server.expect("hello").await;
        server.message(1).await;
    })
    .await;
    assert_eq!(lost(outcome.end), "no answer within 30 seconds");
    assert!(outcome.contents.is_empty());
    assert_eq!(outcome.resume, [None]);
}

#[tokio::test]
async fn an_error_before_the_welcome_is_a_refusal() {
    let outcome = follow(&[], async |server| {
        server.expect("hello").await;
        let error = json!({"message": "Internal server error", "connectionId": "x"});
        server.send(error).await;
    })
    .await;
    let End::Refused(reason) = outcome.end else {
        panic!("{:?}", outcome.end);
    };
    assert_eq!(reason, "API Gateway: Internal server error");
}

/// Follows from what was acknowledged, with this first answer.
async fn from_acked(answer: Value, contents: &[u64], said: &str) {
    let outcome = follow(&["--since", "acked"], async |server| {
        let hello = server.expect("hello").await;
        let wanted = json!([{"channel": "demo:a", "since": "acked"}]);
        assert_eq!(hello["data"]["subscribe"]["channels"], wanted);
        let data = json!({"userId": "alice", "tokenExpiresAt": "soon", "subscribed": {"channels": [answer]}});
        server.answer(&hello, "welcome", data).await;
        server.message(6).await;
        let sync = server.expect("sync").await;
        let since = json!({"epoch": "e", "seq": 6});
        assert_eq!(sync["data"]["channels"][0]["since"], since);
    })
    .await;
    assert_eq!(outcome.contents, contents);
    assert!(outcome.said.contains(said), "{}", outcome.said);
    assert_eq!(outcome.resume, [Some(6)]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_first() {
    from_acked(history(5, &[4, 5]), &[4, 5, 6], "recovered, 2 missed").await;
}

#[tokio::test]
async fn all_may_be_acknowledged() {
    from_acked(history(5, &[]), &[6], "recovered, 0 missed").await;
}

#[tokio::test]
async fn nothing_may_be_acknowledged() {
    from_acked(at(5), &[6], "nothing is acknowledged; subscribed at e:5").await;
}
