use std::time::Duration;

use belfry_protocol::{
    Address, ChannelName, Envelope, ErrorCode, ServerFrame, Subscribed, SubscribedTo, Unsubscribed,
    Version,
};

use super::watch::{Read, Watch};
use super::{LONGEST_WAIT, Reader, Refusal, SHORTEST_WAIT};
use crate::ports::{
    Acks, Authorizer, Clock, LogPeeks, LogReads, Metrics, Randomness, ReaderLimits, ReaderPlace,
    SessionRefresh,
};
use crate::time::UnixMillis;

/// How long a stream is silent at most: proxies cut what seems idle.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream of events of one reader.
#[derive(Debug)]
pub struct EventStream {
    watch: Watch,
    /// What it has of the user's places, until it ends.
    place: Option<ReaderPlace>,
    begun: UnixMillis,
    written_at: UnixMillis,
    wait: Duration,
    is_over: bool,
}

/// A frame, and the cursor after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The frame as JSON, in one line.
    pub frame: String,
    /// Resumes the stream after this event.
    pub cursor: String,
}

/// What a stream does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Events(Vec<Event>),
    /// Nothing, but the connection must not seem idle.
    KeepAlive,
    /// It is over. The client may open another one, after the last cursor.
    End,
}

impl<V, A, S, O, C, M, W, R> Reader<V, A, S, O, C, M, W, R>
where
    A: Authorizer,
    S: Acks + LogPeeks + LogReads + ReaderLimits + SessionRefresh,
    C: Clock,
    M: Metrics,
    R: Randomness,
{
    /// Begins a stream: its first event has the result for each channel, and
    /// what the reader has missed follows.
    pub(super) fn begin(
        &self,
        watch: Watch,
        place: ReaderPlace,
        read: Read,
    ) -> (EventStream, Vec<Event>) {
        let subscribed = self.subscribed(&watch, watch.states(), read.begins_at.to_string());
        let now = self.clock.now();
        let stream = EventStream {
            watch,
            place: Some(place),
            begun: now,
            written_at: now,
            wait: SHORTEST_WAIT,
            is_over: false,
        };
        let events = std::iter::once(subscribed).chain(messages(read));
        (stream, events.collect())
    }

    /// Waits for what comes next. A store that fails ends nothing: the next
    /// look may find it working.
    pub async fn next(&self, stream: &mut EventStream) -> Step {
        loop {
            let now = self.clock.now();
            if stream.is_over || now.since(stream.begun) >= self.stream_time {
                if let Some(place) = stream.place.take() {
                    self.leave_place(&stream.watch.identity, place).await;
                }
                return Step::End;
            }
            if now.since(stream.written_at) >= KEEP_ALIVE {
                stream.written_at = now;
                return Step::KeepAlive;
            }
            self.clock.sleep(stream.wait).await;
            stream.wait = (stream.wait * 2).min(LONGEST_WAIT);
            let events = match self.look(&mut stream.watch).await {
                Ok(events) => events,
                Err(Refusal::Failed(reason)) => {
                    tracing::warn!(
                        event = "reader.look-failed",
                        reason,
                        "could not look for messages; the stream goes on"
                    );
                    continue;
                }
                Err(refusal) => {
                    stream.is_over = true;
                    self.count_refusal(&refusal);
                    vec![self.ended(refusal, stream.watch.cursor().to_string())]
                }
            };
            if !events.is_empty() {
                stream.wait = SHORTEST_WAIT;
                stream.written_at = self.clock.now();
                return Step::Events(events);
            }
        }
    }

    async fn look(&self, watch: &mut Watch) -> Result<Vec<Event>, Refusal> {
        let ended = self.check(watch).await?;
        if !ended.is_empty() {
            // Before anything is read: a read that fails must not take the event
            // along.
            return Ok(vec![self.unsubscribed(ended, watch.cursor().to_string())]);
        }
        let mut events = Vec::new();
        let mut read = self.read(watch).await?;
        let lost = std::mem::take(&mut read.lost);
        if !lost.is_empty() {
            let cursor = read.begins_at.to_string();
            events.push(self.subscribed(watch, lost, cursor));
        }
        events.extend(messages(read));
        Ok(events)
    }

    fn subscribed(&self, watch: &Watch, channels: Vec<SubscribedTo>, cursor: String) -> Event {
        let data = Subscribed {
            channels,
            session: Some(watch.session()),
        };
        self.event(data, ServerFrame::Subscribed, cursor)
    }

    fn unsubscribed(&self, channels: Vec<Address>, cursor: String) -> Event {
        let channels = channels.into_iter().filter_map(|address| match address {
            Address::Channel(name) => Some(name),
            Address::Me | Address::All => None,
        });
        let data = Unsubscribed {
            channels: channels.collect::<Vec<ChannelName>>(),
            reason: Some(ErrorCode::Forbidden),
        };
        self.event(data, ServerFrame::Unsubscribed, cursor)
    }

    fn ended(&self, refusal: Refusal, cursor: String) -> Event {
        let frame = refusal
            .into_refused()
            .into_frame(self.clock.now().to_timestamp());
        Event {
            frame: frame.to_json(),
            cursor,
        }
    }

    fn event<D>(
        &self,
        data: D,
        frame: impl FnOnce(Envelope<D>) -> ServerFrame,
        cursor: String,
    ) -> Event {
        let envelope = Envelope {
            version: Version,
            id: None,
            timestamp: Some(self.clock.now().to_timestamp()),
            data,
            correlation_id: None,
        };
        Event {
            frame: frame(envelope).to_json(),
            cursor,
        }
    }
}

fn messages(read: Read) -> impl Iterator<Item = Event> {
    let messages = read.messages.into_iter();
    messages.map(|(frame, cursor)| Event {
        frame: frame.into_string(),
        cursor,
    })
}
