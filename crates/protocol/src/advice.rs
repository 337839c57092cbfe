//! What a client or a caller should do after a failure.

use std::fmt;

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
            | Self::TooManyLocks => Advice::GiveUp,
            Self::RateLimited
            | Self::ChannelBusy
            | Self::Locked
            | Self::CallFailed
            | Self::Internal => Advice::RetryLater,
            Self::TokenExpired | Self::Unauthorized => Advice::RefreshToken,
            Self::SignedOut => Advice::SignIn,
            Self::UnknownConnection => Advice::RetryNow,
        }
    }
}
