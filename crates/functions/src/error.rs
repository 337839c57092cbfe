use belfry_aws::SegmentTask;
use belfry_aws::apigateway::MalformedEvent;
use belfry_core::broadcast::BroadcastError;
use belfry_core::log::AppendError;
use belfry_core::operator::ListError;
use belfry_core::ports::StoreError;
use belfry_protocol::InvalidRequest;
use lambda_runtime::Diagnostic;

/// A failed invocation, as its caller sees it: `errorType` for programs and
/// `errorMessage` for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// One of the values that docs/PROTOCOL.md lists, or `MalformedEvent` for an
    /// event that is not of a WebSocket route.
    pub error_type: &'static str,
    pub message: String,
}

impl FunctionError {
    /// Whether the caller must change the request or wait.
    #[must_use]
    fn is_callers_fault(&self) -> bool {
        matches!(
            self.error_type,
            "ChannelBusy" | "InvalidRequest" | "PayloadTooLarge" | "RateLimited"
        )
    }

    /// Logs the failure as `events`, the one for the caller's fault and the one
    /// for ours. The message about a caller's fault may repeat a part of the
    /// request, so it goes to the caller and not into the log.
    pub fn log(&self, events: FailureEvents, request_id: &str, segment: Option<&SegmentTask>) {
        let error_type = self.error_type;
        let message_id = segment.map(|task| tracing::field::display(&task.message_id));
        let segment = segment.map(|task| task.segment);
        if self.is_callers_fault() {
            tracing::warn!(event = events.refused, requestId = %request_id, messageId = message_id, segment, errorType = error_type, "{} refused", events.what);
        } else {
            tracing::error!(event = events.failed, requestId = %request_id, messageId = message_id, segment, errorType = error_type, reason = self.message, "{} failed", events.what);
        }
    }
}

/// The log events of a function's failures.
#[derive(Debug, Clone, Copy)]
pub struct FailureEvents {
    /// The request, for people.
    pub what: &'static str,
    pub refused: &'static str,
    pub failed: &'static str,
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
            BroadcastError::PayloadTooLarge { .. }
            | BroadcastError::BatchTooLarge { .. }
            | BroadcastError::TooLargeToKeep { .. }
            | BroadcastError::RequestTooLarge { .. } => "PayloadTooLarge",
            BroadcastError::OtherRequest
            | BroadcastError::Unknown
            | BroadcastError::UnknownAction
            | BroadcastError::NoSuchSegment { .. }
            | BroadcastError::NoReceipts
            | BroadcastError::NoHistory => "InvalidRequest",
            BroadcastError::RateLimited { .. } => "RateLimited",
            BroadcastError::Busy => "ChannelBusy",
            BroadcastError::Store(_) | BroadcastError::NoWorker(_) => "Unavailable",
            BroadcastError::NoTime | BroadcastError::NoTimeToCount => "Timeout",
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

impl From<ListError> for FunctionError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor(error) => Self {
                error_type: "InvalidRequest",
                message: error.to_string(),
            },
            ListError::Store(error) => error.into(),
        }
    }
}

impl From<AppendError> for FunctionError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self {
                error_type: "ChannelBusy",
                message: error.to_string(),
            },
            AppendError::Store(error) => error.into(),
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
