use std::time::Duration;

use belfry_protocol::{ConnectionId, ErrorCode, Refused};

use super::Recipient;
use crate::ports::{Clock, Outbox, PostError};
use crate::time::{UnixMillis, millis};

/// Time limit of the error frame before the close. A client that reads more
/// slowly is closed without it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a client is told before its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseReason {
    pub(crate) code: ErrorCode,
    pub(crate) message: &'static str,
    /// How long to wait before the next frame, if that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl CloseReason {
    pub(crate) const fn new(code: ErrorCode, message: &'static str) -> Self {
        Self {
            code,
            message,
            retry_after: None,
        }
    }
}

pub(crate) const TOKEN_EXPIRED: CloseReason = CloseReason::new(
    ErrorCode::TokenExpired,
    "the token has expired; connect again with a new one",
);

pub(crate) const SIGNED_OUT: CloseReason =
    CloseReason::new(ErrorCode::SignedOut, "signed out; sign in again");

/// Result of [`close_with_reason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    Yes,
    /// The client was not told why. API Gateway answers a close alike whether
    /// there is a connection or not.
    Untold,
    /// The client had already left, or its handshake is pending.
    Gone,
    /// The connection may still be open.
    Failed(PostError),
}

impl Closed {
    /// Whether the row can be removed, after a close that began at a time.
    ///
    /// Invariant: while the handshake may be pending, only a client that was
    /// told proves that there was a connection to close. Otherwise the handshake
    /// may complete later, and the row is what a sweep finds it by.
    pub(crate) fn is_final(&self, recipient: &Recipient, begun: UnixMillis) -> bool {
        match self {
            Self::Yes => true,
            Self::Untold | Self::Gone => !recipient.may_be_pending(begun),
            Self::Failed(_) => false,
        }
    }
}

/// Posts the reason, then closes the connection. API Gateway's close carries
/// no code, and a route response would leave only after the invocation, when
/// the connection is already closed.
pub(crate) async fn close_with_reason<O: Outbox, C: Clock>(
    outbox: &O,
    clock: &C,
    id: &ConnectionId,
    reason: CloseReason,
) -> Closed {
    debug_assert!(reason.code.may_close(), "{} closes nothing", reason.code);
    let refused = Refused {
        retry_after_ms: reason.retry_after.map(millis),
        ..Refused::new(reason.code, reason.message)
    };
    let frame = refused.into_frame(clock.now().to_timestamp()).to_json();
    let closed = match outbox.post(id, &frame, TIMEOUT).await {
        Ok(()) => Closed::Yes,
        // This can be wrong for a moment, so close the connection all the same.
        Err(PostError::Gone) => Closed::Gone,
        Err(error) => {
            tracing::warn!(event = "connection.reason-not-sent", connectionId = %id, reason = %error, "the client was not told why its connection is closed");
            Closed::Untold
        }
    };
    match outbox.close(id).await {
        Ok(()) => closed,
        Err(error) => Closed::Failed(error),
    }
}
