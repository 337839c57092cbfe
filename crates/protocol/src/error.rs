//! Error frames: the codes, and what a refused frame becomes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Envelope, FrameId, ServerFrame, Timestamp, Version};

/// Why a frame was refused or a connection is about to be closed.
/// docs/PROTOCOL.md says what a client may do after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Not JSON, not an object, or a field is missing or has the wrong shape.
    InvalidMessage,
    /// The frame speaks another major version.
    UnsupportedVersion,
    /// No such frame type.
    UnknownType,
    /// The frame is longer than this server reads.
    MessageTooLarge,
    /// Too many frames; try again later. Whoever goes on is closed.
    RateLimited,
    /// The connection's token is past its time; the connection is closed.
    TokenExpired,
    /// The connection is not known here, its user was signed out, or its new
    /// token is another user's, and it is closed; or a new token was not
    /// accepted, and it stays.
    Unauthorized,
    /// The server failed; the same frame may succeed later.
    Internal,
}

impl ErrorCode {
    /// The code as it stands on the wire.
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
    /// What went wrong, for people.
    pub message: String,
    /// When.
    pub timestamp: Timestamp,
    /// Of `RATE_LIMITED`: how long to wait before the next frame, in
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A frame that will not be served, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for the client's developer. It may repeat a part of
    /// the frame, so it goes back to the sender and never into a log.
    pub message: String,
    /// The refused frame's `id`, where one could be read.
    pub correlation_id: Option<FrameId>,
    /// When to try again, in milliseconds from now, where that is known.
    pub retry_after_ms: Option<u64>,
}

impl Refused {
    /// A refusal of a frame whose id is not known.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            correlation_id: None,
            retry_after_ms: None,
        }
    }

    /// The error frame that tells the client.
    #[must_use]
    pub fn into_frame(self, now: Timestamp) -> ServerFrame {
        ServerFrame::Error(Envelope {
            version: Version,
            id: None,
            timestamp: None,
            data: ErrorData {
                code: self.code,
                message: self.message,
                timestamp: now,
                retry_after_ms: self.retry_after_ms,
            },
            correlation_id: self.correlation_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_the_documented_one() {
        let refused = Refused {
            code: ErrorCode::InvalidMessage,
            message: "data is missing".into(),
            correlation_id: Some(FrameId::parse("7").unwrap()),
            retry_after_ms: None,
        };
        let frame = refused.into_frame(Timestamp::from_millis(1_770_660_703_822));
        insta::assert_snapshot!(frame.to_json(), @r#"{"type":"error","version":"1.0","data":{"code":"INVALID_MESSAGE","message":"data is missing","timestamp":"2026-02-09T18:11:43.822Z"},"correlationId":"7"}"#);
    }

    #[test]
    fn a_code_is_written_as_it_is_named() {
        for code in [
            ErrorCode::InvalidMessage,
            ErrorCode::UnsupportedVersion,
            ErrorCode::UnknownType,
            ErrorCode::MessageTooLarge,
            ErrorCode::RateLimited,
            ErrorCode::TokenExpired,
            ErrorCode::Unauthorized,
            ErrorCode::Internal,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
