use belfry_protocol::{
    Action, Address, ConnectionId, ErrorCode, FrameId, MAX_FRAME_BYTES, MAX_STORED_FRAME_BYTES,
    Message, MessageData, MessageId, Position, Publish, Published, Refused, Sender, ServerFrame,
    UserId, Version,
};
use futures_util::future::join;

use super::history::may;
use super::permission::Judge;
use super::rejection::Rejection;
use crate::broadcast::{Fanout, MEMORY};
use crate::channels::History;
use crate::connections::Connection;
use crate::log::{AppendError, AppendId, Appended, Appender, LogKey, MAX_UNPLACED_BYTES};
use crate::ports::{
    Authorizer, Clock, Listing, LogAppends, LogReads, Metrics, NewBroadcasts, Outbox, Randomness,
    Removals, SegmentOffers, Subscribers, Subscriptions, Workers,
};
use crate::time::UnixMillis;

/// `publish`: appends the message to the channel's log, if it has one, then
/// posts it to the subscribers. In this order: a subscriber that the listing
/// does not find finds the message in the log.
pub(crate) struct PublishHandler<'a, A, S, O, C, M, W, R> {
    pub(crate) judge: Judge<'a, A, M>,
    pub(crate) fanout: Fanout<'a, S, O, C, M, W, R>,
}

impl<A, S, O, C, M, W, R> PublishHandler<'_, A, S, O, C, M, W, R>
where
    A: Authorizer,
    S: LogAppends
        + LogReads
        + NewBroadcasts
        + Removals
        + SegmentOffers
        + Subscribers
        + Subscriptions,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// `request_id` identifies the invocation: it names a message whose client
    /// gave it no id.
    pub(crate) async fn handle(
        &self,
        connection: &Connection,
        frame: Publish,
        request_id: &MessageId,
    ) -> Result<Published, Rejection> {
        let store = self.fanout.store;
        let now = self.fanout.clock.now();
        may(
            &self.judge,
            store,
            connection,
            &frame.channel,
            Action::Publish,
            now,
        )
        .await?;
        let exclude = (frame.echo != Some(true)).then(|| connection.id.clone());
        self.publish(&connection.user_id, frame, exclude, request_id)
            .await
    }

    /// Publishes a message of a user who may do it.
    pub(crate) async fn publish(
        &self,
        sender: &UserId,
        frame: Publish,
        exclude: Option<ConnectionId>,
        request_id: &MessageId,
    ) -> Result<Published, Rejection> {
        let now = self.fanout.clock.now();
        let address = Address::Channel(frame.channel.clone());
        let history = self.judge.rules.history(&address);
        let history = history.filter(|_| frame.store != Some(false));
        let message = Outgoing {
            id: frame.message_id.clone().unwrap_or(request_id.clone()),
            is_named: frame.message_id.is_some(),
            publish: frame,
            sender,
            request_id,
            sent_at: now,
        };
        match history {
            None => {
                let text = message.unstored()?;
                self.post(&message, text, exclude).await?;
                Ok(message.published(None))
            }
            Some(history) => self.append_and_post(&message, history, exclude).await,
        }
    }

    async fn append_and_post(
        &self,
        message: &Outgoing<'_>,
        history: History,
        exclude: Option<ConnectionId>,
    ) -> Result<Published, Rejection> {
        message.check_length()?;
        let log = LogKey::channel(message.publish.channel.as_str());
        let id = message.append_id();
        let remember_until = message.sent_at.plus(MEMORY).to_seconds();
        let appender = Appender {
            store: self.fanout.store,
            clock: self.fanout.clock,
            random: self.fanout.random,
            metrics: self.fanout.metrics,
        };
        let appended = appender
            .append(
                &log,
                &crate::log::Message {
                    id: &id,
                    retention: history.retention,
                    remember_until: message.is_named.then_some(remember_until),
                    frames: |position: &Position| vec![message.text(Some(position))],
                },
            )
            .await;
        let appended: Appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::Busy) => {
                let text = "too many messages are published to this channel; try again";
                return Err(Refused::new(ErrorCode::ChannelBusy, text).into());
            }
            Err(AppendError::Store(error)) => return Err(error.into()),
        };
        let frame = appended.newest_frame().to_owned();
        let (stored, posted) = join(
            appender.store(&log, &appended),
            self.post(message, frame, exclude),
        )
        .await;
        // The next publisher stores it.
        if let Err(error) = stored {
            tracing::warn!(event = "channel.entry-not-stored", reason = %error, "could not store the entry of a message; the log's head has it");
        }
        // The message is published: subscribers that it did not reach recover it.
        if let Err(Rejection::Failed(reason)) = posted {
            tracing::error!(
                event = "channel.post-failed",
                reason,
                "could not post a message to the subscribers of a channel"
            );
        }
        Ok(message.published(Some(appended.position)))
    }

    /// Posts to the subscribers, or has workers do it.
    async fn post(
        &self,
        message: &Outgoing<'_>,
        frame: String,
        exclude: Option<ConnectionId>,
    ) -> Result<(), Rejection> {
        let (channel, id) = (&message.publish.channel, message.request_id);
        Ok(self
            .fanout
            .run(channel, Listing::All, frame, exclude, id)
            .await?)
    }
}

/// A message of a client on its way.
struct Outgoing<'a> {
    id: MessageId,
    is_named: bool,
    publish: Publish,
    sender: &'a UserId,
    /// Names the work of workers: unlike the message's id it is no client's to
    /// choose.
    request_id: &'a MessageId,
    sent_at: UnixMillis,
}

impl Outgoing<'_> {
    fn text(&self, position: Option<&Position>) -> String {
        ServerFrame::Message(Message {
            version: Version,
            id: FrameId::parse(self.id.as_str()).ok(),
            timestamp: Some(self.sent_at.to_timestamp()),
            channel: Some(Address::Channel(self.publish.channel.clone())),
            position: position.cloned(),
            from: Some(Sender {
                user_id: self.sender.clone(),
            }),
            data: MessageData {
                kind: self.publish.kind.clone(),
                data: self.publish.data.clone(),
            },
            correlation_id: None,
        })
        .to_json()
    }

    /// The frame of a message that is not kept.
    fn unstored(&self) -> Result<String, Rejection> {
        let text = self.text(None);
        if text.len() > MAX_FRAME_BYTES {
            return Err(too_large(MAX_FRAME_BYTES));
        }
        Ok(text)
    }

    fn check_length(&self) -> Result<(), Rejection> {
        if self.text(None).len() > MAX_UNPLACED_BYTES {
            return Err(too_large(MAX_STORED_FRAME_BYTES));
        }
        Ok(())
    }

    /// A client's ids are its own: another user's message with the same id is
    /// another message. The length keeps the two parts apart.
    fn append_id(&self) -> AppendId {
        if self.is_named {
            let user = self.sender;
            AppendId(format!(
                "publish#{}#{}#{user}",
                self.id.as_str().len(),
                self.id
            ))
        } else {
            AppendId(format!("request#{}", self.id))
        }
    }

    fn published(&self, position: Option<Position>) -> Published {
        Published {
            channel: self.publish.channel.clone(),
            message_id: self.id.clone(),
            position,
        }
    }
}

fn too_large(most: usize) -> Rejection {
    let text = format!("the message would have more than {most} bytes");
    Refused::new(ErrorCode::MessageTooLarge, text).into()
}
