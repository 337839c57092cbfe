use std::time::Duration;

use aws_sdk_lambda::Client;
use belfry_core::ports::{CallError, Callee, ClientCall, MAX_RESULT_BYTES};
use belfry_protocol::{CallAction, ConnectionId, UserId};
use serde::Serialize;
use serde_json::Value;

use super::{InvokeError, invoke};

/// Time limit of a call. With the frame's own write it is well below the
/// timeout of `Default` (template.yaml).
pub const CALL_TIME: Duration = Duration::from_secs(10);

/// Invokes a Lambda function of the application's own for each call.
#[derive(Debug, Clone)]
pub struct LambdaCallee {
    client: Client,
    function: Option<String>,
    limit: Duration,
}

/// What the function is invoked with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CallEvent<'a> {
    connection_id: &'a ConnectionId,
    user_id: &'a UserId,
    claims: Value,
    action: &'a CallAction,
    data: Option<&'a Value>,
}

impl LambdaCallee {
    /// `client` must not retry: see [`Callee`].
    #[must_use]
    pub fn new(client: Client, function: Option<String>, limit: Duration) -> Self {
        Self {
            client,
            function,
            limit,
        }
    }
}

impl Callee for LambdaCallee {
    async fn call(&self, call: ClientCall<'_>) -> Result<Value, CallError> {
        let Some(function) = &self.function else {
            return Err(CallError::NoFunction);
        };
        let event = CallEvent {
            connection_id: call.connection_id,
            user_id: call.user_id,
            claims: call.claims.to_value(),
            action: call.action,
            data: call.data,
        };
        let invoked = invoke(&self.client, function, &event, self.limit).await;
        let answer = invoked.map_err(|error| match error {
            InvokeError::TimedOut { .. } => CallError::TimedOut,
            InvokeError::Failed { .. } => CallError::Failed,
            InvokeError::Throttled(_) => CallError::Throttled,
            InvokeError::Unavailable(cause) => CallError::Unavailable(cause),
        })?;
        read_result(answer.as_ref())
    }
}

fn read_result(payload: &[u8]) -> Result<Value, CallError> {
    if payload.len() > MAX_RESULT_BYTES {
        return Err(CallError::TooLarge);
    }
    let value: Value = serde_json::from_slice(payload).map_err(|_| CallError::NotJson)?;
    // A number may be longer in the frame than it was in the answer.
    let fits = value.to_string().len() <= MAX_RESULT_BYTES;
    fits.then_some(value).ok_or(CallError::TooLarge)
}
