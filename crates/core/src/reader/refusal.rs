use belfry_protocol::{ChannelError, ErrorCode, Refused};

use crate::frames::Rejection;
use crate::ports::{StoreError, VerifyError};

/// Why a request was refused. `Display` is for the operator's log.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A page that may not read, or no origin although one is required.
    #[error("origin not allowed")]
    Origin,
    #[error("no token")]
    NoToken,
    /// Several sources hold a token, so it is undecided which one counts.
    #[error("more than one token source")]
    SeveralTokens,
    /// The token is invalid, or cannot be checked now.
    #[error("token: {0}")]
    Token(VerifyError),
    /// The token was issued before its user was signed out.
    #[error("signed out")]
    SignedOut,
    /// The token has expired while the reader waited.
    #[error("token expired")]
    TokenExpired,
    /// The request itself. The text is for the caller.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// Something of ours failed.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// What the caller is told.
    #[must_use]
    pub fn into_refused(self) -> Refused {
        let (code, message) = match self {
            Self::Refused(refused) => return *refused,
            Self::Origin => (
                ErrorCode::Forbidden,
                "pages of this origin are not allowed; add it to AllowedOrigins",
            ),
            Self::NoToken => (
                ErrorCode::Unauthorized,
                "send a token: Authorization: Bearer, or ?token=",
            ),
            Self::SeveralTokens => (
                ErrorCode::InvalidMessage,
                "send the token once: in the header or in the query",
            ),
            Self::Token(VerifyError::Rejected(_)) => {
                (ErrorCode::Unauthorized, "the token is not accepted")
            }
            Self::SignedOut => (ErrorCode::SignedOut, "signed out"),
            Self::TokenExpired => (ErrorCode::TokenExpired, "the token has expired"),
            Self::Token(VerifyError::KeysUnavailable(_)) | Self::Failed(_) => {
                (ErrorCode::Internal, "try again later")
            }
        };
        Refused::new(code, message)
    }

    /// What went wrong, for programs.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.clone().into_refused().code
    }

    /// Whether something of ours failed.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Failed(_) | Self::Token(VerifyError::KeysUnavailable(_))
        )
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        Refused::new(error.code, error.message).into()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Refused(refused) => Self::Refused(refused),
            Rejection::Close(reason) => Refused::new(reason.code, reason.message).into(),
            Rejection::Failed(cause) => Self::Failed(cause),
        }
    }
}
