use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::Bounded;
use crate::{ErrorCode, MessageId, Target, UserId, WaitSeconds, shape};

/// A request to sign a user out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignOut {
    /// The user to sign out.
    pub user_id: UserId,
}

/// Result of signing a user out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignOutReport {
    /// Connections that were closed.
    pub closed: u64,
    /// Connections that could not be closed. Their sessions have ended, and
    /// sweeps try to close them. Repeating the request is safe.
    pub failed: u64,
    /// Connections whose session could not be ended: if they are open, they are
    /// served until their token expires. Repeat the request.
    pub not_ended: u64,
}

/// A request to close connections.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kick {
    /// The idempotency key. The default is the request id of the invocation.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// The connections to close.
    pub target: Target,
    /// What their clients are told. The default is `RECONNECT`.
    #[serde(default, deserialize_with = "shape::optional_variant")]
    pub code: Option<KickCode>,
    /// How long to wait until all are closed, in seconds. The default is 0: do
    /// not wait.
    #[serde(default)]
    pub wait_seconds: WaitSeconds,
}

/// What clients are told before their connections are closed: the `code` of an
/// `error` frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KickCode {
    /// Connect again.
    #[default]
    Reconnect,
    /// Connect again with a new token, for example after the user's groups have
    /// changed.
    TokenExpired,
    /// Do not connect again.
    ClosedByOperator,
}

impl From<KickCode> for ErrorCode {
    fn from(code: KickCode) -> Self {
        match code {
            KickCode::Reconnect => Self::Reconnect,
            KickCode::TokenExpired => Self::TokenExpired,
            KickCode::ClosedByOperator => Self::ClosedByOperator,
        }
    }
}

/// A request to have clients open another connection, before a change of the
/// stack for example. Nothing is closed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// The idempotency key. The default is the request id of the invocation.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// The connections to replace.
    pub target: Target,
    /// Each client chooses a moment within this time, in seconds.
    pub within_seconds: Bounded<10, 7_200>,
    /// How many of them to ask, in percent. The default is 100. A connection
    /// that is asked at 10 percent is also asked at 20.
    #[serde(default)]
    pub percent: Option<Bounded<1, 100>>,
    /// How long to wait until all are asked, in seconds. The default is 0: do
    /// not wait.
    #[serde(default)]
    pub wait_seconds: WaitSeconds,
}
