//! The API under test: a local stack for each test, or the deployed API at
//! `CONFORMANCE_URL`.

use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use belfry_tests::{Socket, Stack, StackBuilder, open, soon};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The WebSocket URL of a deployment of tests/templates/misbehave.yaml.
const URL: &str = "CONFORMANCE_URL";

/// Its management API, if that is not the same URL with `https`.
const MANAGEMENT_URL: &str = "CONFORMANCE_MANAGEMENT_URL";

/// How long an event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time limits of the API under test.
pub(crate) struct Timers {
    pub(crate) idle: Duration,
    pub(crate) lifetime: Duration,
}

/// AWS's fixed time limits.
const AWS: Timers = Timers {
    idle: Duration::from_secs(600),
    lifetime: Duration::from_secs(7_200),
};

pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) management_url: String,
    pub(crate) management: Client,
    pub(crate) timers: Timers,
    /// Stops when the test ends.
    _stack: Option<Stack>,
}

/// The URL of the deployment under test, if there is one.
fn deployed() -> Option<String> {
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    assert_eq!(
        url.is_some(),
        cfg!(deployed),
        "{URL} has changed since this binary was built; run it with `cargo test`"
    );
    url
}

/// Fails if the API is deployed, for tests that were run although ignored.
pub(crate) fn expect_local() {
    assert_eq!(deployed(), None, "this row needs a local stack");
}

impl Target {
    pub(crate) async fn start() -> Self {
        Self::with(AWS, &[]).await
    }

    /// Like [`Self::start`], with these timers if they can be set.
    pub(crate) async fn with_timers(idle: &str, lifetime: &str) -> Self {
        let timers = Timers {
            idle: seconds(idle),
            lifetime: seconds(lifetime),
        };
        let arguments = ["--idle-timeout", idle, "--max-duration", lifetime];
        Self::with(timers, &arguments).await
    }

    /// A local stack with arguments of `belfry run`, for a row that cannot be
    /// checked against a deployed API. Its test has an `ignore` for those.
    pub(crate) async fn local(arguments: &[&str]) -> Self {
        expect_local();
        Self::with(AWS, arguments).await
    }

    async fn with(timers: Timers, arguments: &[&str]) -> Self {
        if let Some(url) = deployed() {
            return Self::at(url).await;
        }
        let add = |builder: StackBuilder, argument: &&str| builder.argument(argument);
        let builder = arguments.iter().fold(Stack::misbehaving(), add);
        let stack = builder.start().await;
        Self {
            url: stack.ready.websocket.clone(),
            management_url: stack.ready.management.clone(),
            management: stack.management(),
            timers,
            _stack: Some(stack),
        }
    }

    async fn at(url: String) -> Self {
        let management_url =
            std::env::var(MANAGEMENT_URL).unwrap_or_else(|_| url.replacen("wss://", "https://", 1));
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .endpoint_url(&management_url)
            .load()
            .await;
        Self {
            url,
            management_url,
            management: Client::new(&config),
            timers: AWS,
            _stack: None,
        }
    }

    /// The management client with another endpoint.
    pub(crate) fn management_at(&self, endpoint: &str) -> Client {
        let config = self.management.config().to_builder();
        Client::from_conf(config.endpoint_url(endpoint).build())
    }

    /// The URL of a handshake with an order for the function.
    pub(crate) fn url_with(&self, order: &str) -> String {
        format!("{}?do={}", self.url, order.replace(' ', "%20"))
    }

    pub(crate) async fn connect(&self) -> Socket {
        open(&self.url, &[]).await
    }

    /// A connection and its id.
    pub(crate) async fn connect_with_id(&self) -> (Socket, String) {
        let mut socket = self.connect().await;
        let id = id(&mut socket).await;
        (socket, id)
    }

    pub(crate) async fn watcher(&self) -> Watcher {
        let (mut socket, id) = self.connect_with_id().await;
        let (sender, events) = unbounded_channel();
        // The watcher itself must not become idle.
        let mut beats = tokio::time::interval(self.timers.idle / 4);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    text = socket.next_text() => match text {
                        Some(text) => {
                            let event = serde_json::from_str(&text).expect("an event");
                            if sender.send(event).is_err() {
                                return;
                            }
                        }
                        None => return,
                    },
                    _ = beats.tick() => socket.send("silent").await,
                }
            }
        });
        Watcher { id, events }
    }

    /// Posts to a connection, or returns the status that refused the post.
    pub(crate) async fn post(&self, id: &str, text: &str) -> Result<(), u16> {
        let post = self
            .management
            .post_to_connection()
            .connection_id(id)
            .data(Blob::new(text));
        match post.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.raw_response().expect("an answer").status().as_u16()),
        }
    }
}

fn seconds(text: &str) -> Duration {
    let seconds = text.strip_suffix('s').expect("seconds");
    Duration::from_secs(seconds.parse().expect("a number"))
}

/// A connection's id, from one of its own events.
pub(crate) async fn id(socket: &mut Socket) -> String {
    let event = socket.ask("event").await;
    let id = event["requestContext"]["connectionId"].as_str();
    id.expect("a connection id").to_owned()
}

/// Receives the events of the connections that it watches.
pub(crate) struct Watcher {
    id: String,
    events: UnboundedReceiver<Value>,
}

impl Watcher {
    /// The user agent that makes a connection watched.
    pub(crate) fn agent(&self) -> String {
        format!("watched-by:{}", self.id)
    }

    /// Waits for the next event of a type.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        self.event_within(PATIENCE, kind).await
    }

    /// Like [`Self::event`], with a limit of its own.
    pub(crate) async fn event_within(&mut self, limit: Duration, kind: &str) -> Value {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the watcher is connected");
                if event["requestContext"]["eventType"] == kind {
                    return event;
                }
            }
        };
        tokio::time::timeout(limit, next)
            .await
            .unwrap_or_else(|_| panic!("no event of type {kind}"))
    }
}

#[tokio::test]
async fn the_client_speaks_tls_to_a_deployed_api() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/test", server.local_addr().unwrap());
    let client = tokio::spawn(async move { open(&url, &[]).await });
    let mut hello = [0; 2];
    let hearing = async {
        let (mut stream, _) = server.accept().await.unwrap();
        stream.read_exact(&mut hello).await.unwrap();
    };
    soon("the client speaks", hearing).await;
    assert_eq!(hello, [0x16, 0x03], "not the beginning of a TLS handshake");
    client.abort();
}
