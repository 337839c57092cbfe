//! `belfry subscribe`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::access::Access;
use super::catch_up::{CatchUp, Page, Position, Ready, Stamp};
use super::socket::{ANSWER_TIMEOUT, ClientSocket, ErrorData, Frame, Lost, no_answer, print, say};
use super::{ClientError, advice};
use crate::cli::{SubscribeArgs, usage};
use crate::run::StopSignals;

/// The waits that docs/PROTOCOL.md recommends: until a silent connection is
/// checked, and for the answer to that check.
const SILENCE: Duration = Duration::from_secs(60);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long missing messages may take to arrive by themselves.
const GAP_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the times above are checked.
const TICK: Duration = Duration::from_millis(250);

/// The most messages that one `history` frame may ask for.
const PAGE_MESSAGES: u32 = 300;

/// Why a subscription ends.
enum End {
    /// As the person wanted.
    Wanted(&'static str),
    /// The next program of the pipe has ended.
    OutputClosed,
    Output(io::Error),
    Refused(String),
    Lost(String),
}

impl From<Lost> for End {
    fn from(Lost(reason): Lost) -> Self {
        Self::Lost(reason)
    }
}

/// Prints the messages of channels until something ends it.
pub(crate) fn subscribe(arguments: &SubscribeArgs) -> Result<(), ClientError> {
    if arguments.since.is_some() && arguments.channels.len() > 1 {
        let problem = "--since is a position in one channel; name no other";
        usage(clap::error::ErrorKind::ArgumentConflict, problem).exit();
    }
    let access = Access::of(&arguments.connect)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(arguments, &access))
}

async fn follow(arguments: &SubscribeArgs, access: &Access) -> Result<(), ClientError> {
    let mut signals = StopSignals::new()?;
    let deadline = arguments.seconds.map(Duration::from_secs);
    let deadline = deadline.map(|after| Instant::now() + after);
    let mut follower = Follower {
        arguments,
        socket: ClientSocket::open(access).await?,
        channels: channels(arguments),
        requests: HashMap::new(),
        printed: 0,
        opened: Instant::now(),
        is_subscribed: false,
        heard: Instant::now(),
        probed: None,
    };
    let end = tokio::select! {
        end = follower.run() => end,
        () = signals.next() => End::Wanted("stopped"),
        () = reached(deadline) => End::Wanted("the time of --seconds is over"),
    };
    follower.finish(end).await
}

/// Never returns without a deadline.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn channels(arguments: &SubscribeArgs) -> Vec<Channel> {
    let mut channels: Vec<Channel> = Vec::new();
    for name in &arguments.channels {
        if channels.iter().all(|channel| channel.name != *name) {
            channels.push(Channel {
                name: name.clone(),
                messages: CatchUp::new(arguments.since.clone()),
                resume: arguments.since.clone(),
                is_announced: false,
                ask_at: None,
                renew_at: None,
            });
        }
    }
    channels
}

struct Channel {
    name: String,
    messages: CatchUp,
    /// The position after which another run would go on.
    resume: Option<Position>,
    /// Whether the person was told of the subscription.
    is_announced: bool,
    /// When to ask for the history.
    ask_at: Option<Instant>,
    /// When to subscribe again: the subscription has an end of its own.
    renew_at: Option<Instant>,
}

impl Channel {
    fn since(&self) -> Value {
        let mut since = json!({"channel": self.name});
        if let Some(position) = self.messages.position() {
            since["since"] = json!(position);
        }
        since
    }
}

/// A frame that waits for its reply.
enum Request {
    Hello,
    History(String),
    Renewal,
    Sync,
}

struct Follower<'a> {
    arguments: &'a SubscribeArgs,
    socket: ClientSocket,
    channels: Vec<Channel>,
    requests: HashMap<String, Request>,
    printed: u64,
    opened: Instant,
    is_subscribed: bool,
    /// When the last frame came.
    heard: Instant,
    /// When the silence was checked.
    probed: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Welcome {
    user_id: String,
    token_expires_at: String,
    subscribed: Subscribed,
}

#[derive(Deserialize)]
struct Subscribed {
    channels: Vec<Page>,
}

#[derive(Deserialize)]
struct Unsubscribed {
    channels: Vec<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Synced {
    channels: Vec<SyncedChannel>,
}

#[derive(Deserialize)]
struct SyncedChannel {
    channel: String,
    subscribed: bool,
    missed: Option<bool>,
}

#[derive(Deserialize)]
struct Reconnect {
    deadline: String,
}

impl Follower<'_> {
    async fn run(&mut self) -> End {
        match self.try_run().await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn try_run(&mut self) -> Result<std::convert::Infallible, End> {
        let wanted: Vec<_> = self.channels.iter().map(Channel::since).collect();
        let hello = json!({"subscribe": {"channels": wanted}});
        self.request(Request::Hello, "hello", hello).await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = self.socket.next() => {
                    let frame = frame?;
                    (self.heard, self.probed) = (Instant::now(), None);
                    self.receive(&frame)?;
                    self.ask().await?;
                }
                _ = ticks.tick() => self.tick().await?,
            }
        }
    }

    async fn request(&mut self, request: Request, kind: &str, data: Value) -> Result<(), Lost> {
        let id = self.socket.send(kind, Some(data)).await?;
        self.requests.insert(id, request);
        Ok(())
    }

    fn receive(&mut self, frame: &Frame) -> Result<(), End> {
        let request = frame.answered().and_then(|id| self.requests.remove(id));
        match frame.kind() {
            "message" | "notification" => self.message(frame),
            "welcome" => self.welcome(frame),
            "subscribed" => match frame.data() {
                Some(Subscribed { channels }) => self.pages(channels),
                None => Ok(()),
            },
            "history" => match frame.data() {
                Some(page) => self.page(page),
                None => Ok(()),
            },
            "synced" => self.synced(frame),
            "unsubscribed" => self.unsubscribed(frame),
            "reconnect" => {
                if let Some(Reconnect { deadline }) = frame.data() {
                    say(&format!(
                        "the connection ends at {deadline}; the command to continue follows then"
                    ));
                }
                Ok(())
            }
            "error" | "" => self.refused(frame, request),
            "pong" => Ok(()),
            _ => self.print(&frame.text),
        }
    }

    fn message(&mut self, frame: &Frame) -> Result<(), End> {
        let stamp: Option<Stamp> = serde_json::from_str(&frame.text).ok();
        let (name, position) = stamp.map_or((None, None), |stamp| (stamp.channel, stamp.position));
        let index = name.and_then(|name| self.index(&name));
        let Some(index) = index else {
            return self.print_message(&frame.text);
        };
        let mut ready = Vec::new();
        let channel = &mut self.channels[index];
        let text = frame.text.clone();
        channel.messages.message(position, text, &mut ready);
        self.give_out(index, ready)
    }

    fn welcome(&mut self, frame: &Frame) -> Result<(), End> {
        let Some(welcome) = frame.data() else {
            return Err(End::Lost("the stack gave an unknown answer".into()));
        };
        let Welcome {
            user_id,
            token_expires_at,
            subscribed,
        } = welcome;
        say(&format!(
            "connected as {user_id}; the token expires at {token_expires_at}"
        ));
        self.is_subscribed = true;
        self.pages(subscribed.channels)
    }

    fn pages(&mut self, pages: Vec<Page>) -> Result<(), End> {
        let refusals: Vec<_> = pages
            .iter()
            .filter_map(|page| {
                let error = page.error.as_ref()?;
                let connect = &self.arguments.connect;
                Some(advice::refusal(&page.channel, error, connect))
            })
            .collect();
        if !refusals.is_empty() {
            return Err(End::Refused(refusals.join("\n")));
        }
        pages.into_iter().try_for_each(|page| self.page(page))
    }

    /// An entry of `subscribed`, or the answer to `history`.
    fn page(&mut self, page: Page) -> Result<(), End> {
        let Some(index) = self.index(&page.channel) else {
            return Ok(());
        };
        let channel = &mut self.channels[index];
        let (recovered, reason) = (page.recovered, page.reason.clone());
        if let Some(until) = &page.until {
            channel.renew_at = renewal(until);
        }
        let is_first = !std::mem::replace(&mut channel.is_announced, true);
        let mut ready = Vec::new();
        let more = channel.messages.page(page, &mut ready);
        channel.ask_at = more.then(Instant::now);
        let said = state(channel, is_first, recovered, reason, ready.len(), more);
        if let Some(said) = said {
            say(&format!("{}: {said}", channel.name));
        }
        self.give_out(index, ready)
    }

    fn synced(&mut self, frame: &Frame) -> Result<(), End> {
        let Some(Synced { channels }) = frame.data() else {
            return Ok(());
        };
        let mut ended = Vec::new();
        for synced in channels {
            let Some(index) = self.index(&synced.channel) else {
                continue;
            };
            if !synced.subscribed {
                ended.push(synced.channel);
            } else if synced.missed == Some(true) {
                self.channels[index].ask_at.get_or_insert_with(Instant::now);
            }
        }
        self.end_channels(&ended, "the subscription has ended")
    }

    fn unsubscribed(&mut self, frame: &Frame) -> Result<(), End> {
        self.print(&frame.text)?;
        let Some(Unsubscribed { channels, reason }) = frame.data() else {
            return Ok(());
        };
        let reason = reason.unwrap_or_else(|| "unsubscribed".into());
        self.end_channels(&channels, &format!("the subscription has ended: {reason}"))
    }

    fn end_channels(&mut self, names: &[String], reason: &str) -> Result<(), End> {
        for name in names {
            if let Some(index) = self.index(name) {
                say(&format!("{name}: {reason}"));
                self.channels.remove(index);
            }
        }
        if self.channels.is_empty() {
            return Err(End::Refused("no channel is left".into()));
        }
        Ok(())
    }

    fn refused(&mut self, frame: &Frame, request: Option<Request>) -> Result<(), End> {
        let Some(error) = frame.error() else {
            return Ok(());
        };
        let ErrorData { code, message, .. } = &error;
        if !self.is_subscribed {
            return Err(End::Refused(format!("{code}: {message}")));
        }
        let again = Instant::now() + error.retry_after().unwrap_or(GAP_TIMEOUT);
        match request {
            Some(Request::History(name)) if error.is_lasting() => {
                let connect = &self.arguments.connect;
                return Err(End::Refused(advice::refusal(&name, &error, connect)));
            }
            Some(Request::History(name)) => self.ask_again(&name, again),
            // The next tick sees to both.
            Some(Request::Renewal) => {
                for channel in &mut self.channels {
                    channel.renew_at = channel.renew_at.map(|at| at.min(again));
                }
            }
            Some(Request::Sync) => {}
            // API Gateway does not say which frame it is about.
            Some(Request::Hello) | None => {
                say(&format!("{code}: {message}"));
                self.histories_lost(again);
            }
        }
        Ok(())
    }

    fn ask_again(&mut self, name: &str, at: Instant) {
        if let Some(index) = self.index(name) {
            self.channels[index].ask_at = Some(at);
        }
    }

    /// One of the frames without a reply may be the one that failed.
    fn histories_lost(&mut self, again: Instant) {
        let requests = std::mem::take(&mut self.requests);
        for request in requests.into_values() {
            if let Request::History(name) = request {
                self.ask_again(&name, again);
            }
        }
    }

    fn give_out(&mut self, index: usize, ready: Vec<Ready>) -> Result<(), End> {
        for Ready { position, text } in ready {
            let channel = &mut self.channels[index];
            channel.resume = position.or(channel.resume.take());
            self.print_message(&text)?;
        }
        let channel = &mut self.channels[index];
        channel.resume = channel.messages.position().cloned();
        if channel.messages.has_gap() {
            let soon = || Instant::now() + GAP_TIMEOUT;
            channel.ask_at.get_or_insert_with(soon);
        } else if !channel.messages.is_waiting() {
            channel.ask_at = None;
        }
        Ok(())
    }

    fn print_message(&mut self, text: &str) -> Result<(), End> {
        self.print(text)?;
        self.printed += 1;
        if self.arguments.count == Some(self.printed) {
            return Err(End::Wanted("all messages of --count have come"));
        }
        Ok(())
    }

    fn print(&self, line: &str) -> Result<(), End> {
        print(line).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => End::OutputClosed,
            _ => End::Output(error),
        })
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.channels
            .iter()
            .position(|channel| channel.name == name)
    }

    /// Sends the `history` frames that are due.
    async fn ask(&mut self) -> Result<(), End> {
        let now = Instant::now();
        for index in 0..self.channels.len() {
            let channel = &mut self.channels[index];
            if channel.ask_at.is_none_or(|at| at > now) {
                continue;
            }
            channel.ask_at = None;
            let Some(after) = channel.messages.position() else {
                continue;
            };
            let data = json!({"channel": channel.name, "after": after, "limit": PAGE_MESSAGES});
            let name = channel.name.clone();
            channel.messages.wait();
            self.request(Request::History(name), "history", data)
                .await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if !self.is_subscribed && now - self.opened > ANSWER_TIMEOUT {
            return Err(End::Lost(no_answer()));
        }
        self.ask().await?;
        let due = |channel: &&mut Channel| channel.renew_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self
            .channels
            .iter_mut()
            .filter(due)
            .map(|channel| {
                channel.renew_at = Some(now + ANSWER_TIMEOUT);
                channel.since()
            })
            .collect();
        if !due.is_empty() {
            let data = json!({"channels": due});
            self.request(Request::Renewal, "subscribe", data).await?;
        }
        match self.probed {
            Some(probed) if now - probed > PROBE_TIMEOUT => {
                Err(End::Lost("the server has fallen silent".into()))
            }
            None if now - self.heard > SILENCE => {
                self.probed = Some(now);
                let channels: Vec<_> = self.channels.iter().map(Channel::since).collect();
                let data = json!({"channels": channels});
                Ok(self.request(Request::Sync, "sync", data).await?)
            }
            _ => Ok(()),
        }
    }

    async fn finish(self, end: End) -> Result<(), ClientError> {
        let messages = match self.printed {
            1 => "1 message".to_owned(),
            many => format!("{many} messages"),
        };
        let continuing = self.continuing();
        match end {
            End::Wanted(reason) => {
                self.socket.close().await;
                say(&format!("{reason}; {messages}{continuing}"));
                Ok(())
            }
            End::OutputClosed => {
                self.socket.close().await;
                Ok(())
            }
            End::Output(error) => Err(error.into()),
            End::Refused(reason) => {
                self.socket.close().await;
                Err(ClientError::Ended(reason))
            }
            End::Lost(reason) => Err(ClientError::Ended(format!(
                "{reason}; {messages}{continuing}"
            ))),
        }
    }

    /// The commands that go on where this one ends: a position belongs to one
    /// channel.
    fn continuing(&self) -> String {
        let mut text = String::from("\nContinue with");
        for Channel { name, resume, .. } in &self.channels {
            let command = advice::continuing(name, resume.as_ref(), &self.arguments.connect);
            let _ = write!(text, "\n  {command}");
        }
        text
    }
}

/// What to say about the answer to a position.
fn state(
    channel: &Channel,
    is_first: bool,
    recovered: Option<bool>,
    reason: Option<String>,
    messages: usize,
    more: bool,
) -> Option<String> {
    match (recovered, channel.messages.position()) {
        (Some(false), _) => {
            let reason = reason.unwrap_or_else(|| "unknown reason".into());
            Some(format!(
                "not recovered ({reason}): messages are lost; fetch the state again"
            ))
        }
        _ if !is_first => None,
        (Some(true), _) if more => Some("recovered; more messages follow".into()),
        (Some(true), _) => Some(format!("recovered, {messages} missed")),
        (None, Some(Position { epoch, seq })) => Some(format!("subscribed at {epoch}:{seq}")),
        (None, None) => Some("subscribed; no history, so nothing can be recovered".into()),
    }
}

/// When three quarters of the time until then are over.
fn renewal(until: &str) -> Option<Instant> {
    let until: Timestamp = until.parse().ok()?;
    let left = until.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or_default();
    Some(Instant::now() + left.mul_f64(0.75).max(TICK))
}
