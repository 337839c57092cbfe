//! Frames from clients: parse, count against the rate limit, answer.
//!
//! [`Dispatcher`] does what all frames share; each frame type has a file of
//! its own.

mod answer;
mod auth_refresh;
mod echo;
mod hello;
mod ping;
mod rejection;
#[cfg(test)]
mod tests;
mod token_bucket;
mod touch;

use std::time::Duration;

use belfry_protocol::{
    ClientFrame, ConnectionId, ErrorCode, FrameId, Limits, Refused, ServerFrame,
};

pub use answer::{Answer, FrameOutcome};
use auth_refresh::AuthRefreshHandler;
use rejection::Rejection;
pub use token_bucket::{BucketLevel, TokenBucket};

use crate::connections::{CloseReason, Closed, Connection, close_with_reason};
use crate::ports::{Clock, Metrics, Outbox, SessionRefresh, Sessions, TokenVerifier};
use crate::time::UnixMillis;

/// Handles `$default`: answers a client's frame.
#[derive(Debug)]
pub struct Dispatcher<V, S, O, C, M> {
    pub verifier: V,
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    /// The longest frame that is parsed, in bytes.
    pub max_message_bytes: usize,
    /// The message rate limit of a connection.
    pub messages_per_minute: u32,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

impl<V, S, O, C, M> Dispatcher<V, S, O, C, M>
where
    V: TokenVerifier,
    S: Sessions + SessionRefresh,
    O: Outbox,
    C: Clock,
    M: Metrics,
{
    /// Answers a frame. `body` is `None` if the message was not text.
    ///
    /// A connection without a live row is not served, because it would never
    /// receive a broadcast and its client should know; neither is one whose
    /// token has expired. Every frame counts towards its sender's rate limit,
    /// valid or not.
    pub async fn handle(&self, id: &ConnectionId, body: Option<&str>) -> Answer {
        let (frame_id, served) = match self.parse(body) {
            Ok(frame) => (frame.id().cloned(), self.serve(id, frame).await),
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
    async fn serve(&self, id: &ConnectionId, frame: ClientFrame) -> Result<Answer, Rejection> {
        let name = frame.type_name();
        let reply = match frame {
            ClientFrame::Ping(ping) => {
                self.touch(id).await?;
                Some(ping::reply(ping, self.now()))
            }
            ClientFrame::Hello(hello) => {
                let connection = self.touch(id).await?;
                Some(self.hello(hello, &connection))
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
                Some(Box::pin(handler.handle(id, refresh)).await?)
            }
        };
        Answer::served(name, reply)
    }

    fn hello(&self, hello: belfry_protocol::Bare, connection: &Connection) -> ServerFrame {
        let limits = Limits {
            max_message_bytes: self.max_message_bytes,
            messages_per_minute: self.bucket().frames_per_minute(),
        };
        hello::reply(
            hello,
            connection,
            limits,
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
