//! The console's API: what a page sees and does. tests/browser has the tests of
//! the page itself.

use std::collections::{BTreeMap, VecDeque};

use belfry_tests::{Stack, http, soon, until};
use reqwest::Response;
use serde_json::{Value, json};

/// An open console.
struct Console {
    response: Response,
    text: String,
    /// The last event's id.
    cursor: String,
    /// Everything that it has received.
    received: String,
    /// Records that no test has looked at.
    records: VecDeque<Value>,
    state: Value,
}

impl Console {
    async fn open(stack: &Stack, cursor: Option<&str>) -> Self {
        // Without a limit for the whole stream.
        let client = reqwest::Client::new();
        let mut request = client.get(format!("{}/_local/console/events", stack.ready.lambda));
        if let Some(cursor) = cursor {
            request = request.header("last-event-id", cursor);
        }
        let response = soon("the console opens", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut console = Self {
            response,
            text: String::new(),
            cursor: String::new(),
            received: String::new(),
            records: VecDeque::new(),
            state: Value::Null,
        };
        assert_eq!(console.next().await.0, "start");
        console
    }

    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let fields: BTreeMap<_, _> = block
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .collect();
                let event = fields.get("event").map(|name| {
                    let data = serde_json::from_str(fields["data"]).expect("JSON");
                    ((*name).to_owned(), data)
                });
                if let Some(id) = fields.get("id") {
                    (*id).clone_into(&mut self.cursor);
                }
                self.text = rest.to_owned();
                if let Some(event) = event {
                    return event;
                }
                continue;
            }
            let chunk = soon("the console gets an event", self.response.chunk()).await;
            let chunk = chunk.unwrap().expect("the stream goes on");
            let chunk = std::str::from_utf8(&chunk).unwrap();
            self.text.push_str(chunk);
            self.received.push_str(chunk);
        }
    }

    /// The next record that is wanted.
    async fn record(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            while let Some(record) = self.records.pop_front() {
                if wanted(&record) {
                    return record;
                }
            }
            self.take_next().await;
        }
    }

    /// The first state that is wanted, from now on.
    async fn state(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        while !wanted(&self.state) {
            self.take_next().await;
        }
        self.state.clone()
    }

    async fn take_next(&mut self) {
        let (name, mut data) = self.next().await;
        match name.as_str() {
            "state" => self.state = data,
            "records" => {
                let records = data["records"].take();
                let records: Vec<Value> = serde_json::from_value(records).unwrap();
                self.records.extend(records);
            }
            other => panic!("an event {other}"),
        }
    }
}

fn is_frame(record: &Value, direction: &str, text: &str) -> bool {
    record["event"] == "frame"
        && record["direction"] == direction
        && record["text"].as_str().is_some_and(|it| it.contains(text))
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_files() {
    let stack = Stack::start().await;
    let page = format!("{}/_local/", stack.ready.lambda);
    for path in [
        "",
        "console/main.js",
        "console/style.css",
        "console/icon.svg",
    ] {
        let response = http().get(format!("{page}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(directive), "{path}: {policy}");
        }
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
    }
    let response = http().get(page.trim_end_matches('/')).send().await.unwrap();
    assert_eq!(response.url().path(), "/_local/");
}

#[tokio::test]
async fn a_console_sees_connections_frames_and_invocations() {
    let stack = Stack::start().await;
    let mut console = Console::open(&stack, None).await;
    let mut alice = stack.connect("alice").await;
    let id = console.record(|it| it["event"] == "connected").await["connection"].clone();
    let subscribe = r#"{"type":"subscribe","version":"1.0","data":{"channels":[{"channel":"demo:room"},{"channel":"demo:log"}]}}"#;
    let subscribed = alice.ask(subscribe).await;
    let sent = console.record(|it| is_frame(it, "in", "subscribe")).await;
    assert_eq!(
        (&sent["connection"], sent["text"].as_str()),
        (&id, Some(subscribe))
    );
    assert_eq!(sent["bytes"], subscribe.len());

    let mut console = Console::open(&stack, None).await;
    let answer = console.record(|it| is_frame(it, "out", "subscribed")).await;
    let text: Value = serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
    assert_eq!(
        text, subscribed,
        "a second page sees what the first one does"
    );

    stack.broadcast(&json!({})).await.unwrap_err();
    let failed = console.record(|it| it["function"] == "Broadcaster").await;
    assert_eq!(failed["result"]["kind"], "failed");
    assert!(
        failed["result"]["error"]
            .as_str()
            .unwrap()
            .contains("missing field `target`")
    );
    assert!(
        failed["log"]
            .as_str()
            .unwrap()
            .contains("broadcast.refused")
    );
    assert!(!failed["log"].as_str().unwrap().contains("_aws"));

    let channels = json!(["demo:log", "demo:room"]);
    // The tables are read a moment later than the frames are counted.
    let state = console
        .state(|it| {
            let newest = &it["connections"]["newest"][0];
            newest["channels"] == channels && newest["sent"] == 1
        })
        .await;
    let connection = &state["connections"]["newest"][0];
    assert_eq!(connection["id"], id);
    assert_eq!(connection["userId"], "alice");
    assert_eq!(connection["received"], 1);
    let (_, listed) = stack.local("GET", "connections", None).await;
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["newest"][0]["userId"], "alice");

    alice.close().await;
    let end = console.record(|it| it["event"] == "disconnected").await;
    assert_eq!(end["connection"], id);
    console.state(|it| it["connections"]["total"] == 0).await;
}

#[tokio::test]
async fn a_console_sees_faults_and_dead_letters() {
    let stack = Stack::builder()
        .argument("--retry-delay")
        .argument("1ms")
        .start()
        .await;
    let mut console = Console::open(&stack, None).await;
    let fault = stack
        .fault(json!({"fault": "post-410", "share": 0.5}))
        .await;
    let state = console.state(|it| it["faults"][0].is_object()).await;
    assert_eq!(
        state["faults"],
        json!([{"fault": "post-410", "share": 0.5, "id": fault, "struck": 0}])
    );
    stack
        .invoke_later("Broadcaster", &json!({"token": "secret"}))
        .await;
    let state = console.state(|it| it["deadLetters"]["total"] == 1).await;
    let letter = &state["deadLetters"]["newest"][0];
    assert_eq!(letter["function"], "Broadcaster");
    assert_eq!(letter["attempts"], 3);
    assert_eq!(letter["request"], r#"{"token":"(token)"}"#);
}

#[tokio::test]
async fn no_token_reaches_a_console() {
    let stack = Stack::start().await;
    let mut console = Console::open(&stack, None).await;
    let mut alice = stack.connect("alice").await;
    let token = stack.token("alice").await;
    let refresh = json!({"type": "auth.refresh", "version": "1.0", "data": {"token": token}});
    alice.ask(&refresh.to_string()).await;
    // Escapes hide nothing, and neither does a frame that is no JSON.
    let hidden = refresh.to_string().replace("eyJ", "\\u0065yJ");
    alice.ask(&hidden).await;
    alice.ask(&format!("{{{token}")).await;
    let url = format!("{}?token={token}", stack.ready.websocket);
    drop(belfry_tests::open(&url, &[]).await);
    console.record(|it| it["event"] == "disconnected").await;
    let shown = console.received.matches("(token)").count();
    assert!(shown >= 3, "{}", console.received);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!console.received.contains(signature));
    assert!(!console.received.contains("eyJ"), "{}", console.received);
}

#[tokio::test]
async fn nothing_is_recorded_while_no_console_is_open() {
    let stack = Stack::start().await;
    let mut alice = stack.connect("alice").await;
    alice
        .ask(r#"{"type":"echo","version":"1.0","data":"before"}"#)
        .await;
    let mut console = Console::open(&stack, None).await;
    alice
        .ask(r#"{"type":"echo","version":"1.0","data":"during"}"#)
        .await;
    let first = console.record(|_| true).await;
    assert_eq!(first["number"], 1);
    assert!(is_frame(&first, "in", "during"), "{first}");
    console.record(|it| is_frame(it, "out", "during")).await;
    drop(console);
    // The stack learns of it a moment later.
    until("recording ends", async || {
        alice
            .ask(r#"{"type":"echo","version":"1.0","data":"after"}"#)
            .await;
        let mut console = Console::open(&stack, None).await;
        console.record(|it| it["number"] == 1).await;
        console.received.contains("\"event\":\"gap\"")
    })
    .await;
}

#[tokio::test]
async fn a_page_that_was_cut_off_goes_on_where_it_was() {
    let stack = Stack::start().await;
    let mut other = Console::open(&stack, None).await;
    let mut console = Console::open(&stack, None).await;
    let mut alice = stack.connect("alice").await;
    console.record(|it| it["event"] == "connected").await;
    let cursor = console.cursor.clone();
    drop(console);
    alice
        .ask(r#"{"type":"echo","version":"1.0","data":"meanwhile"}"#)
        .await;
    other.record(|it| is_frame(it, "out", "meanwhile")).await;
    let mut console = Console::open(&stack, Some(&cursor)).await;
    let (_, seen) = cursor.rsplit_once('.').unwrap();
    let next = console.record(|_| true).await;
    assert_eq!(next["number"], seen.parse::<u64>().unwrap() + 1);
    // A cursor of another run, or none, begins with the oldest.
    let (run, _) = cursor.rsplit_once('.').unwrap();
    let future = format!("{run}.{}", u64::MAX);
    for cursor in ["x.7", "nonsense", "", &future] {
        let mut console = Console::open(&stack, Some(cursor)).await;
        assert_eq!(console.record(|_| true).await["number"], 1);
    }
}

#[tokio::test]
async fn a_page_that_does_not_read_holds_nothing_back() {
    let stack = Stack::start().await;
    let mut slow = Console::open(&stack, None).await;
    let mut alice = stack.connect("alice").await;
    let id = slow.record(|it| it["event"] == "connected").await["connection"].clone();
    let url = format!(
        "{}/@connections/{}",
        stack.ready.management,
        id.as_str().unwrap()
    );
    // Far more than the buffers of a socket hold.
    let text = "x".repeat(4 * 1024);
    let client = http();
    for _ in 0..3_000 {
        let response = client.post(&url).body(text.clone()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        alice.receive_text().await;
    }
    let mut missed = 0;
    let mut last = 0;
    while last < 3_000 {
        let (name, data) = slow.next().await;
        if name == "records" {
            missed += data["missed"].as_u64().unwrap();
            let newest = data["records"].as_array().unwrap().last().unwrap();
            last = newest["number"].as_u64().unwrap();
        }
    }
    assert!(missed > 0, "the page kept up, which proves nothing");
    assert!(slow.received.len() < 12_000_000, "{}", slow.received.len());
}

#[tokio::test]
async fn the_stack_publishes_as_a_user() {
    let stack = Stack::start().await;
    let mut bob = stack.connect("bob").await;
    bob.ask(
        r#"{"type":"subscribe","version":"1.0","data":{"channels":[{"channel":"demo:room"}]}}"#,
    )
    .await;
    let publish = async |channel: &str| {
        let request =
            json!({"user": "alice", "channel": channel, "kind": "chat.line", "data": {"n": 1}});
        stack.local("POST", "publish", Some(&request)).await
    };
    let (status, answer) = publish("demo:room").await;
    assert_eq!(
        (status, &answer["type"]),
        (200, &json!("published")),
        "{answer}"
    );
    let message = bob.receive().await;
    assert_eq!(message["from"]["userId"], "alice");
    assert_eq!(
        message["data"],
        json!({"kind": "chat.line", "data": {"n": 1}})
    );
    let (status, answer) = publish("secret:room").await;
    assert_eq!(
        (status, &answer["data"]["code"]),
        (200, &json!("FORBIDDEN")),
        "{answer}"
    );
    for wrong in [
        json!({}),
        json!({"user": "alice", "channel": "c", "kind": "k", "data": 1, "x": 1}),
    ] {
        let (status, answer) = stack.local("POST", "publish", Some(&wrong)).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer["message"].is_string());
    }
}

#[tokio::test]
async fn a_foreign_page_cannot_watch() {
    let stack = Stack::start().await;
    for (name, value) in [
        ("host", "evil.example:3001"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let events = format!("{}/_local/console/events", stack.ready.lambda);
        let response = http().get(events).header(name, value).send().await.unwrap();
        assert_eq!(response.status(), 403, "{name}: {value}");
    }
}
