use belfry_protocol::{ErrorCode, Refused};

use crate::connections::{CloseReason, SIGNED_OUT, TOKEN_EXPIRED};
use crate::ports::{NotServed, StoreError};

/// Refusals before the connection is closed, counted since its bucket was last
/// full. A client that waits as it is told never comes near.
pub(super) const MAX_REFUSALS: u32 = 100;

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
            NotServed::Unknown => Self::Close(CloseReason {
                code: ErrorCode::UnknownConnection,
                message: "this connection is unknown; connect again",
            }),
            NotServed::RateLimited { refusals, .. } if refusals >= MAX_REFUSALS => {
                Self::Close(CloseReason {
                    code: ErrorCode::RateLimited,
                    message: "too many messages for too long; connect again later",
                })
            }
            NotServed::RateLimited { retry_after, .. } => {
                let wait = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                let message = format!("too many messages; wait {wait} ms");
                Refused {
                    retry_after_ms: Some(wait),
                    ..Refused::new(ErrorCode::RateLimited, message)
                }
                .into()
            }
        }
    }
}
