//! The API under test: a local stack of its own for each test, or the one that
//! `CONFORMANCE_URL` names.

use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use belfry_tests::{Socket, Stack, open};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The WebSocket URL of a deployment of tests/templates/misbehave.yaml.
const URL: &str = "CONFORMANCE_URL";

/// Its management API, where that is not the same URL with `https`.
const MANAGEMENT_URL: &str = "CONFORMANCE_MANAGEMENT_URL";

/// How long anything but a limit of the API may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The limits in time of the API under test.
pub(crate) struct Timers {
    pub(crate) idle: Duration,
    pub(crate) lifetime: Duration,
}

/// The timers of AWS, which no one can change there.
const AWS: Timers = Timers {
    idle: Duration::from_secs(600),
    lifetime: Duration::from_secs(7_200),
};

pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) management_url: String,
    pub(crate) management: Client,
    pub(crate) timers: Timers,
    /// Ends the stack when the test does.
    _stack: Option<Stack>,
}

/// The URL of the deployment under test, if it is one.
fn deployed() -> Option<String> {
    std::env::var(URL).ok().filter(|url| !url.is_empty())
}

impl Target {
    pub(crate) async fn start() -> Self {
        Self::with(AWS, &[]).await
    }

    /// With these timers, where they can be chosen.
    pub(crate) async fn with_timers(idle: &str, lifetime: &str) -> Self {
        let timers = Timers {
            idle: seconds(idle),
            lifetime: seconds(lifetime),
        };
        let arguments = ["--idle-timeout", idle, "--max-duration", lifetime];
        Self::with(timers, &arguments).await
    }

    /// With arguments of `belfry run`: nothing where the API is deployed.
    pub(crate) async fn only_local(arguments: &[&str]) -> Option<Self> {
        if deployed().is_some() {
            println!("skipped: can only be provoked on the local stack");
            return None;
        }
        Some(Self::with(AWS, arguments).await)
    }

    async fn with(timers: Timers, arguments: &[&str]) -> Self {
        if let Some(url) = deployed() {
            return Self::at(url).await;
        }
        let start =
            |builder: belfry_tests::StackBuilder, argument: &&str| builder.argument(argument);
        let builder = arguments.iter().fold(Stack::misbehaving(), start);
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

    /// The URL with a handshake's order for the function.
    pub(crate) fn told(&self, what: &str) -> String {
        format!("{}?do={}", self.url, what.replace(' ', "%20"))
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
        // The watcher itself must not fall silent.
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

    /// Posts to a connection; otherwise the status.
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

/// The id of a connection, as its own events have it.
pub(crate) async fn id(socket: &mut Socket) -> String {
    let event = socket.ask("event").await;
    let id = event["requestContext"]["connectionId"].as_str();
    id.expect("a connection id").to_owned()
}

/// Sees the events of the connections that it watches.
pub(crate) struct Watcher {
    id: String,
    events: UnboundedReceiver<Value>,
}

impl Watcher {
    /// The user agent of a connection that is to be watched.
    pub(crate) fn agent(&self) -> String {
        format!("watched-by:{}", self.id)
    }

    /// The next event of a type.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        self.event_within(PATIENCE, kind).await
    }

    /// The same, for what may take longer.
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
async fn a_deployed_api_is_spoken_to_over_tls() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/test", server.local_addr().unwrap());
    let client = tokio::spawn(async move { open(&url, &[]).await });
    let (mut stream, _) = server.accept().await.unwrap();
    let mut hello = [0; 2];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut hello)
        .await
        .unwrap();
    assert_eq!(hello, [0x16, 0x03], "a TLS handshake begins so");
    client.abort();
}
