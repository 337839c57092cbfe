use std::sync::Arc;

use belfry_protocol::{
    Address, BroadcastRequest, MAX_FRAME_BYTES, MessageId, Notice, Position, Target,
};

use super::{BroadcastError, MEMORY};
use crate::channels::{ChannelRules, History};
use crate::log::{AppendId, Appended, Appender, LogKey, MAX_UNPLACED_BYTES, Message};
use crate::ports::{Clock, LogAppends, LogReads, Metrics, Randomness, StoreError};
use crate::time::UnixMillis;

/// What a broadcast sends.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Everyone gets this frame.
    Frame(Arc<str>),
    /// The message is appended to a log, or to one for each user, before its
    /// recipients are listed. Then the frame has its position there.
    Kept(Box<KeptMessage>),
}

/// A message that is to be kept.
#[derive(Debug, Clone)]
pub(super) struct KeptMessage {
    id: MessageId,
    sent_at: UnixMillis,
    notice: Notice,
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
                notice: request.message.clone(),
                address,
                history,
            };
            let bytes = message.frame(None).len();
            if bytes > MAX_UNPLACED_BYTES {
                return Err(BroadcastError::TooLargeToKeep { bytes });
            }
            return Ok(Self::Kept(Box::new(message)));
        }
        let channel = address.filter(|address| matches!(address, Address::Channel(_)));
        let notice = request.message.clone();
        let frame = notice.into_frame(id, sent_at.to_timestamp(), channel, None);
        let frame = frame.to_json();
        if frame.len() > MAX_FRAME_BYTES {
            return Err(BroadcastError::PayloadTooLarge { bytes: frame.len() });
        }
        Ok(Self::Frame(frame.into()))
    }
}

impl KeptMessage {
    fn frame(&self, position: Option<&Position>) -> String {
        let (timestamp, address) = (self.sent_at.to_timestamp(), self.address.clone());
        let notice = self.notice.clone();
        notice
            .into_frame(&self.id, timestamp, Some(address), position.cloned())
            .to_json()
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
    pub(super) position: Position,
    pub(super) frame: Arc<str>,
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
            frames: |position: &Position| vec![message.frame(Some(position))],
        };
        let appended = self.appender.append(log, &append).await?;
        Ok(Published {
            position: appended.position.clone(),
            frame: appended.newest_frame().into(),
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
        let position = store.find_append(log, &message.append_id()).await?;
        Ok(position.map(|position| Published {
            frame: message.frame(Some(&position)).into(),
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
