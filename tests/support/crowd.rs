//! Many clients at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::announcer::Announcer;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long anything that a crowd waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after the last frame was sent an answer still counts.
const GRACE: Duration = Duration::from_secs(10);

/// How a server's ping begins.
const PING: &str = r#"{"type":"ping""#;

/// The number in what is sent to everyone: more than anything is counted.
const TO_ALL: usize = 999_999_999;

/// The library's buffer for each client, in bytes.
const BUFFER_BYTES: usize = 1_024;

/// How many users of a crowd have one connection alone: who is told things.
pub const SOLO: usize = 100;

/// How many connections the others have.
const TABS: usize = 10;

/// How many users a crowd of so many clients has.
#[must_use]
pub fn users_for(clients: usize) -> usize {
    let others = clients.saturating_sub(SOLO).div_ceil(TABS);
    clients.min(SOLO) + others
}

/// Whose a client is, where there are so many users.
#[must_use]
pub fn user_of(client: usize, users: usize) -> usize {
    match client {
        _ if users <= SOLO => client % users,
        0..SOLO => client,
        _ => SOLO + (client - SOLO) % (users - SOLO),
    }
}

/// What gets a client in.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Where to.
    pub url: Arc<str>,
    /// The value of the header `Authorization`.
    pub authorization: Option<Arc<str>>,
    /// Who the client is.
    pub user: Arc<str>,
}

/// A text that reached a client.
struct Arrival {
    at: Instant,
    /// The `number` in it, where there is one.
    number: Option<usize>,
}

/// Open connections of many users.
pub struct Crowd {
    members: Vec<Member>,
    arrivals: UnboundedReceiver<Arrival>,
    arrived: UnboundedSender<Arrival>,
    /// How long each handshake took that succeeded.
    pub handshakes: Vec<Duration>,
}

/// The way to the server, for the crowd and for a client's own answers.
type Sink = Arc<Mutex<SplitSink<Stream, Message>>>;

struct Member {
    user: Arc<str>,
    sink: Sink,
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
    /// How many frames did not come.
    pub lost: usize,
}

/// What became of many frames.
#[derive(Debug, Default)]
pub struct Answers {
    /// From when each was due to be sent until it arrived: where it had to
    /// wait to be sent, that counts.
    pub times: Vec<Duration>,
    /// How many did not come.
    pub lost: usize,
    /// How many came more than once.
    pub twice: usize,
}

impl Default for Crowd {
    fn default() -> Self {
        let (arrived, arrivals) = unbounded_channel();
        Self {
            members: Vec::new(),
            arrivals,
            arrived,
            handshakes: Vec::new(),
        }
    }
}

impl Crowd {
    /// Lets more clients in, some at a time, and returns why others were not
    /// let in.
    ///
    /// # Panics
    /// If this process may not open so many files.
    pub async fn grow(&mut self, tickets: &[Ticket], at_a_time: usize) -> Vec<String> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("as many files as allowed");
        let places = Arc::new(Semaphore::new(at_a_time));
        let mut connecting = Vec::new();
        for ticket in tickets.iter().cloned() {
            let place = Arc::clone(&places).acquire_owned().await.expect("open");
            connecting.push(tokio::spawn(async move {
                let begun = Instant::now();
                let stream = open(&ticket).await;
                drop(place);
                (ticket.user, stream, begun.elapsed())
            }));
        }
        let mut refused = Vec::new();
        for connected in connecting {
            let (user, stream, took) = connected.await.expect("connected");
            let (sink, stream) = match stream {
                Ok(stream) => stream.split(),
                Err(reason) => {
                    refused.push(reason);
                    continue;
                }
            };
            let sink = Arc::new(Mutex::new(sink));
            let listening = listen(stream, Arc::clone(&sink), self.arrived.clone());
            let listening = tokio::spawn(listening);
            self.members.push(Member {
                user,
                sink,
                listening,
            });
            self.handshakes.push(took);
        }
        refused
    }

    /// How many were let in and not dropped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many connections have ended without our doing.
    #[must_use]
    pub fn ended(&self) -> usize {
        let ended = self.members.iter();
        ended
            .filter(|member| member.listening.is_finished())
            .count()
    }

    /// Sends everyone a message and waits until everyone has it, or nobody
    /// gets it any more.
    ///
    /// # Errors
    /// What the announcer says is wrong.
    pub async fn broadcast(&mut self, announcer: &Announcer) -> Result<Broadcast, String> {
        let request = json!({
            "target": {"type": "all"},
            "message": {"type": "notification", "data": {"kind": "loadtest", "number": TO_ALL}},
        });
        let begun = Instant::now();
        let reported = async {
            let report = announcer.send_and_wait(&request).await;
            (report, begun.elapsed())
        };
        let arrived = async {
            let (mut last, mut missing) = (begun, self.members.len());
            while missing > 0 {
                match tokio::time::timeout(GRACE, self.arrivals.recv()).await {
                    Ok(Some(arrival)) if arrival.number == Some(TO_ALL) => {
                        last = arrival.at;
                        missing -= 1;
                    }
                    Ok(Some(_)) => {}
                    _ => break,
                }
            }
            (last - begun, missing)
        };
        let ((report, reported_after), (arrived_after, lost)) = tokio::join!(reported, arrived);
        Ok(Broadcast {
            report: report?,
            reported_after,
            arrived_after,
            lost,
        })
    }

    /// Sends so many `echo` frames evenly over a time, one client after the
    /// other. Every second it tells how many answers came.
    pub async fn echo(
        &mut self,
        count: usize,
        over: Duration,
        progress: impl FnMut(usize),
    ) -> Answers {
        let sinks: Vec<Sink> = self.members.iter().map(|m| Arc::clone(&m.sink)).collect();
        self.paced(count, over, progress, async |number| {
            let data = json!({"number": number, "text": "x".repeat(64)});
            let frame = json!({"type": "echo", "version": "1.0", "data": data});
            let mut sink = sinks[number % sinks.len()].lock().await;
            // What cannot be sent gets no answer, and counts as lost.
            let _ = sink.send(Message::text(frame.to_string())).await;
            1
        })
        .await
    }

    /// Has so many notifications sent evenly over a time, to the users of the
    /// first `first` clients in turn. Every second it tells how many came.
    pub async fn notify(
        &mut self,
        announcer: &Announcer,
        first: usize,
        count: usize,
        over: Duration,
        progress: impl FnMut(usize),
    ) -> Answers {
        let members = self.members.iter();
        let users: Vec<_> = members.map(|member| Arc::clone(&member.user)).collect();
        let sockets = |user: &Arc<str>| users.iter().filter(|other| *other == user).count();
        let told: Vec<_> = users[..first.min(users.len())]
            .iter()
            .map(|user| (Arc::clone(user), sockets(user)))
            .collect();
        self.paced(count, over, progress, async |number| {
            let (user, sockets) = told[number % told.len()].clone();
            let announcer = announcer.clone();
            tokio::spawn(async move {
                let request = json!({
                    "target": {"type": "user", "userId": *user},
                    "message": {"type": "notification", "data": {"kind": "loadtest", "number": number}},
                });
                // Who gets nothing is counted as lost; this says why.
                if let Err(reason) = announcer.send(&request).await {
                    eprintln!("a notification failed: {reason}");
                }
            });
            sockets
        })
        .await
    }

    /// Does something `count` times evenly over a time; each time as many
    /// frames are expected as it says.
    async fn paced(
        &mut self,
        count: usize,
        over: Duration,
        mut progress: impl FnMut(usize),
        mut act: impl AsyncFnMut(usize) -> usize,
    ) -> Answers {
        let between = over / u32::try_from(count).expect("not so many");
        let begun = Instant::now();
        // For each number when it was due, and how many frames are to come.
        let mut due: Vec<(Instant, usize)> = Vec::with_capacity(count);
        let mut expected = 0;
        let mut answers = Answers::default();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.tick().await;
        while due.len() < count || answers.times.len() < expected {
            let send_at = begun + between * u32::try_from(due.len()).expect("not so many");
            let over_at = begun + over + GRACE;
            tokio::select! {
                // What arrived comes first, so that sending never hides it.
                biased;
                Some(arrival) = self.arrivals.recv() => {
                    let Some((due, left)) = arrival.number.and_then(|number| due.get_mut(number)) else {
                        continue;
                    };
                    if *left == 0 {
                        answers.twice += 1;
                        continue;
                    }
                    *left -= 1;
                    answers.times.push(arrival.at.saturating_duration_since(*due));
                }
                () = tokio::time::sleep_until(send_at.into()), if due.len() < count => {
                    let frames = act(due.len()).await;
                    expected += frames;
                    due.push((send_at, frames));
                }
                () = tokio::time::sleep_until(over_at.into()), if due.len() == count => break,
                _ = seconds.tick() => progress(answers.times.len()),
            }
        }
        answers.lost = expected - answers.times.len();
        answers
    }

    /// Half of the clients vanish at once, without a word.
    pub fn drop_half(&mut self) {
        self.members.truncate(self.members.len() / 2);
    }

    /// Everyone says goodbye and waits until it is answered.
    pub async fn leave(&mut self) {
        for member in &mut self.members {
            let frame = CloseFrame {
                code: 1000.into(),
                reason: "".into(),
            };
            // Whoever has gone already need not say goodbye.
            let mut sink = member.sink.lock().await;
            let _ = sink.send(Message::Close(Some(frame))).await;
        }
        let goodbyes = self.members.iter_mut().map(|member| &mut member.listening);
        // Whoever is not answered has left all the same.
        let _ = tokio::time::timeout(GRACE, join_all(goodbyes)).await;
        self.members.clear();
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

/// Opens a connection, or says why there is none.
async fn open(ticket: &Ticket) -> Result<Stream, String> {
    let request = (*ticket.url).into_client_request();
    let mut request = request.map_err(|error| error.to_string())?;
    if let Some(authorization) = &ticket.authorization {
        let value = authorization.parse().map_err(|_| "the token is no text")?;
        request.headers_mut().insert("Authorization", value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0);
    let connecting = connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(PATIENCE, connecting).await {
        Err(_) => Err("no answer in time".into()),
        Ok(Ok((stream, _))) => Ok(stream),
        Ok(Err(Error::Http(response))) => Err(format!("HTTP {}", response.status())),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

async fn listen(
    mut stream: SplitStream<Stream>,
    sink: Sink,
    arrived: UnboundedSender<Arrival>,
) -> Option<u16> {
    loop {
        match stream.next().await? {
            // Belfry asks silent clients whether they are there.
            Ok(Message::Text(text)) if text.starts_with(PING) => {
                let pong = Message::text(r#"{"type":"pong","version":"1.0"}"#);
                let _ = sink.lock().await.send(pong).await;
            }
            Ok(Message::Text(text)) => {
                let arrival = Arrival {
                    at: Instant::now(),
                    number: number_in(&text),
                };
                // Nobody listens any more when a test has ended.
                let _ = arrived.send(arrival);
            }
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// The number that a frame carries. Found, not parsed: there are many frames.
fn number_in(frame: &str) -> Option<usize> {
    let (_, rest) = frame.split_once(r#""number":"#)?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}
