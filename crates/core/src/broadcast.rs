//! Broadcasts: one message to many connections. Read in this order:
//! `recipients` (who is reached), `coordinator` (idempotency, rate) and `split`,
//! `worker` and `segment` (how one segment is processed), `delivery`,
//! `retry_queue` and `rate_limiter` (how posts are made), `report`.

mod coordinator;
mod delivery;
mod fanout;
mod latency_sample;
mod rate_limiter;
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

use std::time::Duration;

use belfry_protocol::{
    BroadcastReport, BroadcastRequest, ConnectionId, MAX_FRAME_BYTES, MessageId,
};

pub use coordinator::{Broadcaster, FanoutSettings};
pub use delivery::DeliverySettings;
pub use fanout::Fanout;
use recipients::Audience;
use stored::StoredPublish;
pub use worker::Worker;

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
        "target: the request has {bytes} bytes; at most {max_bytes} can be remembered. Send it in parts"
    )]
    RequestTooLarge { bytes: usize, max_bytes: usize },
    /// Another request has this id.
    #[error("messageId: another request was made with this id")]
    OtherRequest,
    /// No broadcast with this id is remembered.
    #[error("messageId: no broadcast with this id is remembered")]
    Unknown,
    #[error("segment: the broadcast has {segments} segments, counted from 0")]
    NoSuchSegment { segments: u32 },
    /// The last broadcast to everyone was too recent.
    #[error("target: one broadcast to all is allowed every {interval:?}; wait {wait:?}")]
    RateLimited { interval: Duration, wait: Duration },
    #[error("the broadcast could not be finished; ask again with the same messageId ({0})")]
    Store(#[from] StoreError),
    /// No worker could be asked to start or to continue.
    #[error("no worker could be started; ask again with the same messageId ({0})")]
    NoWorker(String),
    /// Listing the recipients used up the time.
    #[error("listing the recipients used up the time; nobody was reached")]
    NoTime,
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

/// A broadcast in progress.
#[derive(Debug)]
struct Broadcast {
    key: BroadcastKey,
    frame: String,
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
    ) -> Result<Self, BroadcastError> {
        let timestamp = started_at.to_timestamp();
        let frame = request.message.into_frame(id, timestamp).to_json();
        if frame.len() > MAX_FRAME_BYTES {
            return Err(BroadcastError::PayloadTooLarge { bytes: frame.len() });
        }
        Ok(Self {
            key: BroadcastKey {
                id: id.clone(),
                started_at,
            },
            frame,
            audience: Audience::new(request.target, request.exclude),
            segments: 1,
        })
    }

    /// The original broadcast of a record. It keeps its timestamp: some
    /// recipients already have the message.
    fn restore(id: &MessageId, record: &BroadcastRecord) -> Result<Self, BroadcastError> {
        if let Some(publish) = StoredPublish::from_json(&record.request) {
            return Ok(Self {
                key: BroadcastKey {
                    id: id.clone(),
                    started_at: record.started_at,
                },
                frame: publish.frame,
                audience: Audience::subscribers(publish.channel, publish.exclude),
                segments: record.segments,
            });
        }
        let request = BroadcastRequest::parse(&record.request).map_err(|error| StoreError {
            operation: "reading a broadcast",
            cause: error.to_string(),
        })?;
        Ok(Self {
            segments: record.segments,
            ..Self::new(id, request, record.started_at)?
        })
    }

    /// When its record and segments may be deleted.
    fn expires_at(&self) -> UnixSeconds {
        expires_at(self.key.started_at)
    }
}

fn expires_at(started_at: UnixMillis) -> UnixSeconds {
    started_at.plus(MEMORY).to_seconds()
}
