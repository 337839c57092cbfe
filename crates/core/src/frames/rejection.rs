use std::time::Duration;

use belfry_protocol::{ErrorCode, Refused};

use crate::connections::{CloseReason, SIGNED_OUT, TOKEN_EXPIRED};
use crate::ports::{NotServed, StoreError};
use crate::time::millis;

/// Refusals before the connection is closed, counted since its bucket was last
/// full. A client that waits as it is told never comes near.
pub(super) const MAX_REFUSALS: u32 = 100;

/// The lowest rate limit gives a token back each minute. A longer wait comes
/// from clocks that differ.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a frame gets no reply of its type.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// Tell the client; the connection stays open.
    Refused(Box<Refused>),
    /// Tell the client why and close the connection.
    Close(CloseReason),
    /// Something of ours failed; the text is for the operator.
    Failed(String),
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<NotServed> for Rejection {
    fn from(why: NotServed) -> Self {
        match why {
            NotServed::TokenExpired => Self::Close(TOKEN_EXPIRED),
            NotServed::SignedOut => Self::Close(SIGNED_OUT),
            NotServed::Unknown => Self::Close(CloseReason::new(
                ErrorCode::UnknownConnection,
                "this connection is unknown; connect again",
            )),
            NotServed::RateLimited {
                refusals,
                retry_after,
            } => rate_limited(refusals, retry_after.min(LONGEST_WAIT)),
        }
    }
}

fn rate_limited(refusals: u32, retry_after: Duration) -> Rejection {
    if refusals >= MAX_REFUSALS {
        let message = "too many messages for too long; connect again later";
        return Rejection::Close(CloseReason {
            retry_after: Some(retry_after),
            ..CloseReason::new(ErrorCode::RateLimited, message)
        });
    }
    let wait = millis(retry_after);
    let message = format!("too many messages; wait {wait} ms");
    Refused {
        retry_after_ms: Some(wait),
        ..Refused::new(ErrorCode::RateLimited, message)
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_makes_a_client_wait_for_more_than_a_minute() {
        let told = |refusals, retry_after| {
            let why = NotServed::RateLimited {
                refusals,
                retry_after,
            };
            match Rejection::from(why) {
                Rejection::Refused(refused) => refused.retry_after_ms.map(Duration::from_millis),
                Rejection::Close(reason) => reason.retry_after,
                Rejection::Failed(reason) => panic!("{reason}"),
            }
        };
        let (short, minute) = (Duration::from_millis(100), Duration::from_secs(60));
        for refusals in [1, MAX_REFUSALS] {
            assert_eq!(told(refusals, short), Some(short));
            assert_eq!(told(refusals, Duration::MAX), Some(minute));
        }
    }
}
