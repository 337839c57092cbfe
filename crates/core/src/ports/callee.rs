use std::future::Future;

use belfry_protocol::{CallAction, ConnectionId, MAX_FRAME_BYTES, UserId};
use serde_json::Value;

use crate::channels::Claims;

/// The longest answer, in bytes of compact JSON. The rest of the frame that
/// carries it has at most 1 KB: most of that is the client's id of its frame.
pub const MAX_RESULT_BYTES: usize = MAX_FRAME_BYTES - 1_024;

/// What a client asks the application to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientCall<'a> {
    pub connection_id: &'a ConnectionId,
    pub user_id: &'a UserId,
    /// Those that channel rules name.
    pub claims: &'a Claims,
    pub action: &'a CallAction,
    pub data: Option<&'a Value>,
}

/// Why there is no answer. The texts are for the operator and never contain
/// what the client sent or the application answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The application serves no calls.
    #[error("no function")]
    NoFunction,
    #[error("failed")]
    Failed,
    #[error("timeout")]
    TimedOut,
    #[error("answer too large")]
    TooLarge,
    #[error("answer is not JSON")]
    NotJson,
    #[error("throttled")]
    Throttled,
    /// It could not be called for another reason.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Does for clients what the application wants.
///
/// Calls the application once at most, and never again after an error: only the
/// client knows whether to repeat. An answer has at most [`MAX_RESULT_BYTES`].
pub trait Callee: Send + Sync {
    fn call(&self, call: ClientCall<'_>) -> impl Future<Output = Result<Value, CallError>> + Send;
}
