//! Many clients at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::stack::Stack;

/// How many of the clients are one user's.
const TABS: usize = 10;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long anything that a crowd waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The library's buffer for each client, in bytes.
const BUFFER_BYTES: usize = 1_024;

/// A client's place, and when a text reached it.
type Arrival = (usize, Instant);

/// Open connections of many users, ten of each.
pub struct Crowd {
    members: Vec<Member>,
    arrivals: UnboundedReceiver<Arrival>,
    arrived: UnboundedSender<Arrival>,
    /// How long each handshake took.
    pub handshakes: Vec<Duration>,
}

struct Member {
    sink: SplitSink<Stream, Message>,
    /// Ends with the code that the server closed with.
    listening: JoinHandle<Option<u16>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// What became of a broadcast.
#[derive(Debug)]
pub struct Broadcast {
    /// The broadcaster's own report.
    pub report: Value,
    /// From the call until the report.
    pub reported_after: Duration,
    /// From the call until the last client had its frame.
    pub arrived_after: Duration,
}

impl Crowd {
    /// Connects so many clients, some at a time.
    ///
    /// # Panics
    /// If one is refused.
    pub async fn connect(stack: &Stack, count: usize, at_a_time: usize) -> Self {
        let (arrived, arrivals) = unbounded_channel();
        let mut crowd = Self {
            members: Vec::new(),
            arrivals,
            arrived,
            handshakes: Vec::new(),
        };
        crowd.grow(stack, count, at_a_time).await;
        crowd
    }

    /// Connects more clients until there are so many.
    ///
    /// # Panics
    /// If one is refused.
    pub async fn grow(&mut self, stack: &Stack, count: usize, at_a_time: usize) {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("as many files as allowed");
        let places = Arc::new(Semaphore::new(at_a_time));
        let mut connecting = Vec::new();
        let mut bearer: Arc<str> = "".into();
        for number in self.members.len()..count {
            if bearer.is_empty() || number % TABS == 0 {
                let user = format!("crowd-{}", number / TABS);
                bearer = format!("Bearer {}", stack.token(&user).await).into();
            }
            let place = Arc::clone(&places).acquire_owned().await.expect("open");
            let (url, bearer) = (stack.ready.websocket.clone(), Arc::clone(&bearer));
            connecting.push(tokio::spawn(async move {
                let begun = Instant::now();
                let stream = open(&url, &bearer).await;
                drop(place);
                (stream, begun.elapsed())
            }));
        }
        for connected in connecting {
            let (stream, took) = connected.await.expect("connected");
            let (sink, stream) = stream.split();
            let listening = listen(stream, self.members.len(), self.arrived.clone());
            self.members.push(Member {
                sink,
                listening: tokio::spawn(listening),
            });
            self.handshakes.push(took);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sends everyone a message and waits until everyone has it.
    ///
    /// # Panics
    /// If someone does not get it.
    pub async fn broadcast(&mut self, stack: &Stack) -> Broadcast {
        let request = json!({
            "target": {"type": "all"},
            "message": {"type": "notification", "data": {"kind": "upload.completed", "file": "x.png"}},
        });
        let begun = Instant::now();
        let reported = async {
            let report = stack.broadcast(&request).await.expect("a report");
            (report, begun.elapsed())
        };
        let arrived = async {
            let mut last = begun;
            for _ in 0..self.members.len() {
                last = next(&mut self.arrivals).await.1;
            }
            last - begun
        };
        let ((report, reported_after), arrived_after) = tokio::join!(reported, arrived);
        Broadcast {
            report,
            reported_after,
            arrived_after,
        }
    }

    /// Sends so many `echo` frames evenly over a time, one client after the
    /// other, and returns how long each answer took. A frame that had to wait
    /// to be sent is timed from when it was due.
    ///
    /// # Panics
    /// If an answer does not come.
    pub async fn echo(&mut self, count: usize, over: Duration) -> Vec<Duration> {
        let frame = json!({"type": "echo", "version": "1.0", "data": {"text": "x".repeat(64)}});
        let frame = Message::text(frame.to_string());
        let between = over / u32::try_from(count).expect("not so many");
        let begun = Instant::now();
        // When each client's frame was due. Clients answer to one frame at a time.
        let mut due: Vec<Option<Instant>> = vec![None; self.members.len()];
        let mut times = Vec::with_capacity(count);
        let mut sent = 0;
        while times.len() < count {
            let send_at = begun + between * u32::try_from(sent).expect("not so many");
            tokio::select! {
                () = tokio::time::sleep_until(send_at.into()), if sent < count => {
                    let who = sent % self.members.len();
                    assert!(due[who].is_none(), "client {who} still waits for its last answer");
                    due[who] = Some(send_at);
                    self.members[who].sink.send(frame.clone()).await.expect("sent");
                    sent += 1;
                }
                (who, at) = next(&mut self.arrivals) => {
                    let due = due[who].take().expect("an answer to something");
                    times.push(at.saturating_duration_since(due));
                }
            }
        }
        times
    }

    /// Half of the clients vanish at once, without a word.
    pub fn drop_half(&mut self) {
        self.members.truncate(self.members.len() / 2);
    }

    /// Waits until the server has closed every connection, and returns the codes.
    ///
    /// # Panics
    /// If it ends one without a close.
    pub async fn closed(&mut self) -> Vec<u16> {
        let mut codes = Vec::new();
        for member in &mut self.members {
            let closed = tokio::time::timeout(PATIENCE, &mut member.listening).await;
            let code = closed.expect("closed in time").expect("it listens");
            codes.push(code.expect("closed with a code"));
        }
        codes
    }
}

async fn next(arrivals: &mut UnboundedReceiver<Arrival>) -> Arrival {
    let next = tokio::time::timeout(PATIENCE, arrivals.recv()).await;
    next.expect("something arrives").expect("the crowd lives")
}

async fn open(url: &str, bearer: &str) -> Stream {
    let mut request = url.into_client_request().expect("a URL");
    let bearer = bearer.parse().expect("a header");
    request.headers_mut().insert("Authorization", bearer);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0);
    let connecting = connect_async_with_config(request, Some(config), true);
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.expect("connected in time").expect("let in").0
}

async fn listen(
    mut stream: SplitStream<Stream>,
    place: usize,
    arrived: UnboundedSender<Arrival>,
) -> Option<u16> {
    loop {
        match stream.next().await? {
            Ok(Message::Text(_)) => {
                // Nobody listens any more when a test has ended.
                let _ = arrived.send((place, Instant::now()));
            }
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
