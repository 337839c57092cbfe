use std::future::Future;

use belfry_protocol::UserId;

use crate::time::{UnixMillis, UnixSeconds};

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// When the token was made; the epoch where it does not say.
    pub issued_at: UnixSeconds,
    /// When the token ends.
    pub expires_at: UnixSeconds,
}

/// Why a token was not accepted. `Display` is for the operator's log: it never
/// holds a part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good, and will not be later.
    #[error("{0}")]
    Rejected(&'static str),
    /// Whether the token is good cannot be told now: there are no keys.
    #[error("signing keys unavailable: {0}")]
    KeysUnavailable(String),
}

/// The judge of tokens.
pub trait TokenVerifier: Send + Sync {
    /// Whether the token is good at this time, give or take the leeway of a
    /// handshake, and whom it speaks for.
    fn verify(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> impl Future<Output = Result<Identity, VerifyError>> + Send;
}
