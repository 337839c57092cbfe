//! Error frames and their codes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Envelope, FrameId, Holder, ServerFrame, Timestamp, Version};

/// Why the server refused a frame or closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(transform = crate::advice::describe_codes)]
pub enum ErrorCode {
    /// The frame is not a JSON object, or a field is missing or invalid.
    InvalidMessage,
    /// The frame has a major version that the server does not support.
    UnsupportedVersion,
    /// The frame has a type that the server does not know.
    UnknownType,
    /// The frame or its reply is too large.
    MessageTooLarge,
    /// The client is over the message rate limit. It should wait for
    /// `retryAfterMs`; the server closes the connection of a client that keeps
    /// sending.
    RateLimited,
    /// The token of the connection has expired. The server closes the
    /// connection.
    TokenExpired,
    /// The server refused the token in `auth.refresh`. The connection stays open
    /// unless the token belongs to another user.
    Unauthorized,
    /// The user was signed out. The server closes the connection, unless it
    /// answers an `auth.refresh` whose token was issued before the sign-out.
    SignedOut,
    /// The server does not know the connection and closes it.
    UnknownConnection,
    /// An operator closes the connection. The client should connect again.
    Reconnect,
    /// An operator closes the connection. The client should not connect again.
    ClosedByOperator,
    /// The channel rules do not allow this, or the stack serves no calls.
    Forbidden,
    /// Too many messages are published to the channel at the same time. This
    /// one is not published.
    ChannelBusy,
    /// The connection would be subscribed to more channels than it may.
    TooManyChannels,
    /// The application's function did not answer a call, or in a way that cannot
    /// be passed on. It may have done what it was asked to do.
    CallFailed,
    /// Another connection holds the lock. `holder` says whose, `until` how long.
    Locked,
    /// The connection would hold more locks than it may.
    TooManyLocks,
    /// The server failed. The client may send the same frame again later.
    Internal,
}

impl ErrorCode {
    /// The code as it is written in a frame.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::RateLimited => "RATE_LIMITED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::SignedOut => "SIGNED_OUT",
            Self::UnknownConnection => "UNKNOWN_CONNECTION",
            Self::Reconnect => "RECONNECT",
            Self::ClosedByOperator => "CLOSED_BY_OPERATOR",
            Self::Forbidden => "FORBIDDEN",
            Self::ChannelBusy => "CHANNEL_BUSY",
            Self::TooManyChannels => "TOO_MANY_CHANNELS",
            Self::CallFailed => "CALL_FAILED",
            Self::Locked => "LOCKED",
            Self::TooManyLocks => "TOO_MANY_LOCKS",
            Self::Internal => "INTERNAL",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `data` of an error frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people. The text may change.
    pub message: String,
    /// When the error happened.
    pub timestamp: Timestamp,
    /// How long to wait before the next frame, in milliseconds. Only
    /// `RATE_LIMITED` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Who holds the lock. Only `LOCKED` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Until when, unless the holder renews the lock. Only `LOCKED` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The reason why a frame is not served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for the client's developer. It may repeat the name of
    /// a field, but never a value. It goes to the sender and never into a log.
    pub message: String,
    /// The `id` of the refused frame, if it could be read.
    pub correlation_id: Option<FrameId>,
    /// How long to wait before a retry, in milliseconds, if that is known.
    pub retry_after_ms: Option<u64>,
    /// Who holds the lock that was asked for, and until when.
    pub held: Option<(Holder, Timestamp)>,
}

impl Refused {
    /// Refuses a frame whose `id` is not known.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            correlation_id: None,
            retry_after_ms: None,
            held: None,
        }
    }

    /// The error frame for the client.
    #[must_use]
    pub fn into_frame(self, now: Timestamp) -> ServerFrame {
        let (holder, until) = self.held.unzip();
        ServerFrame::Error(Envelope {
            version: Version,
            id: None,
            timestamp: None,
            data: ErrorData {
                code: self.code,
                message: self.message,
                timestamp: now,
                retry_after_ms: self.retry_after_ms,
                holder,
                until,
            },
            correlation_id: self.correlation_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_frame_has_the_documented_form() {
        let refused = Refused {
            code: ErrorCode::InvalidMessage,
            message: "missing field `data`".into(),
            correlation_id: Some(FrameId::parse("7").unwrap()),
            retry_after_ms: None,
            held: None,
        };
        let frame = refused.into_frame(Timestamp::from_millis(1_770_660_703_822));
        insta::assert_snapshot!(frame.to_json(), @r#"{"type":"error","version":"1.0","data":{"code":"INVALID_MESSAGE","message":"missing field `data`","timestamp":"2026-02-09T18:11:43.822Z"},"correlationId":"7"}"#);
    }

    #[test]
    fn as_str_agrees_with_serde() {
        for code in [
            ErrorCode::InvalidMessage,
            ErrorCode::UnsupportedVersion,
            ErrorCode::UnknownType,
            ErrorCode::MessageTooLarge,
            ErrorCode::RateLimited,
            ErrorCode::TokenExpired,
            ErrorCode::Unauthorized,
            ErrorCode::SignedOut,
            ErrorCode::UnknownConnection,
            ErrorCode::CallFailed,
            ErrorCode::Locked,
            ErrorCode::TooManyLocks,
            ErrorCode::Internal,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
