use std::future::Future;
use std::time::Duration;

use belfry_protocol::UserId;

use crate::channels::Claims;
use crate::time::{UnixMillis, UnixSeconds};

/// How far the clocks of an issuer and a verifier may differ.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// Maximum time between a token's issue and its expiry. Stores remember a
/// sign-out for longer, so no token outlives it. Cognito allows no more: "between
/// 5 minutes and 24 hours".
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The identity that a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user_id: UserId,
    /// At most [`MAX_TOKEN_LIFETIME`] before `expires_at`.
    pub issued_at: UnixSeconds,
    pub expires_at: UnixSeconds,
    /// The claims that channel rules name.
    pub claims: Claims,
}

/// Why a token was not accepted. `Display` is for the operator's log and never
/// contains a part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is invalid, now and later.
    #[error("{0}")]
    Rejected(&'static str),
    /// The token cannot be checked now, because there are no keys.
    #[error("signing keys unavailable: {0}")]
    KeysUnavailable(String),
}

/// Verifies tokens.
pub trait TokenVerifier: Send + Sync {
    /// Verifies the token at this time, with the leeway of a handshake.
    fn verify(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Identity, VerifyError>> + Send;
}
