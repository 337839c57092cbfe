//! A client has sent a frame.

mod refresh;
#[cfg(test)]
mod tests;

use std::time::Duration;

use belfry_protocol::{
    Bare, ClientFrame, ConnectionId, Envelope, ErrorCode, FrameId, Limits, MAX_FRAME_BYTES,
    Refused, ServerFrame, Version, Welcome,
};

use crate::budget::Budget;
use crate::connection::Connection;
use crate::last_words::{self, Closing};
use crate::ports::{Clock, ConnectionStore, Measured, Metrics, NotServed, Outbox, TokenVerifier};
use crate::time::UnixMillis;

/// How many frames may be refused for the budget before the connection is
/// closed, counted since its bucket was last full. A client that waits as it
/// is told never comes near.
const MAX_REFUSALS: u32 = 100;

/// The use case: check that the connection is known, then answer the frame.
#[derive(Debug)]
pub struct Receive<V, S, O, C, M> {
    /// Judges new tokens.
    pub verifier: V,
    /// Keeps the rows.
    pub store: S,
    /// Reaches the sockets.
    pub outbox: O,
    /// Tells the time.
    pub clock: C,
    /// Counts frames.
    pub metrics: M,
    /// The longest frame that is read, in bytes.
    pub max_message_bytes: usize,
    /// How many frames a minute a connection may send.
    pub messages_per_minute: u32,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

/// What goes back to the client, and what the operator may know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The frame to send back, as JSON; `None` for a frame that needs no
    /// answer, and after the connection was closed.
    pub frame: Option<String>,
    /// What happened.
    pub outcome: Outcome,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered; the frame's type.
    Served(&'static str),
    /// Refused, and the connection stays open.
    Refused(ErrorCode),
    /// The connection was told why and closed.
    Closed(ErrorCode),
    /// The client had closed before its frame was handled: nothing to do.
    Gone,
    /// The store or the key server failed, as the text says to the operator;
    /// the client may try again.
    Failed(String),
}

impl Answer {
    fn served(frame: &ServerFrame, name: &'static str, now: UnixMillis) -> Self {
        let reply = frame.to_json();
        // A number may be written longer than it came.
        if reply.len() > MAX_FRAME_BYTES {
            let refused = Refused::new(ErrorCode::MessageTooLarge, "the reply would be too large");
            return Self::refused(refused, now);
        }
        Self {
            frame: Some(reply),
            outcome: Outcome::Served(name),
        }
    }

    fn refused(refused: Refused, now: UnixMillis) -> Self {
        Self {
            outcome: Outcome::Refused(refused.code),
            frame: Some(refused.into_frame(now.to_timestamp()).to_json()),
        }
    }

    fn failed(problem: &impl ToString, correlation_id: Option<FrameId>, now: UnixMillis) -> Self {
        let frame = Refused {
            correlation_id,
            ..Refused::new(ErrorCode::Internal, "try again later")
        };
        Self {
            frame: Some(frame.into_frame(now.to_timestamp()).to_json()),
            outcome: Outcome::Failed(problem.to_string()),
        }
    }
}

/// Every frame counts once, but for those of a client that has left.
fn measured(outcome: &Outcome) -> Option<Measured> {
    match outcome {
        Outcome::Served(name) => Some(Measured::Served(name)),
        Outcome::Refused(code) | Outcome::Closed(code) => Some(Measured::FrameRefused(*code)),
        Outcome::Failed(_) => Some(Measured::FrameRefused(ErrorCode::Internal)),
        Outcome::Gone => None,
    }
}

impl<V: TokenVerifier, S: ConnectionStore, O: Outbox, C: Clock, M: Metrics> Receive<V, S, O, C, M> {
    /// Answers a frame. `body` is `None` where the message was not text.
    ///
    /// A connection without a live row gets no service: it would never
    /// receive a broadcast, and its client should know. Neither does one
    /// whose token is over. Every frame costs its sender a token of the
    /// budget, whatever is wrong with it.
    pub async fn handle(&self, id: &ConnectionId, body: Option<&str>) -> Answer {
        let answer = match self.parse(body) {
            // Rare and long: its state must not be a part of every frame's.
            Ok(ClientFrame::AuthRefresh(frame)) => Box::pin(self.refresh(id, frame)).await,
            Ok(frame) => {
                let touched = self.touch(id, frame.id()).await;
                touched.map(|connection| self.reply(&connection, frame))
            }
            Err(refused) => self.refuse(id, refused).await,
        };
        let answer = answer.unwrap_or_else(|instead| instead);
        if let Some(measured) = measured(&answer.outcome) {
            self.metrics.record(measured);
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

    /// The reply to a frame that is to be served.
    fn reply(&self, connection: &Connection, frame: ClientFrame) -> Answer {
        let now = self.clock.now();
        let (name, timestamp) = (frame.type_name(), Some(now.to_timestamp()));
        let reply = match frame {
            ClientFrame::Ping(ping) => ServerFrame::Pong(Bare {
                timestamp,
                correlation_id: ping.id,
                ..Bare::default()
            }),
            ClientFrame::Hello(hello) => ServerFrame::Welcome(Envelope {
                version: Version,
                id: None,
                timestamp,
                data: self.welcome(connection),
                correlation_id: hello.id,
            }),
            ClientFrame::Echo(echo) => ServerFrame::Echo(Envelope {
                version: Version,
                id: None,
                timestamp,
                data: echo.data,
                correlation_id: echo.id,
            }),
            // A sign of life, which it has given; `refresh` has its own way.
            ClientFrame::Pong(_) | ClientFrame::AuthRefresh(_) => {
                return Answer {
                    frame: None,
                    outcome: Outcome::Served(name),
                };
            }
        };
        Answer::served(&reply, name, now)
    }

    fn welcome(&self, connection: &Connection) -> Welcome {
        let connection_ends = connection.connected_at.plus(self.connection_lifetime);
        Welcome {
            connection_id: connection.id.clone(),
            user_id: connection.user_id.clone(),
            connected_at: connection.connected_at.to_timestamp(),
            token_expires_at: connection.token_expires_at.to_millis().to_timestamp(),
            connection_expires_at: connection_ends.to_timestamp(),
            limits: Limits {
                max_message_bytes: self.max_message_bytes,
                messages_per_minute: self.messages_per_minute,
            },
        }
    }

    /// Answers with the refusal, once the frame is counted.
    async fn refuse(&self, id: &ConnectionId, refused: Refused) -> Result<Answer, Answer> {
        self.touch(id, refused.correlation_id.as_ref()).await?;
        Ok(Answer::refused(refused, self.clock.now()))
    }

    /// Counts the frame, or says what is answered instead of its reply.
    async fn touch(
        &self,
        id: &ConnectionId,
        frame_id: Option<&FrameId>,
    ) -> Result<Connection, Answer> {
        let touched = self.store.touch(id, &self.budget(), self.clock.now()).await;
        match touched {
            Ok(Ok(connection)) => Ok(connection),
            // Rare, too.
            Ok(Err(why)) => Err(Box::pin(self.not_served(id, why, frame_id)).await),
            Err(error) => Err(self.failed(&error, frame_id)),
        }
    }

    fn failed(&self, problem: &impl ToString, frame_id: Option<&FrameId>) -> Answer {
        Answer::failed(problem, frame_id.cloned(), self.clock.now())
    }

    fn budget(&self) -> Budget {
        Budget::per_minute(self.messages_per_minute)
    }

    /// What a client gets whose frame is not served.
    async fn not_served(
        &self,
        id: &ConnectionId,
        why: NotServed,
        frame_id: Option<&FrameId>,
    ) -> Answer {
        match why {
            NotServed::TokenExpired => {
                let why = "the token has expired; connect again with a new one";
                self.close(id, ErrorCode::TokenExpired, why).await
            }
            NotServed::OverBudget { refusals, .. } if refusals >= MAX_REFUSALS => {
                let why = "too many messages, for too long; connect again later";
                self.close(id, ErrorCode::RateLimited, why).await
            }
            NotServed::OverBudget { retry_after, .. } => {
                let wait = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                let why = format!("too many messages; wait {wait} ms");
                let refused = Refused {
                    correlation_id: frame_id.cloned(),
                    retry_after_ms: Some(wait),
                    ..Refused::new(ErrorCode::RateLimited, why)
                };
                Answer::refused(refused, self.clock.now())
            }
            NotServed::Unknown => {
                let why = "this connection is not known; connect again";
                self.close(id, ErrorCode::Unauthorized, why).await
            }
        }
    }

    async fn close(&self, id: &ConnectionId, code: ErrorCode, why: &str) -> Answer {
        let outcome = match last_words::close(&self.outbox, &self.clock, id, code, why).await {
            Closing::Closed => Outcome::Closed(code),
            // A client may send and close: its row is gone before its frame
            // is handled, and so is its socket.
            Closing::Gone => Outcome::Gone,
            Closing::Failed(error) => {
                tracing::warn!(connectionId = %id, reason = %error, "could not close the connection");
                Outcome::Closed(code)
            }
        };
        Answer {
            frame: None,
            outcome,
        }
    }
}
