//! Broadcasts: one message to many connections. Read in this order:
//! `content` (what is sent, and where it is kept), `recipients` (who is
//! reached), `coordinator` (idempotency, rate) and `split`,
//! `worker` and `segment` (how one segment is processed), `delivery`,
//! `retry_queue`, `rate_limiter` and `circuit_breaker` (how posts are made),
//! `report`. `actions` are what operators do to many connections in the same way.

mod actions;
mod circuit_breaker;
mod content;
mod coordinator;
mod delivery;
mod fanout;
mod latency_sample;
mod rate_limiter;
mod receipts;
mod recipients;
mod report;
mod retry_queue;
mod segment;
mod split;
mod stored;
mod tally;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use actions::OperatorAction;
use belfry_protocol::{
    BroadcastReport, BroadcastRequest, ConnectionId, MAX_FRAME_BYTES, MAX_STORED_FRAME_BYTES,
    MessageId, Position, Target,
};
use content::{Content, Frames, KeptMessage, Published};

pub(crate) use circuit_breaker::CircuitBreaker;
pub use coordinator::{Broadcaster, FanoutSettings};
pub use delivery::DeliverySettings;
pub use fanout::Fanout;
use recipients::Audience;
pub(crate) use recipients::Share;
use stored::StoredPublish;
use tally::PostOutcome;
pub use worker::Worker;

use crate::channels::ChannelRules;
use crate::connections::Recipient;
use crate::log::{AppendError, LogKey};
use crate::ports::{BroadcastKey, BroadcastRecord, StoreError};
use crate::time::{UnixMillis, UnixSeconds};

/// How long a broadcast is remembered, and its id with it.
pub(crate) const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a worker that was asked to start may take before it counts as
/// lost. Lambda retries a failed event after one minute.
const WORKER_START: Duration = Duration::from_secs(60);

/// Polling interval while a caller or a worker waits.
const POLL: Duration = Duration::from_millis(250);

/// The invocation that a request came with.
#[derive(Debug, Clone)]
pub struct Call {
    pub message_id: MessageId,
    /// Whether the caller gave the id.
    pub is_named: bool,
    /// The invocation's own id. It stays the same when Lambda retries.
    pub owner: String,
    /// When the answer must be ready.
    pub deadline: UnixMillis,
}

/// Why a broadcast was not made. `Display` is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    #[error(
        "message: the frame has {bytes} bytes with its id and timestamp; at most {MAX_FRAME_BYTES} can be sent"
    )]
    PayloadTooLarge { bytes: usize },
    #[error(
        "messages: together they have {bytes} bytes with their ids, timestamps and positions; at most {MAX_FRAME_BYTES} can be sent. Send them in parts"
    )]
    BatchTooLarge { bytes: usize },
    #[error(
        "message: the frame has {bytes} bytes with its id and timestamp; at most {MAX_STORED_FRAME_BYTES} with its position can be kept. With \"store\": false it is sent and not kept"
    )]
    TooLargeToKeep { bytes: usize },
    #[error(
        "target: the request has {bytes} bytes; at most {max_bytes} can be remembered. Send it in parts"
    )]
    RequestTooLarge { bytes: usize, max_bytes: usize },
    /// Another request has this id.
    #[error("messageId: another request was made with this id")]
    OtherRequest,
    /// No broadcast with this id is remembered.
    #[error("messageId: no broadcast with this id is remembered")]
    Unknown,
    /// No `kick` or `drain` with this id is remembered.
    #[error("messageId: no kick or drain with this id is remembered")]
    UnknownAction,
    #[error("segment: the broadcast has {segments} segments, counted from 0")]
    NoSuchSegment { segments: u32 },
    /// The last broadcast to everyone was too recent.
    #[error("target: one broadcast to all is allowed every {interval:?}; wait {wait:?}")]
    RateLimited { interval: Duration, wait: Duration },
    /// Others appended to the same log all the time.
    #[error(
        "too many messages are published there at the same time; ask again with the same messageId"
    )]
    Busy,
    #[error("the broadcast could not be finished; ask again with the same messageId ({0})")]
    Store(#[from] StoreError),
    /// No worker could be asked to start or to continue.
    #[error("no worker could be started; ask again with the same messageId ({0})")]
    NoWorker(String),
    #[error(
        "receipts: only a message that is kept, to a user, several users or a channel, is acknowledged"
    )]
    NoReceipts,
    #[error("channel: no history of this is kept, so nothing is acknowledged")]
    NoHistory,
    #[error("counting the users used up the time")]
    NoTimeToCount,
    /// Listing the recipients used up the time.
    #[error("listing the recipients used up the time; nobody was reached")]
    NoTime,
}

impl From<AppendError> for BroadcastError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self::Busy,
            AppendError::Store(error) => Self::Store(error),
        }
    }
}

/// Result of a broadcast, or of one invocation's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// For the caller.
    pub report: BroadcastReport,
    /// Some of the connections that were not reached, each with the cause, for
    /// the operator.
    pub sample: Vec<(ConnectionId, String)>,
    /// Rows of gone connections that could not be removed.
    pub rows_kept: u64,
    /// From the request to the report.
    pub took: Duration,
}

/// Frames on their way to a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Post {
    recipient: Recipient,
    /// At least one. Each is posted when the one before it was accepted.
    frames: Arc<[Box<str>]>,
    /// How many of them were accepted.
    accepted: usize,
    close: Close,
}

/// Whether the connection is closed after its frames.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Close {
    Never,
    AfterFrames,
    /// The frames have had their turn. The outcome counts when the connection is
    /// closed.
    Now(PostOutcome),
}

impl Post {
    /// Whether the recipient's session lasts. A connection is closed all the same.
    fn may_be_made(&self, now: UnixMillis) -> bool {
        self.close != Close::Never || !self.recipient.token_expires_at.has_passed(now)
    }

    fn next_frame(&self) -> &str {
        self.frames.get(self.accepted).map_or("", AsRef::as_ref)
    }
}

/// A broadcast in progress.
#[derive(Debug)]
struct Broadcast {
    key: BroadcastKey,
    content: Content,
    /// Where the message is kept, if that is known and one place.
    position: Option<Position>,
    /// Whether reports say how many users have acknowledged the message.
    receipts: bool,
    /// What an operator does, if it is no message.
    action: Option<OperatorAction>,
    audience: Audience,
    /// At least one.
    segments: u32,
}

impl Broadcast {
    /// A new broadcast, in one segment until it is split.
    fn new(
        id: &MessageId,
        request: BroadcastRequest,
        started_at: UnixMillis,
        rules: &ChannelRules,
    ) -> Result<Self, BroadcastError> {
        let content = Content::of(&request, id, started_at, rules)?;
        let is_kept = matches!(content, Content::Kept(_));
        let is_batch = request.messages.is_some();
        let receipts = request.receipts == Some(true);
        if receipts && (!is_kept || matches!(request.target, Target::All {})) {
            return Err(BroadcastError::NoReceipts);
        }
        Ok(Self {
            key: BroadcastKey {
                id: id.clone(),
                started_at,
            },
            content,
            position: None,
            receipts,
            action: None,
            audience: Audience::new(request.target, request.exclude, is_kept, is_batch),
            segments: 1,
        })
    }

    /// What an operator does, in one segment until it is split.
    fn of_operator(id: &MessageId, action: OperatorAction, started_at: UnixMillis) -> Self {
        Self {
            key: BroadcastKey {
                id: id.clone(),
                started_at,
            },
            content: Content::Frames(action.frames(started_at)),
            position: None,
            receipts: false,
            audience: action.audience(started_at),
            action: Some(action),
            segments: 1,
        }
    }

    /// The original broadcast of a record. It keeps its timestamp: some
    /// recipients already have the message.
    fn restore(
        id: &MessageId,
        record: &BroadcastRecord,
        rules: &ChannelRules,
    ) -> Result<Self, BroadcastError> {
        if let Some(publish) = StoredPublish::from_json(&record.request) {
            return Ok(Self {
                key: BroadcastKey {
                    id: id.clone(),
                    started_at: record.started_at,
                },
                content: Content::Frames(Frames::one(publish.frame)),
                position: None,
                receipts: false,
                action: None,
                audience: Audience::subscribers(publish.channel, publish.listing, publish.exclude),
                segments: record.segments,
            });
        }
        if let Some(action) = OperatorAction::from_json(&record.request) {
            return Ok(Self {
                segments: record.segments,
                ..Self::of_operator(id, action, record.started_at)
            });
        }
        let request = BroadcastRequest::parse(&record.request).map_err(|error| StoreError {
            operation: "reading a broadcast",
            cause: error.to_string(),
        })?;
        Ok(Self {
            segments: record.segments,
            ..Self::new(id, request, record.started_at, rules)?
        })
    }

    /// The message and its log, if it is still to be appended to a single one.
    fn unpublished(&self) -> Option<(&KeptMessage, LogKey)> {
        match &self.content {
            Content::Frames(_) => None,
            Content::Kept(message) => Some((message, self.audience.log()?)),
        }
    }

    fn published(&mut self, published: &Published) {
        self.content = Content::Frames(published.frames.clone());
        self.position = Some(published.position.clone());
    }

    /// When its record and segments may be deleted.
    fn expires_at(&self) -> UnixSeconds {
        expires_at(self.key.started_at)
    }
}

fn expires_at(started_at: UnixMillis) -> UnixSeconds {
    started_at.plus(MEMORY).to_seconds()
}
