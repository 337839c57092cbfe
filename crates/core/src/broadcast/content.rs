use std::sync::Arc;

use belfry_protocol::{
    Address, Batch, BroadcastRequest, Envelope, FrameId, MAX_FRAME_BYTES, MessageFrame, MessageId,
    Notice, Position, ServerFrame, Target, Version,
};

use super::{BroadcastError, Close, MEMORY, Post};
use crate::channels::{ChannelRules, History};
use crate::connections::Recipient;
use crate::log::{
    AppendId, Appended, Appender, LogKey, MAX_UNPLACED_BYTES, Message, POSITION_BYTES,
};
use crate::ports::{Clock, LogAppends, LogReads, Metrics, Randomness, StoreError};
use crate::time::UnixMillis;

/// What a broadcast sends.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Everyone gets these frames.
    Frames(Frames),
    /// The message is appended to a log, or to one for each user, before its
    /// recipients are listed. Then the frame has its position there.
    Kept(Box<KeptMessage>),
}

/// What each recipient gets.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    /// In order.
    single: Arc<[Box<str>]>,
    /// All of them in one frame, if there are several.
    batch: Option<Arc<[Box<str>]>>,
    /// Whether the connection is closed after them.
    close: bool,
}

impl Frames {
    pub(super) fn one(frame: String) -> Self {
        Self {
            single: [frame.into_boxed_str()].into(),
            batch: None,
            close: false,
        }
    }

    /// A frame that the connection is closed after.
    pub(super) fn last(frame: String) -> Self {
        Self {
            close: true,
            ..Self::one(frame)
        }
    }

    /// The frames of messages that were sent together.
    fn together(frames: Vec<String>, sent_at: UnixMillis) -> Self {
        let batch = (frames.len() > 1).then(|| {
            let batch = ServerFrame::Batch(Envelope {
                version: Version,
                id: None,
                timestamp: Some(sent_at.to_timestamp()),
                data: Batch {
                    messages: frames.iter().cloned().map(MessageFrame::new).collect(),
                },
                correlation_id: None,
            });
            [batch.to_json().into_boxed_str()].into()
        });
        let single = frames.into_iter().map(String::into_boxed_str);
        Self {
            single: single.collect(),
            batch,
            close: false,
        }
    }

    pub(super) fn to_recipient(&self, recipient: Recipient) -> Post {
        let batch = self.batch.as_ref().filter(|_| recipient.accepts_batch);
        Post {
            frames: batch.unwrap_or(&self.single).clone(),
            accepted: 0,
            close: if self.close {
                Close::AfterFrames
            } else {
                Close::Never
            },
            recipient,
        }
    }
}

/// A message that is to be kept, or several that are kept together.
#[derive(Debug, Clone)]
pub(super) struct KeptMessage {
    id: MessageId,
    sent_at: UnixMillis,
    notices: Vec<(FrameId, Notice)>,
    address: Address,
    history: History,
}

impl Content {
    /// The content of a request, if it is small enough.
    pub(super) fn of(
        request: &BroadcastRequest,
        id: &MessageId,
        sent_at: UnixMillis,
        rules: &ChannelRules,
    ) -> Result<Self, BroadcastError> {
        let address = match &request.target {
            Target::User { .. } | Target::Users { .. } => Some(Address::Me),
            Target::All {} => Some(Address::All),
            Target::Channel { channel } => Some(Address::Channel(channel.clone())),
            Target::Connections { .. } => None,
        };
        let history = address.as_ref().and_then(|address| rules.history(address));
        let kept = address.clone().zip(history);
        if let Some((address, history)) = kept.filter(|_| request.store != Some(false)) {
            let message = KeptMessage {
                id: id.clone(),
                sent_at,
                notices: request.notices(id),
                address,
                history,
            };
            let lengths = message.frames(None).into_iter().map(|frame| frame.len());
            let lengths: Vec<_> = lengths.collect();
            let too_long = lengths.iter().find(|bytes| **bytes > MAX_UNPLACED_BYTES);
            if let Some(bytes) = too_long.copied() {
                return Err(BroadcastError::TooLargeToKeep { bytes });
            }
            if lengths.len() > 1 {
                // Each may have a position, and a comma.
                let bytes = lengths.iter().map(|bytes| bytes + POSITION_BYTES + 1);
                check_batch(bytes.sum::<usize>() + BATCH_BYTES)?;
            }
            return Ok(Self::Kept(Box::new(message)));
        }
        let channel = address.filter(|address| matches!(address, Address::Channel(_)));
        let frames = request.notices(id).into_iter().map(|(id, notice)| {
            let frame = notice.into_frame(id, sent_at.to_timestamp(), channel.clone(), None);
            frame.to_json()
        });
        let frames: Vec<_> = frames.collect();
        if let [frame] = frames.as_slice()
            && frame.len() > MAX_FRAME_BYTES
        {
            return Err(BroadcastError::PayloadTooLarge { bytes: frame.len() });
        }
        let frames = Frames::together(frames, sent_at);
        if let Some([batch]) = frames.batch.as_deref() {
            check_batch(batch.len())?;
        }
        Ok(Self::Frames(frames))
    }
}

/// A batch goes to API Gateway in one post.
fn check_batch(bytes: usize) -> Result<(), BroadcastError> {
    if bytes > MAX_FRAME_BYTES {
        return Err(BroadcastError::BatchTooLarge { bytes });
    }
    Ok(())
}

/// More than the fields of a `batch` frame take beside its messages.
const BATCH_BYTES: usize = 120;

impl KeptMessage {
    /// The frames, the first one with this position.
    fn frames(&self, first: Option<&Position>) -> Vec<String> {
        let positions = (0..).map(|number| {
            let first = first?;
            Some(Position {
                epoch: first.epoch.clone(),
                seq: first.seq + number,
            })
        });
        let frames = self.notices.iter().zip(positions);
        let frames = frames.map(|((id, notice), position)| {
            let (timestamp, address) = (self.sent_at.to_timestamp(), self.address.clone());
            let frame = notice
                .clone()
                .into_frame(id.clone(), timestamp, Some(address), position);
            frame.to_json()
        });
        frames.collect()
    }

    /// Where the first message is, if the newest one is there.
    fn first(&self, newest: &Position) -> Position {
        let before = self.notices.len() as u64 - 1;
        Position {
            epoch: newest.epoch.clone(),
            seq: newest.seq.saturating_sub(before),
        }
    }

    /// A broadcast's id is remembered with its request, so it names one
    /// message.
    fn append_id(&self) -> AppendId {
        AppendId(format!("broadcast#{}", self.id))
    }
}

/// A message that was appended to a log.
#[derive(Debug)]
pub(super) struct Published {
    /// Of several messages, that of the newest one.
    pub(super) position: Position,
    pub(super) frames: Frames,
    /// `None` if another invocation appended it.
    appended: Option<Appended>,
}

/// Appends the messages of broadcasts to logs.
pub(super) struct Publisher<'a, S, C, R, M> {
    pub(super) appender: Appender<'a, S, C, R, M>,
}

impl<S, C, R, M> Publisher<'_, S, C, R, M>
where
    S: LogAppends + LogReads,
    C: Clock,
    R: Randomness,
    M: Metrics,
{
    /// Appends the message, unless it was appended before. [`Self::store`] must
    /// follow.
    pub(super) async fn publish(
        &self,
        message: &KeptMessage,
        log: &LogKey,
    ) -> Result<Published, BroadcastError> {
        let id = message.append_id();
        let append = Message {
            id: &id,
            retention: message.history.retention,
            // An invocation may be retried, and a request repeated.
            remember_until: Some(message.sent_at.plus(MEMORY).to_seconds()),
            frames: |first: &Position| message.frames(Some(first)),
        };
        let appended = self.appender.append(log, &append).await?;
        Ok(Published {
            position: appended.position.clone(),
            frames: Frames::together(appended.frames.clone(), message.sent_at),
            appended: Some(appended),
        })
    }

    /// The message where an earlier invocation appended it.
    pub(super) async fn find(
        &self,
        message: &KeptMessage,
        log: &LogKey,
    ) -> Result<Option<Published>, StoreError> {
        let store = self.appender.store;
        let (id, now) = (message.append_id(), self.appender.clock.now());
        let position = store.find_append(log, &id, now).await?;
        Ok(position.map(|position| Published {
            frames: Frames::together(
                message.frames(Some(&message.first(&position))),
                message.sent_at,
            ),
            position,
            appended: None,
        }))
    }

    /// The message where an earlier invocation appended it, or else where this
    /// one does.
    pub(super) async fn find_or_publish(
        &self,
        message: &KeptMessage,
        log: &LogKey,
    ) -> Result<Published, BroadcastError> {
        if let Some(found) = self.find(message, log).await? {
            return Ok(found);
        }
        let published = self.publish(message, log).await?;
        self.store(log, &published).await;
        Ok(published)
    }

    /// Stores the entry of a message that was appended. If that fails, the next
    /// append does it.
    pub(super) async fn store(&self, log: &LogKey, published: &Published) {
        let Some(appended) = &published.appended else {
            return;
        };
        if let Err(error) = self.appender.store(log, appended).await {
            tracing::warn!(event = "channel.entry-not-stored", reason = %error, "could not store the entry of a message; the log's head has it");
        }
    }
}
