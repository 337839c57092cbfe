use std::future::Future;
use std::time::Duration;

use belfry_protocol::ConnectionId;

/// Why a post did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The connection does not exist. On a connection that is being opened
    /// this can be wrong for a moment.
    #[error("gone")]
    Gone,
    /// Too many calls, or the client's buffer is full. It may succeed later.
    #[error("throttled")]
    Throttled,
    /// The message is larger than the API carries.
    #[error("too large")]
    TooLarge,
    /// No answer in time. The message may have arrived.
    #[error("timed out")]
    TimedOut,
    /// Anything else. The message may have arrived.
    #[error("failed: {0}")]
    Failed(String),
}

/// The way to the sockets.
///
/// Nothing is retried inside: the caller knows what a second post would mean.
/// Two posts to one connection have no promised order.
pub trait Outbox: Send + Sync {
    /// Sends a text frame. Success means that API Gateway accepted it, not
    /// that the client read it.
    fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), PostError>> + Send;

    /// Closes the connection. Closing what is not there succeeds.
    fn close(&self, id: &ConnectionId) -> impl Future<Output = Result<(), PostError>> + Send;
}
