//! Follows channels: prints their messages in order, asks for what is missing,
//! and notices when the connection is dead.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::advice;
use super::catch_up::{CatchUp, Page, Position, Ready, Since, Stamp};
use super::socket::{ANSWER_TIMEOUT, ClientSocket, ErrorData, Frame, Lost, no_answer};
use super::subscribe::End;
use super::terminal::Terminal;
use crate::cli::SubscribeArgs;

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

fn channels(arguments: &SubscribeArgs) -> Vec<Channel> {
    let mut channels: Vec<Channel> = Vec::new();
    for name in &arguments.channels {
        if channels.iter().all(|channel| channel.name != *name) {
            let since = match &arguments.since {
                Some(Since::Position(position)) => Some(position.clone()),
                Some(Since::Acked) | None => None,
            };
            channels.push(Channel {
                name: name.clone(),
                messages: CatchUp::new(since),
                resume: arguments.since.clone(),
                is_announced: false,
                ask_at: None,
                renew_at: None,
            });
        }
    }
    channels
}

pub(super) struct Channel {
    pub(super) name: String,
    messages: CatchUp,
    /// After what another run would go on.
    pub(super) resume: Option<Since>,
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
        } else if self.resume == Some(Since::Acked) {
            since["since"] = json!("acked");
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

pub(super) struct Follower<'a> {
    arguments: &'a SubscribeArgs,
    pub(super) socket: ClientSocket,
    pub(super) terminal: Terminal,
    pub(super) channels: Vec<Channel>,
    requests: HashMap<String, Request>,
    pub(super) printed: u64,
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

impl<'a> Follower<'a> {
    pub(super) fn new(
        arguments: &'a SubscribeArgs,
        socket: ClientSocket,
        terminal: Terminal,
    ) -> Self {
        Self {
            arguments,
            socket,
            terminal,
            channels: channels(arguments),
            requests: HashMap::new(),
            printed: 0,
            opened: Instant::now(),
            is_subscribed: false,
            heard: Instant::now(),
            probed: None,
        }
    }

    /// Runs until something ends it. Cancelling this loses no frame that was
    /// printed.
    pub(super) async fn run(&mut self) -> End {
        match self.try_run().await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn try_run(&mut self) -> Result<Infallible, End> {
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
                    self.terminal.say(&format!(
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
        self.terminal.say(&format!(
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
            self.terminal.say(&format!("{}: {said}", channel.name));
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
                self.terminal.say(&format!("{name}: {reason}"));
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
                self.terminal.say(&format!("{code}: {message}"));
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
            let position = position.map(Since::Position);
            channel.resume = position.or(channel.resume.take());
            self.print_message(&text)?;
        }
        let channel = &mut self.channels[index];
        let position = channel.messages.position().cloned();
        channel.resume = position.map(Since::Position);
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

    fn print(&mut self, line: &str) -> Result<(), End> {
        self.terminal
            .print(line)
            .map_err(|error| match error.kind() {
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
            let Some(after) = channel.messages.position() else {
                continue;
            };
            let data = json!({"channel": channel.name, "after": after, "limit": PAGE_MESSAGES});
            let name = channel.name.clone();
            channel.messages.wait();
            // Unless the answer comes first.
            channel.ask_at = Some(now + ANSWER_TIMEOUT);
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
        (None, Some(Position { epoch, seq })) if channel.resume == Some(Since::Acked) => Some(
            format!("nothing is acknowledged; subscribed at {epoch}:{seq}"),
        ),
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

#[cfg(test)]
mod tests;
