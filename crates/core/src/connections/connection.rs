use std::time::Duration;

use belfry_protocol::{ConnectionId, UserId};

use crate::channels::Claims;
use crate::liveness::Liveness;
use crate::ports::Randomness;
use crate::time::{UnixMillis, UnixSeconds};

/// A connection as Belfry remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The id that API Gateway assigned.
    pub id: ConnectionId,
    /// The user of the token that opened it.
    pub user_id: UserId,
    /// Start of the handshake, as reported by API Gateway.
    pub connected_at: UnixMillis,
    /// When the client last sent a frame.
    pub last_seen_at: UnixMillis,
    /// From then on the row does not count, even if it still exists.
    pub expires_at: UnixSeconds,
    /// End of the token, and with it of the session.
    pub token_expires_at: UnixSeconds,
    /// The claims of the token that channel rules name.
    pub claims: Claims,
    /// Whether it was ever about to subscribe to a channel. Then its end is
    /// also that of its subscriptions.
    pub has_session: bool,
    /// Whether the client accepts `batch` frames.
    pub accepts_batch: bool,
    /// The first of the connections that have replaced one another, if this is
    /// not the first itself.
    pub first: Option<ConnectionId>,
    /// The page that opened it; absent for clients other than browsers.
    pub origin: Option<String>,
    /// The client's address as API Gateway saw it.
    pub source_ip: String,
    pub user_agent: Option<String>,
    pub liveness: Liveness,
}

/// The end of a session after a sign-out. No clock is so slow that it would
/// seem to last.
pub const END_BY_SIGN_OUT: UnixSeconds = UnixSeconds(0);

impl Connection {
    /// The name under which it holds locks: the same for a connection and the one
    /// that replaces it.
    #[must_use]
    pub fn lock_owner(&self) -> &ConnectionId {
        self.first.as_ref().unwrap_or(&self.id)
    }

    /// Whether a sign-out ended its session.
    #[must_use]
    pub fn is_signed_out(&self) -> bool {
        self.token_expires_at == END_BY_SIGN_OUT
    }

    /// Whether nothing ever showed that there is a client: it sent no frame,
    /// and no sweep pinged it.
    pub(crate) fn is_unproven(&self) -> bool {
        self.last_seen_at == self.connected_at && self.liveness.pinged_at.is_none()
    }
}

/// The part of a connection that a broadcast needs: what the user index
/// projects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    pub id: ConnectionId,
    pub user_id: UserId,
    /// With the id it identifies the row that was read.
    pub connected_at: UnixMillis,
    /// From then on nothing may be posted to it.
    pub token_expires_at: UnixSeconds,
    /// Whether the client accepts `batch` frames. Not known, and `false`, if the
    /// connection was listed by an index.
    pub accepts_batch: bool,
}

/// Longer than a handshake can be pending: API Gateway gives `$connect` 29
/// seconds, and its clock and ours may differ.
const HANDSHAKE: Duration = Duration::from_secs(35);

impl Recipient {
    /// Whether the handshake may be pending at a time: when a post begins, since
    /// the answer may take long. Until the handshake is complete, API Gateway
    /// answers 410, so a 410 proves nothing.
    ///
    /// Invariant: the row of such a connection is not removed because of a 410.
    /// `$connect` looks for its row before it answers, but a row that is
    /// removed after that check would leave an open connection that nobody can
    /// reach.
    pub(crate) fn may_be_pending(&self, now: UnixMillis) -> bool {
        now < self.handshake_ends_at()
    }

    /// From then on the handshake is certainly complete or refused.
    #[must_use]
    pub fn handshake_ends_at(&self) -> UnixMillis {
        self.connected_at.plus(HANDSHAKE)
    }
}

/// Wait before a post is repeated to a connection whose handshake may be
/// pending, jittered so that many connections are not retried together.
pub(crate) fn confirm_after(random: &impl Randomness) -> Duration {
    random.between(Duration::from_secs(1), Duration::from_secs(2))
}

impl From<&Connection> for Recipient {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id.clone(),
            user_id: connection.user_id.clone(),
            connected_at: connection.connected_at,
            token_expires_at: connection.token_expires_at,
            accepts_batch: connection.accepts_batch,
        }
    }
}
