//! A client has sent a frame.

use std::time::Duration;

use belfry_protocol::{
    AuthRefresh, AuthRefreshed, Bare, ClientFrame, ConnectionId, Envelope, ErrorCode, FrameId,
    Limits, MAX_FRAME_BYTES, Refused, ServerFrame, Version, Welcome,
};

use crate::connection::Connection;
use crate::ports::{Clock, ConnectionStore, Outbox, PostError, TokenVerifier, VerifyError};
use crate::time::UnixMillis;

/// How long the error before a close may take. A client that reads so slowly
/// is closed without it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// The use case: check that the connection is known, then answer the frame.
#[derive(Debug)]
pub struct Receive<V, S, O, C> {
    /// Judges new tokens.
    pub verifier: V,
    /// Keeps the rows.
    pub store: S,
    /// Reaches the sockets.
    pub outbox: O,
    /// Tells the time.
    pub clock: C,
    /// What clients must stay within.
    pub limits: Limits,
    /// How long API Gateway lets a connection live.
    pub connection_lifetime: Duration,
}

/// What goes back to the client, and what the operator may know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The frame to send back, as JSON; `None` after the connection was closed.
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

impl<V: TokenVerifier, S: ConnectionStore, O: Outbox, C: Clock> Receive<V, S, O, C> {
    /// Answers a frame. `body` is `None` where the message was not text.
    ///
    /// A connection without a live row gets no service: it would never
    /// receive a broadcast, and its client should know. Neither does one
    /// whose token is over.
    pub async fn handle(&self, id: &ConnectionId, body: Option<&str>) -> Answer {
        let now = self.clock.now();
        let connection = match self.store.touch(id, now).await {
            Ok(Some(connection)) => connection,
            Ok(None) => return self.close_unknown(id).await,
            Err(error) => return Answer::failed(&error, None, now),
        };
        if connection.token_expires_at.has_passed(now) {
            return self.close_expired(id).await;
        }
        let parsed = match body {
            Some(text) => ClientFrame::parse(text, self.limits.max_message_bytes),
            None => Err(Refused::new(
                ErrorCode::InvalidMessage,
                "a frame is text, not binary",
            )),
        };
        let frame = match parsed {
            Ok(frame) => frame,
            Err(refused) => return Answer::refused(refused, now),
        };
        let name = frame.type_name();
        let reply = match self.reply(&connection, frame, now).await {
            Ok(reply) => reply.to_json(),
            Err(answer) => return answer,
        };
        // A number may be written longer than it came.
        if reply.len() > MAX_FRAME_BYTES {
            let refused = Refused::new(ErrorCode::MessageTooLarge, "the reply would be too large");
            return Answer::refused(refused, now);
        }
        Answer {
            frame: Some(reply),
            outcome: Outcome::Served(name),
        }
    }

    /// The reply to a frame, or what is answered instead.
    async fn reply(
        &self,
        connection: &Connection,
        frame: ClientFrame,
        now: UnixMillis,
    ) -> Result<ServerFrame, Answer> {
        let timestamp = Some(now.to_timestamp());
        Ok(match frame {
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
            ClientFrame::AuthRefresh(refresh) => ServerFrame::AuthRefreshed(Envelope {
                version: Version,
                id: None,
                timestamp,
                correlation_id: refresh.id.clone(),
                data: self.refresh(connection, refresh, now).await?,
            }),
        })
    }

    /// A newer token of the same user moves the session's end. One of another
    /// user ends the connection: whoever holds it is not who opened it.
    async fn refresh(
        &self,
        connection: &Connection,
        refresh: Envelope<AuthRefresh>,
        now: UnixMillis,
    ) -> Result<AuthRefreshed, Answer> {
        let refused = |why: &str| {
            let refused = Refused::new(ErrorCode::Unauthorized, why);
            let correlation_id = refresh.id.clone();
            Answer::refused(
                Refused {
                    correlation_id,
                    ..refused
                },
                now,
            )
        };
        let token = refresh.data.token.reveal();
        let identity = match self.verifier.verify(token, now).await {
            Ok(identity) => identity,
            Err(VerifyError::Rejected(reason)) => {
                tracing::info!(connectionId = %connection.id, reason, "a new token was not accepted");
                return Err(refused(
                    "the token is not accepted; the session goes on until its own ends",
                ));
            }
            Err(error @ VerifyError::KeysUnavailable(_)) => {
                return Err(Answer::failed(&error, refresh.id, now));
            }
        };
        // Fetching keys may have taken seconds, and what has ended meanwhile is
        // not revived.
        let now = self.clock.now();
        if connection.token_expires_at.has_passed(now) {
            return Err(self.close_expired(&connection.id).await);
        }
        if identity.user_id != connection.user_id {
            let reason = "a token of another user";
            tracing::warn!(connectionId = %connection.id, reason, "a session was not refreshed");
            let why = "the token belongs to another user; connect again";
            return Err(self
                .close(&connection.id, ErrorCode::Unauthorized, why)
                .await);
        }
        // The handshake's leeway is not for a session that runs.
        if identity.expires_at.has_passed(now) {
            return Err(refused(
                "the token has expired; the session goes on until its own ends",
            ));
        }
        let extended = self
            .store
            .extend_token(connection, identity.expires_at, now);
        match extended.await {
            Ok(Some(end)) => Ok(AuthRefreshed {
                token_expires_at: end.to_millis().to_timestamp(),
            }),
            Ok(None) => Err(self.close_unknown(&connection.id).await),
            Err(error) => Err(Answer::failed(&error, refresh.id, now)),
        }
    }

    async fn close_expired(&self, id: &ConnectionId) -> Answer {
        let why = "the token has expired; connect again with a new one";
        self.close(id, ErrorCode::TokenExpired, why).await
    }

    async fn close_unknown(&self, id: &ConnectionId) -> Answer {
        let why = "this connection is not known; connect again";
        self.close(id, ErrorCode::Unauthorized, why).await
    }

    fn welcome(&self, connection: &Connection) -> Welcome {
        let connection_ends = connection.connected_at.plus(self.connection_lifetime);
        Welcome {
            connection_id: connection.id.clone(),
            user_id: connection.user_id.clone(),
            connected_at: connection.connected_at.to_timestamp(),
            token_expires_at: connection.token_expires_at.to_millis().to_timestamp(),
            connection_expires_at: connection_ends.to_timestamp(),
            limits: self.limits,
        }
    }

    /// Posts the reason, then closes. A route response would leave only after
    /// this invocation, when the connection is already closed.
    async fn close(&self, id: &ConnectionId, code: ErrorCode, why: &str) -> Answer {
        let frame = Refused::new(code, why)
            .into_frame(self.clock.now().to_timestamp())
            .to_json();
        match self.outbox.post(id, &frame, LAST_WORDS_TIMEOUT).await {
            Ok(()) => {}
            // A client may send and close: its row is gone before its frame
            // is handled, and so is its socket.
            Err(PostError::Gone) => {
                return Answer {
                    frame: None,
                    outcome: Outcome::Gone,
                };
            }
            Err(error) => {
                tracing::warn!(connectionId = %id, reason = %error, "closing without a reason given");
            }
        }
        if let Err(error) = self.outbox.close(id).await {
            tracing::warn!(connectionId = %id, reason = %error, "could not close the connection");
        }
        Answer {
            frame: None,
            outcome: Outcome::Closed(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ConnectionStore;
    use crate::testing::{
        FakeOutbox, FakeStore, FakeVerifier, TestClock, connection, connection_id,
    };
    use crate::time::UnixSeconds;
    use serde_json::{Value, json};

    type Fixture = Receive<FakeVerifier, FakeStore, FakeOutbox, TestClock>;

    async fn receive() -> Fixture {
        let receive = Receive {
            verifier: FakeVerifier,
            store: FakeStore::default(),
            outbox: FakeOutbox::default(),
            clock: TestClock::default(),
            limits: Limits {
                max_message_bytes: 1_024,
            },
            connection_lifetime: Duration::from_secs(7_200),
        };
        receive
            .store
            .insert(&connection("c1", "alice"))
            .await
            .unwrap();
        receive.outbox.open("c1");
        receive
    }

    async fn send(receive: &Fixture, id: &str, body: &str) -> (Option<Value>, Outcome) {
        let answer = receive.handle(&connection_id(id), Some(body)).await;
        let frame = answer.frame.map(|f| serde_json::from_str(&f).unwrap());
        (frame, answer.outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn ping_hello_and_echo_are_answered() {
        let receive = receive().await;
        receive.clock.advance(Duration::from_secs(3));
        let (pong, _) = send(
            &receive,
            "c1",
            r#"{"type":"ping","version":"1.0","id":"1"}"#,
        )
        .await;
        assert_eq!(
            pong.unwrap(),
            json!({"type": "pong", "version": "1.0", "timestamp": "2026-01-01T00:00:03.000Z", "correlationId": "1"})
        );
        let (echo, _) = send(
            &receive,
            "c1",
            r#"{"type":"echo","version":"1.0","data":[1]}"#,
        )
        .await;
        assert_eq!(echo.unwrap()["data"], json!([1]));
        let (welcome, outcome) = send(&receive, "c1", r#"{"type":"hello","version":"1.0"}"#).await;
        assert_eq!(
            welcome.unwrap()["data"],
            json!({
                "connectionId": "c1",
                "userId": "alice",
                "connectedAt": "2026-01-01T00:00:00.000Z",
                "tokenExpiresAt": "2026-01-01T01:00:00.000Z",
                "connectionExpiresAt": "2026-01-01T02:00:00.000Z",
                "limits": {"maxMessageBytes": 1024},
            })
        );
        assert_eq!(outcome, Outcome::Served("hello"));
        assert_eq!(
            receive.store.row("c1").unwrap().last_seen_at,
            receive.clock.now()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_frame_is_refused_and_the_connection_stays() {
        let receive = receive().await;
        let (frame, outcome) = send(&receive, "c1", "nonsense").await;
        assert_eq!(frame.unwrap()["data"]["code"], "INVALID_MESSAGE");
        assert_eq!(outcome, Outcome::Refused(ErrorCode::InvalidMessage));
        let answer = receive.handle(&connection_id("c1"), None).await;
        assert_eq!(answer.outcome, Outcome::Refused(ErrorCode::InvalidMessage));
        assert!(receive.outbox.is_open("c1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_could_not_be_sent_is_refused() {
        let receive = Receive {
            limits: Limits {
                max_message_bytes: MAX_FRAME_BYTES,
            },
            ..receive().await
        };
        let list = vec!["1e15"; 20_000].join(",");
        let frame = format!(r#"{{"type":"echo","version":"1.0","data":[{list}]}}"#);
        let (frame, outcome) = send(&receive, "c1", &frame).await;
        assert_eq!(frame.unwrap()["data"]["code"], "MESSAGE_TOO_LARGE");
        assert_eq!(outcome, Outcome::Refused(ErrorCode::MessageTooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_row_is_told_and_closed() {
        let receive = receive().await;
        receive.store.remove(&connection_id("c1")).await.unwrap();
        let (frame, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(
            (frame, outcome),
            (None, Outcome::Closed(ErrorCode::Unauthorized))
        );
        let posted: Value = serde_json::from_str(&receive.outbox.posted("c1")[0]).unwrap();
        assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
        assert!(!receive.outbox.is_open("c1"));
        assert!(receive.store.is_empty(), "no frame may create a row");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_left_meanwhile_is_left_alone() {
        let receive = receive().await;
        let (frame, outcome) = send(&receive, "left", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!((frame, outcome), (None, Outcome::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_row_is_no_row() {
        let receive = receive().await;
        receive.clock.advance(Duration::from_secs(7_500));
        let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(outcome, Outcome::Closed(ErrorCode::Unauthorized));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_its_token() {
        let receive = receive().await;
        receive
            .clock
            .set(UnixSeconds(receive.store.row("c1").unwrap().token_expires_at.0).to_millis());
        let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(outcome, Outcome::Closed(ErrorCode::TokenExpired));
        assert!(!receive.outbox.is_open("c1"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_closes_even_where_the_reason_cannot_be_told() {
        let receive = receive().await;
        receive.outbox.answer("c2", [Err(PostError::TimedOut)]);
        let (_, outcome) = send(&receive, "c2", "x").await;
        assert_eq!(outcome, Outcome::Closed(ErrorCode::Unauthorized));
        assert!(!receive.outbox.is_open("c2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_store_is_an_internal_error() {
        let receive = receive().await;
        receive.store.fail_from_now_on();
        let (frame, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(frame.unwrap()["data"]["code"], "INTERNAL");
        assert!(matches!(outcome, Outcome::Failed(_)));
        assert!(receive.outbox.is_open("c1"));
    }

    fn refresh(token: &str) -> String {
        json!({"type": "auth.refresh", "version": "1.0", "id": "r", "data": {"token": token}})
            .to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_of_the_same_user_moves_the_sessions_end() {
        let receive = receive().await;
        receive.clock.advance(Duration::from_secs(3_000));
        let (frame, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
        assert_eq!(
            frame.unwrap(),
            json!({
                "type": "auth.refreshed",
                "version": "1.0",
                "timestamp": "2026-01-01T00:50:00.000Z",
                "data": {"tokenExpiresAt": "2026-01-01T01:50:00.000Z"},
                "correlationId": "r",
            })
        );
        assert_eq!(outcome, Outcome::Served("auth.refresh"));
        // Past the first token's end and before the second one's.
        receive.clock.advance(Duration::from_secs(3_000));
        let (_, outcome) = send(&receive, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
        assert_eq!(outcome, Outcome::Served("ping"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_another_user_ends_the_connection() {
        let receive = receive().await;
        let (frame, outcome) = send(&receive, "c1", &refresh("good:mallory")).await;
        assert_eq!(
            (frame, outcome),
            (None, Outcome::Closed(ErrorCode::Unauthorized))
        );
        let posted: Value = serde_json::from_str(&receive.outbox.posted("c1")[0]).unwrap();
        assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
        assert!(!receive.outbox.is_open("c1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_not_good_changes_nothing() {
        let receive = receive().await;
        let before = receive.store.row("c1").unwrap();
        let (frame, outcome) = send(&receive, "c1", &refresh("bad")).await;
        let frame = frame.unwrap();
        assert_eq!(frame["data"]["code"], "UNAUTHORIZED");
        assert_eq!(frame["correlationId"], "r");
        assert_eq!(outcome, Outcome::Refused(ErrorCode::Unauthorized));
        let (frame, outcome) = send(&receive, "c1", &refresh("keys down")).await;
        let frame = frame.unwrap();
        assert_eq!(frame["data"]["code"], "INTERNAL");
        assert_eq!(frame["correlationId"], "r");
        assert!(matches!(outcome, Outcome::Failed(_)));
        // Good at a handshake, whose leeway allows for clocks that differ.
        let (frame, outcome) = send(&receive, "c1", &refresh("late:alice")).await;
        assert_eq!(frame.unwrap()["data"]["code"], "UNAUTHORIZED");
        assert_eq!(outcome, Outcome::Refused(ErrorCode::Unauthorized));
        assert!(receive.outbox.is_open("c1"));
        assert_eq!(receive.store.row("c1").unwrap(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_over_cannot_be_refreshed() {
        let receive = receive().await;
        let end = receive.store.row("c1").unwrap().token_expires_at;
        receive.clock.set(end.to_millis());
        let (_, outcome) = send(&receive, "c1", &refresh("good:alice")).await;
        assert_eq!(outcome, Outcome::Closed(ErrorCode::TokenExpired));
    }

    /// A key server that takes its time.
    struct SlowVerifier(Duration);

    impl TokenVerifier for SlowVerifier {
        async fn verify(
            &self,
            token: &str,
            now: UnixMillis,
        ) -> Result<crate::ports::Identity, VerifyError> {
            tokio::time::sleep(self.0).await;
            FakeVerifier.verify(token, now).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_while_keys_are_fetched_has_ended() {
        let Receive {
            store,
            outbox,
            clock,
            limits,
            connection_lifetime,
            ..
        } = receive().await;
        let slow = Receive {
            verifier: SlowVerifier(Duration::from_secs(2)),
            store,
            outbox,
            clock,
            limits,
            connection_lifetime,
        };
        let row = slow.store.row("c1").unwrap();
        slow.clock
            .set(UnixMillis(row.token_expires_at.to_millis().0 - 1_000));
        let answer = slow
            .handle(&connection_id("c1"), Some(&refresh("good:alice")))
            .await;
        assert_eq!(answer.outcome, Outcome::Closed(ErrorCode::TokenExpired));
        let after = slow.store.row("c1").unwrap();
        assert_eq!(after.token_expires_at, row.token_expires_at);
    }
}
