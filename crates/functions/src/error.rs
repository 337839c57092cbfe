//! What a function's failure looks like to whoever invoked it.

use belfry_aws::apigateway::MalformedEvent;
use belfry_core::BroadcastError;
use belfry_core::ports::StoreError;
use belfry_protocol::InvalidRequest;
use lambda_runtime::Diagnostic;

/// A failed invocation: `errorType` for programs, `errorMessage` for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// One of the documented words.
    pub error_type: &'static str,
    /// What the caller should know.
    pub message: String,
}

impl FunctionError {
    /// Whether the same request would fail again.
    #[must_use]
    pub fn is_callers_fault(&self) -> bool {
        matches!(
            self.error_type,
            "InvalidRequest" | "PayloadTooLarge" | "RateLimited"
        )
    }

    /// Logs that `what` was asked for was not done. What the caller did wrong
    /// is told to the caller, in words that may repeat a part of the request;
    /// what went wrong here is the operator's to know.
    pub fn log(&self, what: &str, request_id: &str) {
        let error_type = self.error_type;
        if self.is_callers_fault() {
            tracing::warn!(requestId = %request_id, errorType = error_type, "{what} refused");
        } else {
            tracing::error!(requestId = %request_id, errorType = error_type, reason = self.message, "{what} failed");
        }
    }
}

impl From<InvalidRequest> for FunctionError {
    fn from(error: InvalidRequest) -> Self {
        Self {
            error_type: "InvalidRequest",
            message: error.to_string(),
        }
    }
}

impl From<BroadcastError> for FunctionError {
    fn from(error: BroadcastError) -> Self {
        let error_type = match error {
            BroadcastError::PayloadTooLarge { .. } | BroadcastError::RequestTooLarge { .. } => {
                "PayloadTooLarge"
            }
            BroadcastError::OtherRequest | BroadcastError::Unknown => "InvalidRequest",
            BroadcastError::RateLimited { .. } => "RateLimited",
            BroadcastError::Store(_) | BroadcastError::NoWorker(_) => "Unavailable",
            BroadcastError::NoTime => "Timeout",
        };
        Self {
            error_type,
            message: error.to_string(),
        }
    }
}

impl From<StoreError> for FunctionError {
    fn from(error: StoreError) -> Self {
        Self {
            error_type: "Unavailable",
            message: error.to_string(),
        }
    }
}

impl From<MalformedEvent> for FunctionError {
    fn from(error: MalformedEvent) -> Self {
        Self {
            error_type: "MalformedEvent",
            message: error.to_string(),
        }
    }
}

impl From<FunctionError> for Diagnostic {
    fn from(error: FunctionError) -> Self {
        Self {
            error_type: error.error_type.into(),
            error_message: error.message,
        }
    }
}
