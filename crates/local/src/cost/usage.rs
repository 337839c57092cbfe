//! What a stack uses in a month, by the operations of docs/COSTS.md.

use std::collections::BTreeMap;

use super::arguments::CostArgs;
use super::page::{gb_seconds, quantity, reader_gigabytes, units};

const HOURS_A_MONTH: f64 = 730.0;
const DAYS_A_MONTH: f64 = HOURS_A_MONTH / 24.0;
const BYTES_A_GIGABYTE: f64 = 1e9;

/// API Gateway bills messages in steps of this many bytes.
const MESSAGE_STEP: f64 = 32_768.0;

/// DynamoDB counts consistent reads in steps of this many bytes.
const READ_STEP: f64 = 4_096.0;

/// `Default` posts to up to this many subscribers itself.
const OWN_POSTS: f64 = 100.0;

/// The parameters `ConnectionsPerWorker` and `MaxWorkers`.
const CONNECTIONS_PER_WORKER: f64 = 5_000.0;
const MAX_WORKERS: f64 = 4.0;

/// A worker saves how far it is after each page.
const SUBSCRIBERS_PER_PAGE: f64 = 1_000.0;

/// What services bill for.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub connection_minutes: f64,
    pub messages: f64,
    /// Invocations of each kind.
    pub invocations: BTreeMap<&'static str, f64>,
    pub gb_seconds: f64,
    pub write_units: f64,
    pub read_units: f64,
    pub stored_gb: f64,
    pub log_gb: f64,
    pub traces: f64,
    pub metrics: f64,
    pub alarm_metrics: f64,
    pub dashboards: f64,
    pub transfer_gb: f64,
}

/// The usage of a whole stack.
pub(super) fn of(arguments: &CostArgs) -> Usage {
    let mut month = Month::new(arguments);
    month.stand_by();
    month.keep_connections();
    month.answer_frames();
    month.notify();
    month.receive();
    month.publish();
    month.meet();
    month.lock();
    month.read();
    month.finish()
}

/// Only what it takes to listen to messages that are published anyway.
#[cfg(test)]
pub(super) fn of_listeners(arguments: &CostArgs) -> Usage {
    let mut month = Month::new(arguments);
    month.keep_connections();
    month.receive();
    month.read();
    month.finish()
}

struct Month<'a> {
    arguments: &'a CostArgs,
    usage: Usage,
    /// Days of all connections together.
    connection_days: f64,
    /// Bytes of a message with what is around it.
    message_bytes: f64,
    answer_bytes: f64,
    fan_out: f64,
}

impl<'a> Month<'a> {
    fn new(arguments: &'a CostArgs) -> Self {
        Self {
            arguments,
            usage: Usage::default(),
            connection_days: arguments.connections * DAYS_A_MONTH,
            message_bytes: f64::from(arguments.message_bytes) + quantity("bytes around a message"),
            answer_bytes: quantity("bytes of an answer"),
            fan_out: arguments.fan_out.unwrap_or_default(),
        }
    }

    /// What a stack costs that nobody uses.
    fn stand_by(&mut self) {
        let minutes = HOURS_A_MONTH * 60.0;
        for operation in [
            "sweep: listing the due connections",
            "sweep: counting the open connections",
            "sweep: comparing four counters with their rows",
            "sweep: listing what is due",
        ] {
            self.operate(minutes, operation);
        }
        self.invoke(minutes, "sweep");
        self.usage.metrics = quantity("metrics in use");
        self.usage.alarm_metrics = quantity("metrics of alarms");
        self.usage.dashboards = 1.0;
        if self.arguments.hooks {
            self.operate(minutes, "hooks: a run of the schedule when nothing waits");
            self.invoke(minutes, "hook schedule");
            self.usage.alarm_metrics += quantity("metrics of alarms with a hook");
        }
        if self.arguments.readers() > 0.0 {
            self.usage.alarm_metrics += quantity("metrics of alarms with HTTP readers");
        }
    }

    fn keep_connections(&mut self) {
        let minutes = self.connection_days * self.arguments.hours_per_day * 60.0;
        self.usage.connection_minutes += minutes;
        let session = f64::from(self.arguments.session_minutes);
        let sessions = (self.arguments.hours_per_day * 60.0 / session).ceil();
        let sessions = self.connection_days * sessions;
        self.invoke(sessions, "connect");
        self.invoke(sessions, "disconnect");
        if self.arguments.hooks {
            self.operate(sessions, "connect, with a hook");
            self.operate(sessions, "disconnect, with a hook");
            self.tell(2.0 * sessions);
        } else {
            self.operate(sessions, "connect");
            self.operate(sessions, "disconnect");
        }
        self.subscribe(sessions);
        let pings = minutes * 60.0 / f64::from(self.arguments.ping_interval);
        self.operate(2.0 * pings, "sweep: checking a connection");
        self.post(pings, self.answer_bytes);
        // The `pong` has no answer.
        self.receive_from_client(pings, self.answer_bytes);
        self.frame(pings);
        let stored = quantity("stored bytes of a connection");
        self.usage.stored_gb += self.arguments.connections * stored / BYTES_A_GIGABYTE;
    }

    /// The channels that connections subscribe to, and leave when they end.
    fn subscribe(&mut self, sessions: f64) {
        let channels = f64::from(self.arguments.subscriptions);
        if channels == 0.0 {
            return;
        }
        let (three, whole) = (units("subscribe to 3 channels"), units("disconnect"));
        let two = units("disconnect of a subscriber to 2 channels");
        // Both cost a fixed part and one for each channel. Counting by threes
        // and twos repeats the fixed part.
        let (threes, twos) = ((channels / 3.0).ceil(), (channels / 2.0).ceil());
        self.usage.write_units +=
            sessions * (threes * three.write + twos * (two.write - whole.write));
        self.usage.read_units += sessions * (threes * three.read + twos * (two.read - whole.read));
        self.invoke(sessions, "frame");
        self.invoke_more(sessions, "call of a frame");
        self.exchange(sessions, 0.0);
    }

    fn answer_frames(&mut self) {
        let frames = self.connection_days * self.arguments.frames_per_user;
        self.frame(frames);
        self.exchange(frames, f64::from(self.arguments.message_bytes));
        let acks = self.connection_days * self.arguments.acks_per_user;
        self.frame(acks);
        self.exchange(acks, 0.0);
        self.invoke_more(acks, "call of a frame");
        self.operate(acks, "ack");
        self.read_more(acks, self.message_bytes);
    }

    /// What servers send: the calls of the broadcaster, without the posts.
    fn notify(&mut self) {
        let users = self.arguments.users();
        let messages = users * DAYS_A_MONTH * self.arguments.messages_per_user;
        let broadcasts = DAYS_A_MONTH * self.arguments.broadcasts;
        self.invoke(messages + broadcasts, "broadcast");
        let (to_user, to_all) = if self.arguments.keeps_messages() {
            self.keep(messages + broadcasts);
            (
                "broadcast to a user with history",
                "broadcast to all with history, 1,000 connections",
            )
        } else {
            (
                "broadcast to a user, without an id",
                "broadcast to all, 1,000 connections",
            )
        };
        self.operate(messages, to_user);
        let thousands = (self.arguments.connections / 1_000.0).ceil();
        self.operate(broadcasts * thousands, to_all);
        let workers = workers(self.arguments.connections);
        self.share(broadcasts, workers, self.message_bytes);
    }

    /// The posts of what servers send.
    fn receive(&mut self) {
        let each = self.connection_days * self.arguments.messages_per_user;
        let all = self.connection_days * self.arguments.broadcasts;
        self.post(each + all, self.message_bytes);
    }

    fn publish(&mut self) {
        let publishes = self.connection_days * self.arguments.publishes_per_user;
        self.frame(publishes);
        self.exchange(publishes, f64::from(self.arguments.message_bytes));
        if self.arguments.keeps_messages() {
            self.operate(publishes, "log: a message");
            self.invoke_more(2.0 * publishes, "call of a frame");
            self.keep(publishes);
        }
        self.tell_subscribers(publishes, self.message_bytes);
    }

    /// Users join channels with presence, and leave them.
    fn meet(&mut self) {
        let joins = self.connection_days * self.arguments.presence_joins_per_user;
        let (join, leave) = if self.arguments.hooks {
            self.tell(2.0 * joins);
            (
                "presence: subscribing, the user's first connection, with a hook",
                "presence: unsubscribing, the user's last connection, with a hook",
            )
        } else {
            (
                "presence: subscribing, the user's first connection",
                "presence: unsubscribing, the user's last connection",
            )
        };
        self.operate(joins, join);
        self.operate(joins, leave);
        self.operate(joins * pages(self.fan_out), "presence: listing the users");
        self.twice(joins);
    }

    fn lock(&mut self) {
        let locks = self.connection_days * self.arguments.locks_per_user;
        self.operate(locks, "lock");
        self.operate(locks, "unlock");
        self.twice(locks);
    }

    /// Two frames with their answers, of which the subscribers are told.
    fn twice(&mut self, times: f64) {
        self.frame(2.0 * times);
        self.invoke_more(4.0 * times, "call of a frame");
        self.exchange(2.0 * times, 0.0);
        self.tell_subscribers(2.0 * times, self.answer_bytes);
    }

    /// HTTP readers: one channel each.
    fn read(&mut self) {
        let seconds = DAYS_A_MONTH * self.arguments.hours_per_day * 3_600.0;
        let messages = DAYS_A_MONTH * self.arguments.messages_per_user;
        let clients = self.arguments.sse_clients;
        self.wait(clients, seconds / STREAM_EVERY, seconds, messages);
        let clients = self.arguments.long_poll_clients;
        // A poll ends with a message.
        let polls = (seconds / LONG_POLL_EVERY).max(messages);
        self.wait(clients, polls, seconds, messages);
        let clients = self.arguments.short_poll_clients;
        let polls = seconds / SHORT_POLL_EVERY;
        self.invoke(clients * polls, "poll");
        self.operate(clients * polls, "HTTP reader: checking for a sign-out");
        self.recover(clients * polls, clients * polls.min(messages));
        self.usage.transfer_gb +=
            self.arguments.readers() * messages * self.message_bytes / BYTES_A_GIGABYTE;
    }

    /// Streams, or polls that wait: each is billed for as long as it is open.
    fn wait(&mut self, clients: f64, requests: f64, seconds: f64, messages: f64) {
        self.invoke(clients * requests, "stream");
        self.usage.gb_seconds += clients * seconds * reader_gigabytes();
        let ends = "HTTP reader: the beginning and the end of a stream or a poll that waits";
        self.operate(clients * requests, ends);
        self.recover(clients * requests, clients * messages);
        let checks = requests + seconds / SIGN_OUT_CHECK_EVERY;
        self.operate(clients * checks, "HTTP reader: checking for a sign-out");
        // After a message, it looks sooner.
        let looks = seconds / LOOK_EVERY + 2.0 * messages;
        self.operate(clients * looks / 2.0, "HTTP reader: looking at 2 channels");
        // Eventually consistent.
        self.read_more(clients * looks / 2.0, self.message_bytes);
    }

    /// Looks at a log that find nothing, and others that find a message.
    fn recover(&mut self, nothing: f64, one: f64) {
        self.operate(nothing, "log: recovery, nothing missed");
        self.operate(one, "log: recovery, 4 messages missed");
        // The head has the newest message, too.
        self.read_more(nothing + 2.0 * one, self.message_bytes);
    }

    /// Lists the subscribers of a channel and posts to them.
    fn tell_subscribers(&mut self, times: f64, bytes: f64) {
        if self.fan_out > OWN_POSTS {
            self.hand_over(times, bytes);
        } else {
            self.operate(
                times * pages(self.fan_out),
                "publish: listing the subscribers",
            );
        }
        self.post(times * self.fan_out, bytes);
    }

    /// Workers post to the subscribers, page by page.
    fn hand_over(&mut self, times: f64, bytes: f64) {
        let one = units("publish: a worker posts to 500 subscribers");
        let two_pages = units("publish: a worker posts to 1,500 subscribers");
        let two_workers = units("publish: two workers post to 1,500 subscribers");
        let workers = workers(self.fan_out);
        // Nobody knows what follows a page that is full, so there is another one.
        let pages = workers * ((self.fan_out / workers / SUBSCRIBERS_PER_PAGE).floor() + 1.0);
        let write = one.write
            + (pages - 1.0) * (two_pages.write - one.write)
            + (workers - 1.0) * (two_workers.write - two_pages.write);
        let read = one.read
            + (self.fan_out - 500.0) / 1_000.0 * (two_pages.read - one.read)
            + (workers - 1.0) * (two_workers.read - two_pages.read);
        self.usage.write_units += times * write;
        self.usage.read_units += times * read;
        self.share(times, workers, bytes);
        self.invoke(times * workers, "broadcast");
    }

    /// The record of a broadcast, beyond what the operation counts: it holds the
    /// frame. It is written at the beginning and at the end, and each worker reads
    /// it.
    fn share(&mut self, times: f64, workers: f64, bytes: f64) {
        let bytes = bytes + quantity("bytes around a frame in a record");
        self.usage.write_units += times * 2.0 * further_kilobytes(bytes);
        self.read_more(times * workers, bytes);
    }

    /// Events for `HookFunction`.
    fn tell(&mut self, events: f64) {
        self.operate(events, "hooks: telling of an event");
        self.invoke(events, "hook event");
    }

    /// A frame's invocation and its write.
    fn frame(&mut self, times: f64) {
        self.invoke(times, "frame");
        self.operate(times, "frame");
    }

    /// A frame of this much data, and a short answer.
    fn exchange(&mut self, times: f64, bytes: f64) {
        self.receive_from_client(times, bytes + self.answer_bytes);
        self.send(times, self.answer_bytes);
    }

    fn receive_from_client(&mut self, times: f64, bytes: f64) {
        self.usage.messages += times * (bytes / MESSAGE_STEP).ceil();
    }

    fn send(&mut self, times: f64, bytes: f64) {
        self.usage.messages += times * (bytes / MESSAGE_STEP).ceil();
        self.usage.transfer_gb += times * bytes / BYTES_A_GIGABYTE;
    }

    /// Sends through the management API.
    fn post(&mut self, times: f64, bytes: f64) {
        self.send(times, bytes);
        self.invoke_more(times, "post");
    }

    /// Consistent reads of messages of this size, beyond the unit that the
    /// operation counts.
    fn read_more(&mut self, times: f64, bytes: f64) {
        self.usage.read_units += times * ((bytes / READ_STEP).ceil() - 1.0);
    }

    /// Keeps messages, beyond what the operation counts: what they take beside
    /// the first KB, in the head and in the entry, and their storage. An append
    /// reads the head and the newest entry.
    fn keep(&mut self, messages: f64) {
        self.read_more(messages, 2.0 * self.message_bytes);
        self.usage.write_units += messages * 2.0 * further_kilobytes(self.message_bytes);
        let at_a_time = messages * self.arguments.history_hours / HOURS_A_MONTH;
        self.usage.stored_gb += at_a_time * self.message_bytes / BYTES_A_GIGABYTE;
    }

    fn operate(&mut self, times: f64, operation: &str) {
        let units = units(operation);
        self.usage.write_units += times * units.write;
        self.usage.read_units += times * units.read;
    }

    fn invoke(&mut self, times: f64, invocation: &'static str) {
        *self.usage.invocations.entry(invocation).or_default() += times;
        // A stream's time is counted by itself.
        if invocation != "stream" {
            self.invoke_more(times, invocation);
        }
    }

    /// More time of an invocation that is counted elsewhere.
    fn invoke_more(&mut self, times: f64, work: &str) {
        self.usage.gb_seconds += times * gb_seconds(work);
    }

    fn finish(mut self) -> Usage {
        let invocations = self.usage.invocations.values();
        let log_bytes = quantity("log bytes of an invocation");
        self.usage.log_gb = invocations.clone().sum::<f64>() * log_bytes / BYTES_A_GIGABYTE;
        let seconds = DAYS_A_MONTH * self.arguments.hours_per_day * 3_600.0;
        self.usage.traces = invocations.map(|count| traces(*count, seconds)).sum();
        self.usage
    }
}

/// Lambda traces the first invocation of a second, and a twentieth of the others.
fn traces(invocations: f64, seconds: f64) -> f64 {
    let first = invocations.min(seconds);
    first + (invocations - first) / 20.0
}

/// What an item of this size takes beyond the unit for its first KB.
fn further_kilobytes(bytes: f64) -> f64 {
    (bytes / 1_024.0).ceil() - 1.0
}

/// Workers that post to as many connections.
fn workers(recipients: f64) -> f64 {
    (recipients / CONNECTIONS_PER_WORKER)
        .ceil()
        .min(MAX_WORKERS)
}

/// A page of a listing has this many or so.
fn pages(rows: f64) -> f64 {
    (rows / 25.0).ceil()
}

/// `StreamSeconds`, and a second until the client is back.
const STREAM_EVERY: f64 = 56.0;
const LONG_POLL_EVERY: f64 = 21.0;
const SHORT_POLL_EVERY: f64 = 60.0;
const SIGN_OUT_CHECK_EVERY: f64 = 5.0;
const LOOK_EVERY: f64 = 2.0;
