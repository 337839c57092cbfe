//! Many clients at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use futures_util::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::announcer::Announcer;
use crate::client::{Arrival, Sender, Ticket, listen, open};

/// How long a handshake or a close may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after the last frame was sent an answer still counts.
const GRACE: Duration = Duration::from_secs(10);

/// The number in a broadcast's frame: larger than the number of any other.
const TO_ALL: usize = 999_999_999;

/// Open connections of many users.
pub struct Crowd {
    members: Vec<Member>,
    arrivals: UnboundedReceiver<Arrival>,
    arrived: UnboundedSender<Arrival>,
    /// How long each successful handshake took.
    pub handshakes: Vec<Duration>,
}

struct Member {
    user: Arc<str>,
    sender: Sender,
    /// Ends with the code that the server closed with.
    listening: JoinHandle<Option<u16>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The outcome of a broadcast.
#[derive(Debug)]
pub struct Broadcast {
    pub report: Value,
    /// From the call until the report.
    pub reported_after: Duration,
    /// From the call until the last client had its frame.
    pub arrived_after: Duration,
    /// How many frames did not arrive.
    pub lost: usize,
}

/// The outcome of many frames.
#[derive(Debug, Default)]
pub struct Answers {
    /// From the moment each frame was due to be sent until it arrived. If it
    /// had to wait to be sent, the wait counts.
    pub times: Vec<Duration>,
    /// How many frames did not arrive.
    pub lost: usize,
    /// How many frames arrived more than once.
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
    /// Connects a client for each ticket, at most `at_a_time` at once, and
    /// returns the reason for each one that was refused.
    ///
    /// # Panics
    /// If this process cannot raise its limit of open files.
    pub async fn grow(&mut self, tickets: &[Ticket], at_a_time: usize) -> Vec<String> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("as many files as allowed");
        let permits = Arc::new(Semaphore::new(at_a_time));
        let mut connecting = Vec::new();
        for ticket in tickets.iter().cloned() {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("open");
            connecting.push(tokio::spawn(async move {
                let begun = Instant::now();
                let opened = open(&ticket, PATIENCE).await;
                drop(permit);
                (ticket.user, opened, begun.elapsed())
            }));
        }
        let mut refused = Vec::new();
        for connected in connecting {
            let (user, opened, took) = connected.await.expect("connected");
            let (sender, receiver) = match opened {
                Ok(opened) => opened,
                Err(reason) => {
                    refused.push(reason);
                    continue;
                }
            };
            let listening = listen(receiver, Arc::clone(&sender), self.arrived.clone());
            let listening = tokio::spawn(listening);
            self.members.push(Member {
                user,
                sender,
                listening,
            });
            self.handshakes.push(took);
        }
        refused
    }

    /// How many clients connected and were not dropped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many connections the other side has ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        let ended = self.members.iter();
        ended
            .filter(|member| member.listening.is_finished())
            .count()
    }

    /// Sends everyone a message. Returns once every client has its frame, or
    /// once no frame has arrived for a while.
    ///
    /// # Errors
    /// The announcer's message.
    pub async fn broadcast(&mut self, announcer: &Announcer) -> Result<Broadcast, String> {
        let request = json!({
            "target": {"type": "all"},
            "message": {"type": "notification", "data": {"kind": "loadtest", "number": TO_ALL}},
        });
        let begun = Instant::now();
        let reported = async {
            let report = announcer.send_and_wait(&request).await?;
            Ok::<_, String>((report, begun.elapsed()))
        };
        let arrived = async {
            let (mut last, mut missing) = (begun, self.members.len());
            while missing > 0 {
                tokio::select! {
                    biased;
                    Some(arrival) = self.arrivals.recv() => {
                        if arrival.number == Some(TO_ALL) {
                            last = arrival.at;
                            missing -= 1;
                        }
                    }
                    () = tokio::time::sleep_until((last + GRACE).into()) => break,
                }
            }
            Ok((last - begun, missing))
        };
        // Without a report there is nothing to wait for.
        let ((report, reported_after), (arrived_after, lost)) =
            tokio::try_join!(reported, arrived)?;
        Ok(Broadcast {
            report,
            reported_after,
            arrived_after,
            lost,
        })
    }

    /// Sends a frame from each of these clients, by number.
    ///
    /// # Panics
    /// If a connection has ended.
    pub async fn send(&self, clients: Range<usize>, frame: &str) {
        for member in &self.members[clients] {
            let mut sender = member.sender.lock().await;
            sender.send(Message::text(frame)).await.expect("sent");
        }
    }

    /// The number in each of the next `count` frames, and when it arrived.
    /// Fewer if no frame has arrived for a while.
    pub async fn arrivals(&mut self, count: usize) -> Vec<(Option<usize>, Instant)> {
        let mut arrivals = Vec::with_capacity(count);
        while arrivals.len() < count {
            match tokio::time::timeout(GRACE, self.arrivals.recv()).await {
                Ok(Some(arrival)) => arrivals.push((arrival.number, arrival.at)),
                _ => break,
            }
        }
        arrivals
    }

    /// Sends `count` `echo` frames evenly over a time, one client after the
    /// other. Calls `progress` every second with the number of answers so far.
    pub async fn echo(
        &mut self,
        count: usize,
        over: Duration,
        progress: impl FnMut(usize),
    ) -> Answers {
        let members = self.members.iter();
        let senders: Vec<Sender> = members.map(|member| Arc::clone(&member.sender)).collect();
        self.paced(count, over, progress, async |number| {
            let data = json!({"number": number, "text": "x".repeat(64)});
            let frame = json!({"type": "echo", "version": "1.0", "data": data});
            let mut sender = senders[number % senders.len()].lock().await;
            // A frame that cannot be sent gets no answer and counts as lost.
            let _ = sender.send(Message::text(frame.to_string())).await;
            1
        })
        .await
    }

    /// Has `count` notifications sent evenly over a time, to the users of the
    /// first `first` clients in turn. Calls `progress` every second with the
    /// number of frames that have arrived.
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
        let connections = |user: &Arc<str>| users.iter().filter(|other| *other == user).count();
        let recipients: Vec<_> = users[..first.min(users.len())]
            .iter()
            .map(|user| (Arc::clone(user), connections(user)))
            .collect();
        self.paced(count, over, progress, async |number| {
            let (user, connections) = recipients[number % recipients.len()].clone();
            let announcer = announcer.clone();
            tokio::spawn(async move {
                let request = json!({
                    "target": {"type": "user", "userId": *user},
                    "message": {"type": "notification", "data": {"kind": "loadtest", "number": number}},
                });
                // The frames count as lost; this says why.
                if let Err(reason) = announcer.send(&request).await {
                    eprintln!("a notification failed: {reason}");
                }
            });
            connections
        })
        .await
    }

    /// Calls `act` `count` times evenly over a time. `act` returns how many
    /// frames will arrive.
    async fn paced(
        &mut self,
        count: usize,
        over: Duration,
        mut progress: impl FnMut(usize),
        mut act: impl AsyncFnMut(usize) -> usize,
    ) -> Answers {
        let between = over / u32::try_from(count).expect("not so many");
        let begun = Instant::now();
        // For each number when it was due, and how many frames are missing.
        let mut due: Vec<(Instant, usize)> = Vec::with_capacity(count);
        let mut expected = 0;
        let mut answers = Answers::default();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.tick().await;
        while due.len() < count || answers.times.len() < expected {
            let send_at = begun + between * u32::try_from(due.len()).expect("not so many");
            let over_at = begun + over + GRACE;
            tokio::select! {
                // Arrivals come first, so that sending never delays their count.
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

    /// Drops half of the clients without closing their connections.
    pub fn drop_half(&mut self) {
        self.members.truncate(self.members.len() / 2);
    }

    /// Closes every connection and waits for the server's answers.
    pub async fn leave(&mut self) {
        for member in &mut self.members {
            let frame = CloseFrame {
                code: 1000.into(),
                reason: "".into(),
            };
            let mut sender = member.sender.lock().await;
            // Fails if the connection has ended already.
            let _ = sender.send(Message::Close(Some(frame))).await;
        }
        let answers = self.members.iter_mut().map(|member| &mut member.listening);
        // Without an answer the connection is closed all the same.
        let _ = tokio::time::timeout(GRACE, join_all(answers)).await;
        self.members.clear();
    }

    /// Waits until the server has closed every connection, and returns the
    /// codes.
    ///
    /// # Panics
    /// If a connection ends without a close frame, or not in time.
    pub async fn closed(&mut self) -> Vec<u16> {
        let mut codes = Vec::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for member in &mut self.members {
            let closed = tokio::time::timeout_at(deadline, &mut member.listening).await;
            let closed =
                closed.unwrap_or_else(|_| panic!("not closed after {} s", PATIENCE.as_secs()));
            let code = closed.expect("the client listens");
            codes.push(code.expect("closed with a code"));
        }
        codes
    }
}
