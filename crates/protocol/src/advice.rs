//! What a client or a caller should do after a failure.
//!
//! This is the one place that decides it. The schema of server frames carries
//! it for generators, and a test compares the tables in docs/PROTOCOL.md.

use std::fmt;

use schemars::Schema;
use serde_json::{Map, Value};

use crate::ErrorCode;

/// What to do after a failure. docs/PROTOCOL.md defines each word and uses
/// them in its tables of statuses, errors and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Connect again at once, with the same token.
    RetryNow,
    /// Wait as long as the failure says, otherwise with growing delays, and do
    /// the same again.
    RetryLater,
    /// Get a new token without asking the user, and do the same again with it.
    RefreshToken,
    /// Show the login page.
    SignIn,
    /// Do not do the same again: it would fail again.
    GiveUp,
}

impl Advice {
    /// Every advice.
    pub const ALL: [Self; 5] = [
        Self::RetryNow,
        Self::RetryLater,
        Self::RefreshToken,
        Self::SignIn,
        Self::GiveUp,
    ];

    /// The advice as docs/PROTOCOL.md writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetryNow => "retryNow",
            Self::RetryLater => "retryLater",
            Self::RefreshToken => "refreshToken",
            Self::SignIn => "signIn",
            Self::GiveUp => "giveUp",
        }
    }

    /// The advice after a handshake that was refused with this status.
    #[must_use]
    pub fn after_status(status: u16) -> Self {
        match status {
            401 => Self::RefreshToken,
            429 | 500..=599 => Self::RetryLater,
            _ => Self::GiveUp,
        }
    }

    /// The advice after API Gateway's own error frame, which has no `type`.
    pub const AFTER_GATEWAY_ERROR: Self = Self::RetryLater;

    /// The close codes that docs/PROTOCOL.md lists.
    pub const CLOSE_CODES: [u16; 7] = [1000, 1001, 1002, 1003, 1006, 1007, 1009];

    /// The advice after a close with this code, if no `error` frame came before
    /// it.
    #[must_use]
    pub fn after_close(code: u16) -> Self {
        match code {
            1001 => Self::RetryNow,
            1002 | 1003 | 1007 | 1009 => Self::GiveUp,
            _ => Self::RetryLater,
        }
    }

    /// The advice after a function error with this `errorType`. Lambda has some
    /// of its own, which say that the function failed.
    #[must_use]
    pub fn after_function_error(error_type: &str) -> Self {
        match error_type {
            "InvalidRequest" | "PayloadTooLarge" | "Timeout" => Self::GiveUp,
            _ => Self::RetryLater,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ErrorCode {
    /// What a client should do after an error with this code.
    #[must_use]
    pub fn advice(self) -> Advice {
        match self {
            Self::InvalidMessage
            | Self::UnsupportedVersion
            | Self::UnknownType
            | Self::MessageTooLarge
            | Self::Forbidden
            | Self::TooManyChannels
            | Self::TooManyLocks
            | Self::ClosedByOperator => Advice::GiveUp,
            Self::RateLimited
            | Self::Reconnect
            | Self::ChannelBusy
            | Self::Locked
            | Self::CallFailed
            | Self::Internal => Advice::RetryLater,
            Self::TokenExpired | Self::Unauthorized => Advice::RefreshToken,
            Self::SignedOut => Advice::SignIn,
            Self::UnknownConnection => Advice::RetryNow,
        }
    }

    /// Whether the server may close the connection after an error with this
    /// code.
    #[must_use]
    pub fn may_close(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::TokenExpired
                | Self::Unauthorized
                | Self::SignedOut
                | Self::UnknownConnection
                | Self::Reconnect
                | Self::ClosedByOperator
        )
    }
}

/// Adds to the schema of [`ErrorCode`] what a client should do after each code,
/// and whether the server may close the connection after it.
pub(crate) fn describe_codes(schema: &mut Schema) {
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten() {
        let code: Result<ErrorCode, _> = serde_json::from_value(variant["const"].clone());
        if let Ok(code) = code {
            variant["x-advice"] = code.advice().as_str().into();
            variant["x-mayClose"] = code.may_close().into();
        }
    }
}

/// Adds to the schema of server frames what a client should do after a close,
/// by its code, and after API Gateway's own error frame.
pub(crate) fn describe_closes(schema: &mut Schema) {
    let advice = |code| Value::from(Advice::after_close(code).as_str());
    let closes = Advice::CLOSE_CODES.map(|code| (code.to_string(), advice(code)));
    schema.insert("x-closeAdvice".into(), Map::from_iter(closes).into());
    let gateway = Advice::AFTER_GATEWAY_ERROR.as_str();
    schema.insert("x-gatewayErrorAdvice".into(), gateway.into());
}
