use std::time::Duration;

use belfry_protocol::{BearerToken, ChannelName, ConnectionId, MAX_CHANNELS, UserId};

use super::origin::is_own_origin;
use super::{Connection, ConnectionLimits, OriginPolicy};
use crate::channels::ChannelRules;
use crate::liveness::{Liveness, LivenessSettings};
use crate::ports::{
    Admission, Admissions, Admitted, Clock, JoinsPresence, MetricEvent, Metrics, Recoveries,
    StoreError, SubscribeResult, Subscription, Subscriptions, TokenVerifier, VerifyError,
};
use crate::time::UnixMillis;

/// The longest `userAgent` and `origin` that a row keeps, in bytes. With the
/// longest user id a row stays under one kilobyte, which is one write unit.
pub const MAX_KEPT_BYTES: usize = 80;

/// A request to open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub connection_id: ConnectionId,
    /// Start of the handshake, as reported by API Gateway.
    pub connected_at: UnixMillis,
    /// The host, and the port if there is one, that the client connected to.
    pub host: Option<String>,
    /// The `Origin` header. Several are joined by commas and match nothing.
    pub origin: Option<String>,
    /// Whether the client offers subprotocols, and none is the server's.
    pub only_unknown_subprotocols: bool,
    /// The token from each source that held one.
    pub tokens: Vec<(TokenSource, BearerToken)>,
    pub source_ip: String,
    pub user_agent: Option<String>,
    /// The client's other connection, which this one replaces.
    pub replaces: Option<ConnectionId>,
}

/// The part of a handshake that held a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// The `Authorization` header, which a page cannot set in a handshake.
    Authorization,
    Subprotocol,
    Query,
}

impl Handshake {
    /// Whether the client is certainly not a web page, although it sends an
    /// origin. Some libraries send the server's own with every handshake.
    ///
    /// Another origin proves nothing even then: a proxy in front of the stack
    /// may turn a page's cookie into the header.
    fn is_from_no_page(&self) -> bool {
        let authorized = matches!(self.tokens.as_slice(), [(TokenSource::Authorization, _)]);
        match (&self.origin, &self.host) {
            (Some(origin), Some(host)) => authorized && is_own_origin(origin, host),
            _ => false,
        }
    }
}

/// Why a handshake was refused. `Display` is for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A page that may not connect, or no origin although one is required.
    #[error("origin not allowed")]
    Origin,
    /// A browser drops a connection whose response selects none of its offers.
    #[error("the offered subprotocols do not include belfry.v1")]
    Subprotocol,
    /// Several sources hold a token, so it is undecided which one counts.
    #[error("more than one token source")]
    SeveralTokens,
    #[error("no token")]
    NoToken,
    /// The token is invalid, or cannot be checked now.
    #[error("token: {0}")]
    Token(VerifyError),
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Another handshake's row has this connection's id.
    #[error("connection id already in use")]
    IdTaken,
    #[error("the client left during the handshake")]
    Ended,
    #[error("connection limit reached")]
    AtCapacity,
    #[error("connection limit of this user reached")]
    UserAtCapacity,
    /// The token was issued before its user was signed out.
    #[error("signed out")]
    SignedOut,
}

/// Handles `$connect`: checks the client, then remembers it.
#[derive(Debug)]
pub struct Connect<V, S, C, M> {
    pub verifier: V,
    pub store: S,
    pub clock: C,
    pub metrics: M,
    pub origins: OriginPolicy,
    /// A row stops counting this long after its handshake: a little more than
    /// a connection can live.
    pub row_lifetime: Duration,
    pub liveness: LivenessSettings,
    pub limits: ConnectionLimits,
    /// They may subscribe every connection to a channel.
    pub rules: ChannelRules,
}

impl<V: TokenVerifier, S: Admissions + Subscriptions, C: Clock, M: Metrics> Connect<V, S, C, M> {
    /// Lets the client in or refuses it. Nothing is posted, because the
    /// upgrade is still pending.
    ///
    /// # Errors
    /// [`Refusal`]. There is no row then, except that [`Refusal::Store`] may
    /// leave one: a sweep finds that nobody is behind it.
    pub async fn handle(&self, handshake: Handshake) -> Result<UserId, Refusal> {
        let admitted = self.admit(handshake).await;
        self.metrics.record(match &admitted {
            Ok(_) => MetricEvent::ConnectionAccepted,
            Err(refusal) => MetricEvent::ConnectionRefused(refusal.clone()),
        });
        admitted
    }

    async fn admit(&self, handshake: Handshake) -> Result<UserId, Refusal> {
        let origin = handshake.origin.as_deref();
        let as_no_page = handshake.is_from_no_page() && self.origins.allows(None);
        if !as_no_page && !self.origins.allows(origin) {
            return Err(Refusal::Origin);
        }
        if handshake.only_unknown_subprotocols {
            return Err(Refusal::Subprotocol);
        }
        let token = match handshake.tokens.as_slice() {
            [] => return Err(Refusal::NoToken),
            [(_, token)] => token,
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
            expires_at: handshake.connected_at.plus(self.row_lifetime).to_seconds(),
            token_expires_at: identity.expires_at,
            claims: identity.claims,
            has_session: false,
            accepts_batch: false,
            first: None,
            origin: handshake.origin.map(bounded),
            source_ip: bounded(handshake.source_ip),
            user_agent: handshake.user_agent.map(bounded),
            liveness: Liveness::due_at(handshake.connected_at),
        };
        connection.liveness.due_at = self.liveness.next_due(&connection);
        let channels = self.rules.auto_subscribe(&connection.claims);
        connection.has_session = !channels.is_empty();
        let admission = Admission {
            connection: &connection,
            token_issued_at: identity.issued_at,
            replaces: handshake.replaces.as_ref(),
        };
        match self.store.admit(admission, self.limits).await? {
            Admitted::Yes if channels.is_empty() => Ok(connection.user_id),
            Admitted::Yes => Box::pin(self.subscribe(connection, channels)).await,
            Admitted::IdTaken => Err(Refusal::IdTaken),
            Admitted::Ended => Err(Refusal::Ended),
            Admitted::AtCapacity => Err(Refusal::AtCapacity),
            Admitted::UserAtCapacity => Err(Refusal::UserAtCapacity),
            Admitted::SignedOut => Err(Refusal::SignedOut),
        }
    }
}

impl<V, S: Subscriptions, C, M: Metrics> Connect<V, S, C, M> {
    /// Subscribes a connection that was admitted. A client that is let in
    /// relies on it.
    async fn subscribe(
        &self,
        connection: Connection,
        channels: Vec<ChannelName>,
    ) -> Result<UserId, Refusal> {
        let ends_at = connection.token_expires_at;
        let wanted = channels.into_iter().map(|channel| Subscription {
            ends_at,
            allowed: None,
            actions: self.rules.actions(&channel, &connection.claims),
            presence: JoinsPresence::No,
            channel,
        });
        let wanted: Vec<_> = wanted.collect();
        let subscribed =
            self.store
                .subscribe(&connection, &wanted, MAX_CHANNELS, connection.connected_at);
        match subscribed.await? {
            SubscribeResult::Subscribed { .. } => {
                self.metrics.record(MetricEvent::Subscribed {
                    made: wanted.len() as u64,
                    refused: 0,
                    recoveries: Recoveries::default(),
                });
                Ok(connection.user_id)
            }
            SubscribeResult::Ended => Err(Refusal::Ended),
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
    use crate::ports::{Disconnections, SignOuts};
    use crate::testing::{
        FakeMetrics, FakeStore, FakeVerifier, LIMITS, LIVENESS, TestClock, connection_id, user_id,
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
            row_lifetime: Duration::from_secs(7_500),
            liveness: LIVENESS,
            rules: ChannelRules::default(),
            limits: LIMITS,
        }
    }

    fn by_query(token: &str) -> (TokenSource, BearerToken) {
        (TokenSource::Query, token.into())
    }

    fn handshake(connect: &Fixture) -> Handshake {
        Handshake {
            connection_id: connection_id("c1"),
            connected_at: connect.clock.now(),
            host: Some("ws.example.com".into()),
            origin: None,
            only_unknown_subprotocols: false,
            tokens: vec![by_query("good:alice")],
            source_ip: "192.0.2.1".into(),
            user_agent: None,
            replaces: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_becomes_a_row() {
        let connect = connect();
        let request = Handshake {
            origin: Some("https://app.example.com".into()),
            user_agent: Some("ü".repeat(300)),
            ..handshake(&connect)
        };
        assert_eq!(connect.handle(request.clone()).await, Ok(user_id("alice")));
        assert_eq!(connect.metrics.take(), [MetricEvent::ConnectionAccepted]);
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
        let first_check = request.connected_at.plus(LIVENESS.heartbeat_interval);
        assert_eq!(row.liveness, Liveness::due_at(first_check));
        assert_eq!(row.user_agent.unwrap().len(), MAX_KEPT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_subscribes_every_connection() {
        let mut connect = connect();
        let rules = r#"{"version":"1.0","channels":[
            {"match": "tenant:{tenant}", "allow": ["subscribe"], "autoSubscribe": true}]}"#;
        connect.rules = rules.parse().unwrap();
        let names = async |id: &str| connect.store.channels(&connection_id(id)).await.unwrap();
        let in_tenant = Handshake {
            tokens: vec![by_query("good:alice:acme")],
            ..handshake(&connect)
        };
        for _ in 0..2 {
            assert!(connect.handle(in_tenant.clone()).await.is_ok());
            let acme = ChannelName::parse("tenant:acme").unwrap();
            assert_eq!(names("c1").await, [acme]);
            let subscribed = MetricEvent::Subscribed {
                made: 1,
                refused: 0,
                recoveries: Recoveries::default(),
            };
            let counted = connect.metrics.take();
            assert_eq!(counted, [subscribed, MetricEvent::ConnectionAccepted]);
        }
        assert!(connect.store.row("c1").unwrap().has_session);
        let of_none = Handshake {
            connection_id: connection_id("c2"),
            ..handshake(&connect)
        };
        assert!(connect.handle(of_none).await.is_ok());
        assert!(names("c2").await.is_empty());
        assert!(!connect.store.row("c2").unwrap().has_session);
        connect.store.fail_next("subscribe");
        let refused = connect.handle(in_tenant).await;
        assert!(matches!(refused, Err(Refusal::Store(_))), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_handshake_is_the_same_handshake() {
        let connect = connect();
        let request = handshake(&connect);
        connect.handle(request.clone()).await.unwrap();
        assert!(connect.handle(request.clone()).await.is_ok());
        let other = Handshake {
            tokens: vec![by_query("good:bob")],
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
                    only_unknown_subprotocols: true,
                    ..base.clone()
                },
                Refusal::Subprotocol,
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
                    tokens: vec![by_query("good:alice"); 2],
                    ..base.clone()
                },
                Refusal::SeveralTokens,
            ),
            (
                Handshake {
                    tokens: vec![by_query("bad")],
                    ..base.clone()
                },
                rejected("not a token"),
            ),
            (
                Handshake {
                    tokens: vec![by_query("keys down")],
                    ..base.clone()
                },
                Refusal::Token(VerifyError::KeysUnavailable("down".into())),
            ),
        ] {
            assert_eq!(connect.handle(request).await, Err(expected.clone()));
            assert_eq!(
                connect.metrics.take(),
                [MetricEvent::ConnectionRefused(expected)]
            );
        }
        assert!(connect.store.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_own_origin_counts_as_none_beside_an_authorization_header() {
        let mut connect = connect();
        let request = |origin: &str, sources: &[TokenSource]| Handshake {
            origin: Some(origin.into()),
            tokens: sources
                .iter()
                .map(|source| (*source, "good:alice".into()))
                .collect(),
            ..handshake(&connect)
        };
        use TokenSource::{Authorization, Query, Subprotocol};
        let own = request("https://ws.example.com", &[Authorization]);
        let no_host = Handshake {
            host: None,
            ..own.clone()
        };
        let refused = [
            request("https://ws.example.com", &[Query]),
            request("https://ws.example.com", &[Subprotocol]),
            request("https://ws.example.com", &[]),
            request("https://ws.example.com", &[Authorization, Query]),
            request("http://ws.example.com", &[Authorization]),
            request("https://evil.test", &[Authorization]),
            request("null", &[Authorization]),
            request("", &[Authorization]),
            no_host,
        ];
        assert!(connect.handle(own.clone()).await.is_ok());
        for request in refused {
            let outcome = connect.handle(request.clone()).await;
            assert_eq!(outcome, Err(Refusal::Origin), "{request:?}");
        }
        connect.origins.allow_missing = false;
        assert_eq!(connect.handle(own).await, Err(Refusal::Origin));
    }

    #[tokio::test(start_paused = true)]
    async fn each_result_of_an_admission_has_its_refusal() {
        let mut connect = connect();
        let base = handshake(&connect);
        connect.limits = ConnectionLimits {
            total: 2,
            per_user: 1,
        };
        let named = |id: &str, user: &str| Handshake {
            connection_id: connection_id(id),
            tokens: vec![by_query(&format!("good:{user}"))],
            ..base.clone()
        };
        assert!(connect.handle(named("a1", "alice")).await.is_ok());
        let refused = connect.handle(named("a2", "alice")).await;
        assert_eq!(refused, Err(Refusal::UserAtCapacity));
        let successor = Handshake {
            replaces: Some(connection_id("a1")),
            ..named("a3", "alice")
        };
        assert!(connect.handle(successor).await.is_ok());
        assert!(connect.handle(named("b1", "bob")).await.is_ok());
        let refused = connect.handle(named("c1", "carol")).await;
        assert_eq!(refused, Err(Refusal::AtCapacity));
        let now = connect.clock.now();
        connect
            .store
            .sign_out(&user_id("dave"), now.to_seconds(), now)
            .await
            .unwrap();
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
    async fn a_failing_store_refuses() {
        let connect = connect();
        connect.store.fail_from_now_on();
        let refusal = connect.handle(handshake(&connect)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Store(_)));
    }
}
