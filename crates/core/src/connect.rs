//! A client wants to connect.

use std::time::Duration;

use belfry_protocol::{BearerToken, ConnectionId, UserId};

use crate::connection::{Connection, Watch};
use crate::origin::OriginPolicy;
use crate::ports::{
    Admission, Clock, ConnectionStore, Inserted, Measured, Metrics, Places, StoreError,
    TokenVerifier, VerifyError,
};
use crate::schedule::Schedule;
use crate::time::UnixMillis;

/// The longest `userAgent` and `origin` that a row keeps, in bytes: with the
/// longest user id a row stays under one kilobyte, which is one write unit.
pub const MAX_KEPT_BYTES: usize = 96;

/// A request for a connection, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// API Gateway's name for the connection.
    pub connection_id: ConnectionId,
    /// When API Gateway began the handshake.
    pub connected_at: UnixMillis,
    /// The `Origin` header; several are joined by commas and match nothing.
    pub origin: Option<String>,
    /// The token from each place that held one.
    pub tokens: Vec<BearerToken>,
    /// The client's address.
    pub source_ip: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The client's other connection, whose place this one takes over.
    pub replaces: Option<ConnectionId>,
}

/// Why a handshake was refused. `Display` is for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A page that may not connect, or no origin where one is required.
    #[error("origin not allowed")]
    Origin,
    /// The token stands in more than one place, so which one counts is open.
    #[error("more than one token source")]
    SeveralTokens,
    /// No token at all.
    #[error("no token")]
    NoToken,
    /// The token is not good, or cannot be checked now.
    #[error("token: {0}")]
    Token(VerifyError),
    /// The row could not be written.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Another handshake's row has this connection's id.
    #[error("connection id already in use")]
    IdTaken,
    /// The client has left while its handshake was under way.
    #[error("the client has left")]
    Ended,
    /// The stack has as many connections as it may.
    #[error("no place left")]
    Full,
    /// The user has as many connections as allowed.
    #[error("too many connections of this user")]
    UserFull,
    /// The token was made before its user was signed out.
    #[error("signed out")]
    SignedOut,
}

/// How long rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// A row counts for nothing this long after its handshake: a little more
    /// than a connection can live.
    pub row: Duration,
}

/// The use case: check who wants in, then remember them.
#[derive(Debug)]
pub struct Connect<V, S, C, M> {
    /// Judges tokens.
    pub verifier: V,
    /// Keeps the rows.
    pub store: S,
    /// Tells the time.
    pub clock: C,
    /// Counts who came in and who did not.
    pub metrics: M,
    /// Judges origins.
    pub origins: OriginPolicy,
    /// How long rows live.
    pub lifetime: Lifetime,
    /// When connections are looked at.
    pub schedule: Schedule,
    /// How many connections there may be.
    pub places: Places,
}

impl<V: TokenVerifier, S: ConnectionStore, C: Clock, M: Metrics> Connect<V, S, C, M> {
    /// Lets the client in, or says why not. A row exists only for a client
    /// that was let in. Nothing is posted: the upgrade is still pending.
    ///
    /// # Errors
    /// [`Refusal`], after which there is no row (after [`Refusal::Store`]
    /// there may be one; a sweeper finds that nobody is behind it).
    pub async fn handle(&self, handshake: Handshake) -> Result<UserId, Refusal> {
        let admitted = self.admit(handshake).await;
        self.metrics.record(match &admitted {
            Ok(_) => Measured::Accepted,
            Err(refusal) => Measured::Refused(refusal.clone()),
        });
        admitted
    }

    async fn admit(&self, handshake: Handshake) -> Result<UserId, Refusal> {
        if !self.origins.allows(handshake.origin.as_deref()) {
            return Err(Refusal::Origin);
        }
        let token = match handshake.tokens.as_slice() {
            [] => return Err(Refusal::NoToken),
            [token] => token,
            _ => return Err(Refusal::SeveralTokens),
        };
        let now = self.clock.now();
        let identity = self
            .verifier
            .verify(token.reveal(), now)
            .await
            .map_err(Refusal::Token)?;
        let mut connection = Connection {
            id: handshake.connection_id,
            user_id: identity.user_id,
            connected_at: handshake.connected_at,
            last_seen_at: handshake.connected_at,
            expires_at: handshake.connected_at.plus(self.lifetime.row).to_seconds(),
            token_expires_at: identity.expires_at,
            origin: handshake.origin.map(bounded),
            source_ip: bounded(handshake.source_ip),
            user_agent: handshake.user_agent.map(bounded),
            watch: Watch::until(handshake.connected_at),
        };
        connection.watch.due_at = self.schedule.next_due(&connection);
        let admission = Admission {
            connection: &connection,
            token_issued_at: identity.issued_at,
            replaces: handshake.replaces.as_ref(),
        };
        match self.store.insert(admission, self.places).await? {
            Inserted::Yes => Ok(connection.user_id),
            Inserted::Taken => Err(Refusal::IdTaken),
            Inserted::Ended => Err(Refusal::Ended),
            Inserted::Full => Err(Refusal::Full),
            Inserted::UserFull => Err(Refusal::UserFull),
            Inserted::SignedOut => Err(Refusal::SignedOut),
        }
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_KEPT_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::SweepStore;
    use crate::testing::{
        FakeMetrics, FakeStore, FakeVerifier, PLACES, SCHEDULE, TestClock, connection_id, user_id,
    };

    type Fixture = Connect<FakeVerifier, FakeStore, TestClock, FakeMetrics>;

    fn connect() -> Fixture {
        Connect {
            verifier: FakeVerifier,
            store: FakeStore::default(),
            clock: TestClock::default(),
            metrics: FakeMetrics::default(),
            origins: OriginPolicy {
                allowed: "https://app.example.com".parse().unwrap(),
                allow_missing: true,
            },
            lifetime: Lifetime {
                row: Duration::from_secs(7_500),
            },
            schedule: SCHEDULE,
            places: PLACES,
        }
    }

    fn handshake(connect: &Fixture) -> Handshake {
        Handshake {
            connection_id: connection_id("c1"),
            connected_at: connect.clock.now(),
            origin: None,
            tokens: vec!["good:alice".into()],
            source_ip: "192.0.2.1".into(),
            user_agent: None,
            replaces: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_becomes_a_row() {
        let connect = connect();
        let request = Handshake {
            origin: Some("https://app.example.com".into()),
            user_agent: Some("ü".repeat(300)),
            ..handshake(&connect)
        };
        assert_eq!(connect.handle(request.clone()).await, Ok(user_id("alice")));
        assert_eq!(connect.metrics.take(), [Measured::Accepted]);
        let row = connect.store.row("c1").unwrap();
        assert_eq!(row.user_id, user_id("alice"));
        assert_eq!(row.connected_at, request.connected_at);
        assert_eq!(
            row.expires_at,
            request
                .connected_at
                .plus(Duration::from_secs(7_500))
                .to_seconds()
        );
        let first_look = request.connected_at.plus(SCHEDULE.heartbeat_interval);
        assert_eq!(row.watch, Watch::until(first_look));
        assert_eq!(row.user_agent.unwrap().len(), MAX_KEPT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_handshake_is_the_same_handshake() {
        let connect = connect();
        let request = handshake(&connect);
        connect.handle(request.clone()).await.unwrap();
        assert!(connect.handle(request.clone()).await.is_ok());
        let other = Handshake {
            tokens: vec!["good:bob".into()],
            ..request
        };
        assert_eq!(connect.handle(other).await, Err(Refusal::IdTaken));
        assert_eq!(connect.store.row("c1").unwrap().user_id, user_id("alice"));
    }

    #[tokio::test(start_paused = true)]
    async fn each_refusal_writes_no_row() {
        let connect = connect();
        let base = handshake(&connect);
        let rejected = |reason| Refusal::Token(VerifyError::Rejected(reason));
        for (request, expected) in [
            (
                Handshake {
                    origin: Some("https://evil.test".into()),
                    ..base.clone()
                },
                Refusal::Origin,
            ),
            (
                Handshake {
                    tokens: vec![],
                    ..base.clone()
                },
                Refusal::NoToken,
            ),
            (
                Handshake {
                    tokens: vec!["good:alice".into(); 2],
                    ..base.clone()
                },
                Refusal::SeveralTokens,
            ),
            (
                Handshake {
                    tokens: vec!["bad".into()],
                    ..base.clone()
                },
                rejected("not a token"),
            ),
            (
                Handshake {
                    tokens: vec!["keys down".into()],
                    ..base.clone()
                },
                Refusal::Token(VerifyError::KeysUnavailable("down".into())),
            ),
        ] {
            assert_eq!(connect.handle(request).await, Err(expected.clone()));
            assert_eq!(connect.metrics.take(), [Measured::Refused(expected)]);
        }
        assert!(connect.store.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_lets_nobody_in_refuses() {
        let mut connect = connect();
        let base = handshake(&connect);
        connect.places = Places {
            total: 2,
            per_user: 1,
        };
        let named = |id: &str, user: &str| Handshake {
            connection_id: connection_id(id),
            tokens: vec![format!("good:{user}").as_str().into()],
            ..base.clone()
        };
        assert!(connect.handle(named("a1", "alice")).await.is_ok());
        let refused = connect.handle(named("a2", "alice")).await;
        assert_eq!(refused, Err(Refusal::UserFull));
        let successor = Handshake {
            replaces: Some(connection_id("a1")),
            ..named("a3", "alice")
        };
        assert!(connect.handle(successor).await.is_ok());
        assert!(connect.handle(named("b1", "bob")).await.is_ok());
        let refused = connect.handle(named("c1", "carol")).await;
        assert_eq!(refused, Err(Refusal::Full));
        let now = connect.clock.now();
        connect.store.sign_out(&user_id("dave"), now).await.unwrap();
        let refused = connect.handle(named("d1", "dave")).await;
        assert_eq!(refused, Err(Refusal::SignedOut));
        connect
            .store
            .disconnect(&connection_id("e1"), now)
            .await
            .unwrap();
        let refused = connect.handle(named("e1", "erin")).await;
        assert_eq!(refused, Err(Refusal::Ended));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_refuses() {
        let connect = connect();
        connect.store.fail_from_now_on();
        let refusal = connect.handle(handshake(&connect)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Store(_)));
    }
}
