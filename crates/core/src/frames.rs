//! Frames from clients: parse, count against the rate limit, answer.
//!
//! [`Dispatcher`] does what all frames share; each frame type has a file of
//! its own.

mod ack;
mod answer;
mod auth_refresh;
mod call;
mod counts;
mod echo;
mod hello;
mod history;
pub(crate) mod lock;
mod permission;
mod ping;
mod presence;
mod publish;
mod rejection;
mod rejudge;
mod subscribe;
#[cfg(test)]
mod tests;
mod token_bucket;
mod touch;
mod unsubscribe;

use std::time::Duration;

use belfry_protocol::{
    ClientFrame, ConnectionId, Envelope, ErrorCode, FrameId, Limits, MessageId, Refused,
    ServerFrame, Subscribe, Subscribed, UserId, Version,
};

pub use answer::{Answer, FrameOutcome};
use auth_refresh::AuthRefreshHandler;
use call::CallHandler;
pub(crate) use history::{Found, HistoryReader};
use lock::LockHandler;
pub(crate) use permission::{Caller, Judge, forbidden, forbidden_channel};
pub(crate) use publish::PublishHandler;
pub(crate) use rejection::Rejection;
use rejudge::rejudge;
pub(crate) use subscribe::PAGE_BYTES;
use subscribe::SubscribeHandler;
pub use token_bucket::{BucketLevel, TokenBucket};

use crate::broadcast::{DeliverySettings, Fanout, FanoutSettings};
use crate::channels::ChannelRules;
use crate::connections::{CloseReason, Closed, Connection, close_with_reason};
use crate::log::RecoveryReader;
use crate::ports::{
    Acks, Arrival, Authorizer, Callee, Clock, Leave, Left, Locks, LogAppends, LogReads,
    MetricEvent, Metrics, NewBroadcasts, Outbox, Presence, Randomness, Removals, SegmentOffers,
    SessionRefresh, Sessions, Subscribers, Subscriptions, TokenVerifier, Touched, Workers,
};
use crate::presence::{Announcement, Announcer, Change, PresenceSettings};
use crate::time::UnixMillis;

/// Handles `$default`: answers a client's frame.
#[derive(Debug)]
pub struct Dispatcher<V, A, S, O, C, M, W, R, L> {
    pub verifier: V,
    /// Asked what a user may do, if a channel's rule says so.
    pub authorizer: A,
    /// Serves the calls of clients.
    pub callee: L,
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    /// Post messages to the subscribers of large channels.
    pub workers: W,
    pub random: R,
    pub rules: ChannelRules,
    /// How messages are posted to the subscribers of small channels.
    pub delivery: DeliverySettings,
    pub fanout: FanoutSettings,
    pub presence: PresenceSettings,
    /// The longest frame that is parsed, in bytes.
    pub max_message_bytes: usize,
    /// The message rate limit of a connection.
    pub messages_per_minute: u32,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

impl<V, A, S, O, C, M, W, R, L> Dispatcher<V, A, S, O, C, M, W, R, L>
where
    V: TokenVerifier,
    A: Authorizer,
    S: Acks
        + Locks
        + LogAppends
        + LogReads
        + NewBroadcasts
        + Presence
        + Removals
        + SegmentOffers
        + SessionRefresh
        + Sessions
        + Subscribers
        + Subscriptions,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
    L: Callee,
{
    /// Answers a frame. `body` is `None` if the message was not text.
    ///
    /// A connection without a live row is not served, because it would never
    /// receive a broadcast and its client should know; neither is one whose
    /// token has expired. Every frame counts towards its sender's rate limit,
    /// valid or not. `request_id` identifies the invocation.
    pub async fn handle(
        &self,
        id: &ConnectionId,
        body: Option<&str>,
        request_id: &MessageId,
    ) -> Answer {
        let (frame_id, served) = match self.parse(body) {
            Ok(frame) => (frame.id().cloned(), self.serve(id, frame, request_id).await),
            Err(refused) => {
                let frame_id = refused.correlation_id.clone();
                let counted = self.touch(id).await;
                (frame_id, counted.and(Err(refused.into())))
            }
        };
        let answer = match served {
            Ok(answer) => answer,
            // Rare and long: keep its state out of every frame's future.
            Err(rejection) => Box::pin(self.reject(id, frame_id, rejection)).await,
        };
        if let Some(event) = answer.outcome.to_metric() {
            self.metrics.record(event);
        }
        answer
    }

    fn parse(&self, body: Option<&str>) -> Result<ClientFrame, Refused> {
        match body {
            Some(text) => ClientFrame::parse(text, self.max_message_bytes),
            None => Err(Refused::new(
                ErrorCode::InvalidMessage,
                "a frame is text, not binary",
            )),
        }
    }

    /// Counts the frame and calls its handler. A handler that counts the frame
    /// in a write of its own is not preceded by `touch`.
    async fn serve(
        &self,
        id: &ConnectionId,
        frame: ClientFrame,
        request_id: &MessageId,
    ) -> Result<Answer, Rejection> {
        let name = frame.type_name();
        let reply = match frame {
            ClientFrame::Ping(ping) => {
                self.touch(id).await?;
                Some(ping::reply(ping, self.now()))
            }
            ClientFrame::Hello(frame) => {
                let (frame_id, data) = (frame.id, frame.data.unwrap_or_default());
                let accepts_batch = data.accepts_batch();
                let (connection, asked) = match data.subscribe {
                    None if accepts_batch => (self.accept_batch(id).await?, None),
                    None => (self.touch(id).await?, None),
                    Some(subscribe) => {
                        let (connection, subscribed) =
                            Box::pin(self.subscribe(id, subscribe, accepts_batch)).await?;
                        (connection, Some(subscribed))
                    }
                };
                let reader = self.history(&connection.user_id);
                let auto = Box::pin(hello::auto_subscribed(&reader, &connection)).await?;
                let subscribes = hello::Subscribes { asked, auto };
                Some(self.hello(frame_id, &connection, subscribes))
            }
            ClientFrame::Echo(echo) => {
                self.touch(id).await?;
                Some(echo::reply(echo, self.now()))
            }
            // It answers the server's ping: counting it is all there is to do.
            ClientFrame::Pong(_) => {
                self.touch(id).await?;
                None
            }
            ClientFrame::AuthRefresh(refresh) => {
                let handler = AuthRefreshHandler {
                    verifier: &self.verifier,
                    store: &self.store,
                    clock: &self.clock,
                    bucket: self.bucket(),
                };
                // Rare and long, like a rejection.
                let (reply, connection) = Box::pin(handler.handle(id, refresh)).await?;
                if connection.has_session {
                    let judge = self.judge();
                    let (store, outbox, clock) = (&self.store, &self.outbox, &self.clock);
                    let left = Box::pin(rejudge(&judge, store, outbox, clock, &connection)).await?;
                    Box::pin(self.tell_of(&connection, &left)).await?;
                }
                Some(reply)
            }
            ClientFrame::Subscribe(frame) => {
                let (_, subscribed) = Box::pin(self.subscribe(id, frame.data, false)).await?;
                Some(ServerFrame::Subscribed(self.reply(frame.id, subscribed)))
            }
            ClientFrame::Unsubscribe(frame) => {
                let connection = self.touch(id).await?;
                let now = self.now();
                let handled = unsubscribe::handle(&self.store, &connection, frame.data, now);
                let (unsubscribed, left) = Box::pin(handled).await?;
                Box::pin(self.tell_of(&connection, &left)).await?;
                Some(ServerFrame::Unsubscribed(
                    self.reply(frame.id, unsubscribed),
                ))
            }
            ClientFrame::Publish(frame) => {
                let connection = self.touch(id).await?;
                let handler = self.publish_handler();
                let handled = handler.handle(&connection, frame.data, request_id);
                let published = Box::pin(handled).await?;
                Some(ServerFrame::Published(self.reply(frame.id, published)))
            }
            ClientFrame::History(frame) => {
                let connection = self.touch(id).await?;
                let (judge, reader) = (self.judge(), self.history(&connection.user_id));
                let read = history::read(&judge, &reader, &connection, frame.data);
                let page = Box::pin(read).await?;
                self.metrics.record(counts::of_history(&page.page));
                Some(ServerFrame::History(self.reply(frame.id, page)))
            }
            ClientFrame::Sync(frame) => {
                let connection = self.touch(id).await?;
                let reader = self.history(&connection.user_id);
                let synced = Box::pin(history::sync(&reader, &connection, frame.data)).await?;
                Some(ServerFrame::Synced(self.reply(frame.id, synced)))
            }
            ClientFrame::Presence(frame) => {
                let connection = self.touch(id).await?;
                let (judge, now) = (self.judge(), self.now());
                let (store, channel) = (&self.store, frame.data.channel);
                let read = presence::read(&judge, store, &connection, channel, self.presence, now);
                let present = Box::pin(read).await?;
                Some(ServerFrame::Presence(self.reply(frame.id, present)))
            }
            ClientFrame::Call(frame) => {
                let connection = self.touch(id).await?;
                let handler = CallHandler {
                    callee: &self.callee,
                    clock: &self.clock,
                    metrics: &self.metrics,
                };
                let result = Box::pin(handler.handle(&connection, frame.data)).await?;
                Some(ServerFrame::CallResult(self.reply(frame.id, result)))
            }
            ClientFrame::Ack(frame) => {
                let connection = self.touch(id).await?;
                let (judge, reader) = (self.judge(), self.history(&connection.user_id));
                let handled = ack::handle(&judge, &reader, &connection, frame.data);
                let acked = Box::pin(handled).await?;
                Some(ServerFrame::Acked(self.reply(frame.id, acked)))
            }
            ClientFrame::Lock(frame) => {
                let connection = self.touch(id).await?;
                let handler = self.locks();
                let locked = Box::pin(handler.lock(&connection, frame.data)).await?;
                Some(ServerFrame::Locked(self.reply(frame.id, locked)))
            }
            ClientFrame::Unlock(frame) => {
                let connection = self.touch(id).await?;
                let handler = self.locks();
                let unlocked = Box::pin(handler.unlock(&connection, frame.data)).await?;
                Some(ServerFrame::Unlocked(self.reply(frame.id, unlocked)))
            }
        };
        Answer::served(name, reply)
    }

    /// Counts a `hello` whose client accepts `batch` frames.
    async fn accept_batch(&self, id: &ConnectionId) -> Result<Connection, Rejection> {
        let (bucket, now) = (self.bucket(), self.now());
        match self.store.accept_batch(id, &bucket, false, now).await? {
            Touched::Live(connection) => Ok(connection),
            Touched::NotServed(why) => Err(why.into()),
        }
    }

    /// Subscribes and recovers. The frame's own write marks the connection.
    async fn subscribe(
        &self,
        id: &ConnectionId,
        frame: Subscribe,
        accepts_batch: bool,
    ) -> Result<(Connection, Subscribed), Rejection> {
        let (bucket, now) = (self.bucket(), self.now());
        let touched = if accepts_batch {
            self.store.accept_batch(id, &bucket, true, now).await?
        } else {
            self.store.begin_session(id, &bucket, now).await?
        };
        let connection = match touched {
            Touched::Live(connection) => connection,
            Touched::NotServed(why) => return Err(why.into()),
        };
        let handler = SubscribeHandler {
            judge: self.judge(),
            store: &self.store,
            history: self.history(&connection.user_id),
            presence: self.presence,
        };
        let (subscribed, changes) = handler.handle(&connection, frame).await?;
        self.announce_leaves(&changes.leaves).await;
        self.announce_arrivals(&connection, &changes.arrivals)
            .await?;
        if let Some(event) = counts::of_subscribed(&subscribed) {
            self.metrics.record(event);
        }
        Ok((connection, subscribed))
    }

    /// Tells the others in the channels that a user has come, or tells
    /// something else.
    async fn announce_arrivals(
        &self,
        connection: &Connection,
        arrivals: &[(Arrival, Option<u64>)],
    ) -> Result<(), Rejection> {
        let (announcer, user) = (self.announcer(), &connection.user_id);
        for (arrival, count) in arrivals {
            let change = if arrival.is_update {
                Change::Updated(&arrival.info)
            } else {
                Change::Joined(&arrival.info)
            };
            let announcement = Announcement {
                channel: &arrival.channel,
                user,
                change,
                at: arrival.at,
                count: *count,
            };
            let own = Some(&connection.id);
            announcer.announce(announcement, own).await?;
            self.store.announced(&arrival.channel, user).await?;
        }
        Ok(())
    }

    /// Releases what a connection has left in channels, and tells the others.
    async fn tell_of(&self, connection: &Connection, left: &Left) -> Result<(), Rejection> {
        self.announce_leaves(&left.leaves).await;
        self.locks().leave(connection, &left.locks).await
    }

    /// Tells the others in the channels that a user has left. If that fails, a
    /// sweep does it.
    async fn announce_leaves(&self, leaves: &[Leave]) {
        for leave in leaves {
            if let Err(error) = self.announcer().leave(leave).await {
                self.metrics.record(MetricEvent::AnnouncementFailed);
                tracing::warn!(event = "presence.not-announced", reason = %error, "could not announce that a user has left a channel; a sweep does it");
            }
        }
    }

    fn announcer(&self) -> Announcer<'_, S, O, C, M, W, R> {
        Announcer {
            fanout: self.fanout(),
            settings: self.presence,
        }
    }

    fn judge(&self) -> Judge<'_, A, M> {
        Judge {
            rules: &self.rules,
            authorizer: &self.authorizer,
            metrics: &self.metrics,
        }
    }

    fn history<'a>(&'a self, user: &'a UserId) -> HistoryReader<'a, S, C, R> {
        HistoryReader {
            rules: &self.rules,
            user,
            log: RecoveryReader {
                store: &self.store,
                clock: &self.clock,
                random: &self.random,
            },
        }
    }

    fn publish_handler(&self) -> PublishHandler<'_, A, S, O, C, M, W, R> {
        PublishHandler {
            judge: self.judge(),
            fanout: self.fanout(),
        }
    }

    fn locks(&self) -> LockHandler<'_, A, S, O, C, M, W, R> {
        LockHandler {
            judge: self.judge(),
            fanout: self.fanout(),
        }
    }

    fn fanout(&self) -> Fanout<'_, S, O, C, M, W, R> {
        Fanout {
            store: &self.store,
            outbox: &self.outbox,
            clock: &self.clock,
            metrics: &self.metrics,
            workers: &self.workers,
            random: &self.random,
            delivery: self.delivery,
            settings: self.fanout,
        }
    }

    /// A reply to a frame.
    fn reply<D>(&self, frame_id: Option<FrameId>, data: D) -> Envelope<D> {
        Envelope {
            version: Version,
            id: None,
            timestamp: Some(self.now().to_timestamp()),
            data,
            correlation_id: frame_id,
        }
    }

    fn hello(
        &self,
        frame_id: Option<FrameId>,
        connection: &Connection,
        subscribes: hello::Subscribes,
    ) -> ServerFrame {
        let limits = Limits {
            max_message_bytes: self.max_message_bytes,
            messages_per_minute: self.bucket().frames_per_minute(),
        };
        hello::reply(
            frame_id,
            connection,
            limits,
            subscribes,
            self.connection_lifetime,
            self.now(),
        )
    }

    async fn touch(&self, id: &ConnectionId) -> Result<Connection, Rejection> {
        touch::touch(&self.store, id, &self.bucket(), self.now()).await
    }

    fn bucket(&self) -> TokenBucket {
        TokenBucket::per_minute(self.messages_per_minute)
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    async fn reject(
        &self,
        id: &ConnectionId,
        frame_id: Option<FrameId>,
        rejection: Rejection,
    ) -> Answer {
        match rejection {
            Rejection::Refused(refused) => Answer::refused(
                Refused {
                    correlation_id: frame_id,
                    ..*refused
                },
                self.now(),
            ),
            Rejection::Failed(cause) => Answer::failed(cause, frame_id, self.now()),
            Rejection::Close(reason) => self.close(id, reason).await,
        }
    }

    async fn close(&self, id: &ConnectionId, reason: CloseReason) -> Answer {
        let outcome = match close_with_reason(&self.outbox, &self.clock, id, reason).await {
            Closed::Yes | Closed::Untold => FrameOutcome::Closed(reason.code),
            // A client may send and close: its row and its socket are gone
            // before its frame is handled.
            Closed::Gone => FrameOutcome::ClientLeft,
            Closed::Failed(error) => {
                tracing::warn!(event = "connection.close-failed", connectionId = %id, reason = %error, "could not close the connection");
                FrameOutcome::Closed(reason.code)
            }
        };
        Answer {
            frame: None,
            outcome,
        }
    }
}
