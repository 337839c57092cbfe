use std::future::Future;
use std::time::Duration;

use belfry_protocol::ConnectionId;

/// Why a post did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The connection does not exist. For a connection that is still being
    /// opened this can be wrong for a moment.
    #[error("gone")]
    Gone,
    /// Too many calls, or the client's buffer is full. A retry may succeed.
    #[error("throttled")]
    Throttled,
    /// The message is larger than the API carries.
    #[error("too large")]
    TooLarge,
    /// The API failed: there was no connection to it, or it answered with a
    /// server error. As a rule the message has not arrived.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No answer in time. The message may have arrived.
    #[error("timed out")]
    TimedOut,
    /// Any other failure. The message may have arrived.
    #[error("failed: {0}")]
    Failed(String),
}

/// Reaches the sockets.
///
/// Implementations never retry: only the caller knows whether a second post
/// would be a duplicate. Two posts to one connection have no promised order.
pub trait Outbox: Send + Sync {
    /// Sends a text frame. Success means that API Gateway accepted it, not
    /// that the client read it.
    fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), PostError>> + Send;

    /// Closes the connection. Closing a connection that does not exist succeeds.
    fn close(&self, id: &ConnectionId) -> impl Future<Output = Result<(), PostError>> + Send;
}
