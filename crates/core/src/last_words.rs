//! Ending a connection, with the reason told.

use std::time::Duration;

use belfry_protocol::{ConnectionId, ErrorCode, Refused};

use crate::ports::{Clock, Outbox, PostError};

/// How long the error before a close may take. A client that reads so slowly
/// is closed without it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What became of a close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closing {
    Closed,
    /// There was nothing to close: the client had left.
    Gone,
    /// It may still be open.
    Failed(PostError),
}

/// Posts the reason, then closes: API Gateway's close carries no code, and a
/// route response would leave only after the invocation, when the connection
/// is already closed.
pub(crate) async fn close<O: Outbox, C: Clock>(
    outbox: &O,
    clock: &C,
    id: &ConnectionId,
    code: ErrorCode,
    why: &str,
) -> Closing {
    let mut gone = false;
    let frame = Refused::new(code, why)
        .into_frame(clock.now().to_timestamp())
        .to_json();
    match outbox.post(id, &frame, TIMEOUT).await {
        Ok(()) => {}
        // That can be wrong for a moment, so it is closed all the same.
        Err(PostError::Gone) => gone = true,
        Err(error) => {
            tracing::warn!(connectionId = %id, reason = %error, "closing without a reason given");
        }
    }
    match outbox.close(id).await {
        Ok(()) if gone => Closing::Gone,
        Ok(()) => Closing::Closed,
        Err(error) => Closing::Failed(error),
    }
}
