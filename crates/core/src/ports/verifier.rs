use std::future::Future;
use std::time::Duration;

use belfry_protocol::UserId;

use crate::time::{UnixMillis, UnixSeconds};

/// How far the clocks of an issuer and a verifier may differ.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// The identity that a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user_id: UserId,
    /// The epoch if the token has no time of issue.
    pub issued_at: UnixSeconds,
    pub expires_at: UnixSeconds,
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
