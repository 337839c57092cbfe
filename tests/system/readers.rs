//! HTTP readers: streams, polls and publishes, at the function's URL.

use std::process::Stdio;

use belfry_tests::{Logs, Socket, Stack, StackBuilder, http, repository, soon};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

const JOB: &str = "demo:job:7";

const ORIGIN: &str = "https://app.example.com";

fn with_reader() -> StackBuilder {
    Stack::talkative()
        .parameter("ReaderConcurrency", "50")
        .parameter("AllowedOrigins", ORIGIN)
}

fn request(stack: &Stack, method: Method, path: &str) -> RequestBuilder {
    let url = stack.ready.reader.as_deref().expect("a reader");
    http().request(method, format!("{url}{path}"))
}

async fn get(stack: &Stack, token: &str, path: &str) -> Response {
    let request = request(stack, Method::GET, path).bearer_auth(token);
    soon("the response begins", request.send()).await.unwrap()
}

async fn poll(stack: &Stack, token: &str, query: &str) -> Value {
    let response = get(stack, token, &format!("/messages?{query}")).await;
    assert_eq!(response.status(), 200);
    json_of(response).await
}

async fn json_of(response: Response) -> Value {
    let text = soon("the body arrives", response.text()).await.unwrap();
    serde_json::from_str(&text).expect("JSON")
}

async fn publish(stack: &Stack, token: &str, number: u64) -> Value {
    let message = json!({"channel": JOB, "kind": "job.progress", "data": number});
    let request = request(stack, Method::POST, "/messages")
        .bearer_auth(token)
        .body(message.to_string());
    let response = soon("the answer arrives", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    json_of(response).await
}

/// A stream of Server-Sent Events.
struct Events {
    response: Response,
    text: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    async fn open(stack: &Stack, token: &str, query: &str, last_id: Option<&str>) -> Self {
        let mut request =
            request(stack, Method::GET, &format!("/events?{query}")).bearer_auth(token);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = soon("the stream begins", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = block.lines();
                    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    found.map(str::to_owned)
                };
                let event = field("data").map(|data| Event {
                    name: field("event").expect("a name"),
                    id: field("id").expect("an id"),
                    data: serde_json::from_str(&data).expect("JSON"),
                });
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = soon("a chunk arrives", self.response.chunk())
                .await
                .unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The number of the next message.
    async fn number(&mut self) -> (u64, String) {
        let event = self.next().await.expect("an event");
        assert_eq!(event.name, "message");
        (event.data["data"]["data"].as_u64().unwrap(), event.id)
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_goes_on_where_it_was() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let query = format!("channel={JOB}");
    let mut events = Events::open(&stack, &token, &query, None).await;
    let subscribed = events.next().await.unwrap();
    assert_eq!(subscribed.name, "subscribed");
    assert_eq!(subscribed.data["data"]["channels"][0]["seq"], 0);
    let mut last_id = subscribed.id;
    let (mut published, mut seen) = (0, 0);
    // Each stream is cut after some events; the rest is lost with it.
    for (messages, taken) in [(3, 0), (2, 1), (0, 2), (4, 3), (1, 1)] {
        drop(events);
        for _ in 0..messages {
            published += 1;
            publish(&stack, &token, published).await;
        }
        events = Events::open(&stack, &token, &query, Some(&last_id)).await;
        let subscribed = events.next().await.unwrap();
        let state = &subscribed.data["data"]["channels"][0];
        assert_eq!(state["recovered"], true, "{state}");
        assert_eq!(subscribed.id, last_id);
        for _ in 0..taken {
            let (number, id) = events.number().await;
            seen += 1;
            assert_eq!(number, seen);
            last_id = id;
        }
    }
    while seen < published {
        seen += 1;
        assert_eq!(events.number().await.0, seen);
    }
    // Live, from a socket.
    let mut bob = stack.connect("bob").await;
    let data = json!({"channel": JOB, "kind": "job.progress", "data": seen + 1});
    bob.send(&json!({"type": "publish", "version": "1.0", "data": data}).to_string())
        .await;
    assert_eq!(events.number().await.0, seen + 1);
}

#[tokio::test]
async fn one_cursor_serves_sockets_streams_and_polls() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let mut socket = stack.connect("alice").await;
    let subscribe =
        json!({"type": "subscribe", "version": "1.0", "data": {"channels": [{"channel": JOB}]}});
    socket.ask(&subscribe.to_string()).await;
    publish(&stack, &token, 1).await;
    let position = socket.receive().await["position"].clone();
    let text = |position: &Value| {
        let epoch = position["epoch"].as_str().unwrap();
        format!("{epoch}.{}", position["seq"])
    };
    let cursor = text(&position);
    socket.close().await;
    publish(&stack, &token, 2).await;
    let query = format!("channel={JOB}&cursor={cursor}");
    let mut events = Events::open(&stack, &token, &query, None).await;
    events.next().await.unwrap();
    let (number, cursor) = events.number().await;
    assert_eq!(number, 2);
    drop(events);
    publish(&stack, &token, 3).await;
    let polled = poll(
        &stack,
        &token,
        &format!("channel={JOB}&cursor={cursor}&wait=20"),
    )
    .await;
    assert_eq!(polled["messages"].as_array().unwrap().len(), 1);
    assert_eq!(polled["messages"][0]["data"]["data"], 3);
    assert_eq!(polled["channels"][0]["recovered"], true);
    let cursor = polled["cursor"].as_str().unwrap();
    assert_eq!(cursor, text(&polled["messages"][0]["position"]));
    publish(&stack, &token, 4).await;
    let (epoch, seq) = cursor.rsplit_once('.').unwrap();
    let since = json!({"epoch": epoch, "seq": seq.parse::<u64>().unwrap()});
    let mut socket = stack.connect("alice").await;
    let answer = recover(&mut socket, &since).await;
    assert_eq!(answer["messages"][0]["data"]["data"], 4);
}

#[tokio::test]
async fn a_reader_begins_at_what_a_socket_has_acknowledged() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let first = publish(&stack, &token, 1).await;
    publish(&stack, &token, 2).await;
    let query = format!("channel={JOB}&cursor=acked");
    let nothing = poll(&stack, &token, &query).await;
    assert_eq!(nothing["messages"], json!([]));
    assert_eq!(nothing["channels"][0].get("recovered"), None, "{nothing}");
    let mut socket = stack.connect("alice").await;
    let position = &first["position"];
    let ack = json!({"channel": JOB, "epoch": position["epoch"], "seq": position["seq"]});
    let frame = json!({"type": "ack", "version": "1.0", "data": ack});
    assert_eq!(socket.ask(&frame.to_string()).await["type"], "acked");
    let polled = poll(&stack, &token, &query).await;
    assert_eq!(polled["messages"][0]["data"]["data"], 2);
    assert_eq!(polled["channels"][0]["recovered"], true);
    let mut events = Events::open(&stack, &token, &query, None).await;
    let subscribed = events.next().await.unwrap();
    assert_eq!(subscribed.data["data"]["userId"], "alice");
    assert_eq!(events.number().await.0, 2);
    // Without a channel, a poll says only whose token it has.
    let session = poll(&stack, &token, "").await;
    assert_eq!(session["userId"], "alice");
    assert_eq!(
        session["tokenExpiresAt"],
        subscribed.data["data"]["tokenExpiresAt"]
    );
}

async fn recover(socket: &mut Socket, since: &Value) -> Value {
    let channels = json!([{"channel": JOB, "since": since}]);
    let frame = json!({"type": "subscribe", "version": "1.0", "data": {"channels": channels}});
    socket.ask(&frame.to_string()).await["data"]["channels"][0].clone()
}

#[tokio::test]
async fn a_poll_waits_for_a_message() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let first = poll(&stack, &token, &format!("channel={JOB}")).await;
    assert_eq!(first["messages"], json!([]));
    let query = format!(
        "channel={JOB}&cursor={}&wait=25",
        first["cursor"].as_str().unwrap()
    );
    let (polled, _) = tokio::join!(poll(&stack, &token, &query), publish(&stack, &token, 1));
    assert_eq!(polled["messages"][0]["data"]["data"], 1);
}

#[tokio::test]
async fn a_loss_is_told_as_on_the_socket() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    publish(&stack, &token, 1).await;
    let polled = poll(&stack, &token, &format!("channel={JOB}&cursor=forged.1")).await;
    assert_eq!(polled["messages"], json!([]));
    assert_eq!(polled["channels"][0]["recovered"], false);
    assert_eq!(polled["channels"][0]["reason"], "epoch");
    let query = format!("channel={JOB}&cursor=forged.1");
    let mut events = Events::open(&stack, &token, &query, None).await;
    let told = events.next().await.unwrap();
    assert_eq!(told.data["data"]["channels"][0]["reason"], "epoch");
    publish(&stack, &token, 2).await;
    assert_eq!(events.number().await.0, 2, "it goes on with the newest");
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let expired = stack.token_with(json!({"user": "alice", "ttl": -60})).await;
    let many = vec![format!("channel={JOB}"); 51].join("&");
    for (token, path, status, code) in [
        ("", "/messages?channel=demo:a", 401, "UNAUTHORIZED"),
        ("nonsense", "/events?channel=demo:a", 401, "UNAUTHORIZED"),
        (
            expired.as_str(),
            "/events?channel=demo:a",
            401,
            "UNAUTHORIZED",
        ),
        (&token, "/events?channel=secret:a", 403, "FORBIDDEN"),
        (&token, "/events?channel=@me", 400, "INVALID_MESSAGE"),
        (&token, "/events?channel=@nobody", 400, "INVALID_MESSAGE"),
        (
            &token,
            "/messages?channel=demo:a&cursor=%00",
            400,
            "INVALID_MESSAGE",
        ),
        (
            &token,
            "/messages?channel=demo:a&wait=26",
            400,
            "INVALID_MESSAGE",
        ),
        (
            &token,
            "/messages?channel=demo:a&token=twice",
            400,
            "INVALID_MESSAGE",
        ),
        (&token, &format!("/events?{many}"), 400, "TOO_MANY_CHANNELS"),
        (&token, "/nothing", 404, "INVALID_MESSAGE"),
    ] {
        let response = get(&stack, token, path).await;
        let path = path.get(..40).unwrap_or(path);
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let frame = json_of(response).await;
        assert_eq!(frame["type"], "error", "{path}");
        assert_eq!(frame["data"]["code"], code, "{path}");
    }
    for (body, status) in [
        (json!({"channel": "secret:a", "kind": "x"}).to_string(), 403),
        (json!({"channel": "@all", "kind": "x"}).to_string(), 400),
        (
            json!({"channel": JOB, "kind": "x", "data": "x".repeat(20_000)}).to_string(),
            413,
        ),
        ("{".into(), 400),
    ] {
        let request = request(&stack, Method::POST, "/messages")
            .bearer_auth(&token)
            .body(body);
        let response = soon("the answer arrives", request.send()).await.unwrap();
        assert_eq!(response.status(), status);
    }
    // Neither tokens nor queries are in the logs.
    let logs = stack.logs.text();
    assert!(
        !logs.contains("twice") && !logs.contains(&token),
        "a secret in the log"
    );
}

#[tokio::test]
async fn only_allowed_pages_use_it() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let path = format!("/messages?channel={JOB}");
    let send = async |method: Method, origin: &str| {
        let request = request(&stack, method, &path).header("origin", origin);
        soon("the answer arrives", request.bearer_auth(&token).send())
            .await
            .unwrap()
    };
    let allow = "access-control-allow-origin";
    for method in [Method::GET, Method::OPTIONS] {
        let allowed = send(method.clone(), ORIGIN).await;
        assert_eq!(allowed.status(), 200);
        assert_eq!(allowed.headers()[allow], ORIGIN);
        assert_eq!(allowed.headers()["vary"], "Origin");
        let foreign = send(method, "https://evil.example").await;
        assert!(!foreign.headers().contains_key(allow));
    }
    assert_eq!(
        send(Method::GET, "https://evil.example").await.status(),
        403
    );
}

#[tokio::test]
async fn a_stream_ends_at_a_sign_out_and_with_its_token() {
    let stack = with_reader().start().await;
    let short = stack.token_with(json!({"user": "bob", "ttl": 3})).await;
    let query = format!("channel={JOB}");
    let mut bobs = Events::open(&stack, &short, &query, None).await;
    bobs.next().await.unwrap();
    let token = stack.token("alice").await;
    let mut alices = Events::open(&stack, &token, &query, None).await;
    alices.next().await.unwrap();
    let request = json!({"action": "signOut", "userId": "alice"});
    stack.invoke("Operator", &request).await.unwrap();
    for (events, code) in [(&mut bobs, "TOKEN_EXPIRED"), (&mut alices, "SIGNED_OUT")] {
        let told = events.next().await.unwrap();
        assert_eq!(told.name, "error");
        assert_eq!(told.data["data"]["code"], code);
        assert!(events.next().await.is_none());
    }
    let again = get(&stack, &token, &format!("/events?{query}")).await;
    assert_eq!(again.status(), 401);
    assert_eq!(json_of(again).await["data"]["code"], "SIGNED_OUT");
}

#[tokio::test]
async fn a_stream_ends_by_itself() {
    let stack = with_reader().parameter("StreamSeconds", "1").start().await;
    let token = stack.token("alice").await;
    let mut events = Events::open(&stack, &token, &format!("channel={JOB}"), None).await;
    assert_eq!(events.next().await.unwrap().name, "subscribed");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn what_a_reader_publishes_reaches_sockets_as_a_clients() {
    let stack = with_reader().start().await;
    let mut bob = stack.connect("bob").await;
    let subscribe =
        json!({"type": "subscribe", "version": "1.0", "data": {"channels": [{"channel": JOB}]}});
    bob.ask(&subscribe.to_string()).await;
    let token = stack.token("alice").await;
    let published = publish(&stack, &token, 1).await;
    let message = bob.receive().await;
    assert_eq!(message["type"], "message");
    assert_eq!(message["from"], json!({"userId": "alice"}));
    assert_eq!(message["position"], published["position"]);
    assert_eq!(message["id"], published["messageId"]);
}

#[tokio::test]
async fn a_function_that_is_killed_in_mid_stream_loses_nothing() {
    let stack = with_reader().start().await;
    let token = stack.token("alice").await;
    let query = format!("channel={JOB}");
    let mut events = Events::open(&stack, &token, &query, None).await;
    events.next().await.unwrap();
    publish(&stack, &token, 1).await;
    let (_, id) = events.number().await;
    stack.kill_functions("reader");
    let cut = soon("the stream is cut", async {
        while let Ok(Some(_)) = events.response.chunk().await {}
    });
    cut.await;
    publish(&stack, &token, 2).await;
    let mut events = Events::open(&stack, &token, &query, Some(&id)).await;
    events.next().await.unwrap();
    assert_eq!(events.number().await.0, 2);
}

#[tokio::test]
async fn the_examples_listener_follows_a_job_to_its_end() {
    let stack = with_reader().parameter("StreamSeconds", "2").start().await;
    let token = stack.token("alice").await;
    let mut listener = tokio::process::Command::new("python3")
        .arg(repository().join("examples/progress/listen.py"))
        .arg(JOB)
        .env("READER", stack.ready.reader.as_deref().unwrap())
        .env("TOKEN", &token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = Logs::of(listener.stdout.take().unwrap());
    stack.logs.wait_for(&["ReadersServed", "stream"]).await;
    let worker = stack.token("worker").await;
    for percent in [20, 60, 100] {
        let message = json!({"channel": JOB, "kind": "job.progress", "data": {"percent": percent}});
        let request = request(&stack, Method::POST, "/messages")
            .bearer_auth(&worker)
            .body(message.to_string());
        let sent = soon("the answer arrives", request.send()).await.unwrap();
        assert_eq!(sent.status(), 200);
        output.wait_for(&[&format!("{percent}%")]).await;
        // The next stream goes on where this one ends.
        let streams = stack.logs.lines_with("\"Type\":\"stream\"").len();
        if percent < 100 {
            stack
                .logs
                .wait_for_count(streams + 1, &["\"Type\":\"stream\""])
                .await;
        }
    }
    let ended = soon("the listener ends", listener.wait()).await.unwrap();
    assert!(ended.success());
    assert_eq!(
        output.text().lines().collect::<Vec<_>>(),
        ["20%", "60%", "100%"]
    );
}
