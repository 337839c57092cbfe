//! The operator: what people ask of a running stack.

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{DynamoDb, SystemClock};
use belfry_core::operator;
use belfry_protocol::{OperatorReport, OperatorRequest, SignOut};
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;

use crate::common::{ApiEndpoint, Common};
use crate::environment::{Environment, SettingError};
use crate::error::{FailureEvents, FunctionError};

const FAILURES: FailureEvents = FailureEvents {
    what: "operator request",
    refused: "operator.refused",
    failed: "operator.failed",
};

#[derive(Debug)]
pub struct Settings {
    common: Common,
    api_endpoint: ApiEndpoint,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            common: Common::read(environment)?,
            api_endpoint: ApiEndpoint::read(environment)?,
        })
    }
}

/// The use cases with their adapters, one for each action.
pub struct UseCases {
    sign_out: operator::SignOut<DynamoDb, ManagementOutbox, SystemClock>,
}

pub async fn build(settings: Settings) -> UseCases {
    let adapters = settings.common.open().await;
    UseCases {
        sign_out: operator::SignOut {
            outbox: settings.api_endpoint.outbox(&adapters.clients),
            store: adapters.store,
            clock: SystemClock,
        },
    }
}

/// Handles one request.
///
/// # Errors
/// [`FunctionError`]. Asking again is safe.
pub async fn handle(
    operator: &UseCases,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<OperatorReport, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let answered = answer(operator, payload.get(), &context.request_id).await;
    answered.inspect_err(|error| error.log(FAILURES, &context.request_id, None))
}

async fn answer(
    operator: &UseCases,
    payload: &str,
    request_id: &str,
) -> Result<OperatorReport, FunctionError> {
    match OperatorRequest::parse(payload)? {
        OperatorRequest::SignOut(SignOut { user_id }) => {
            let report = Box::pin(operator.sign_out.handle(&user_id)).await?;
            tracing::info!(event = "sign-out.completed", userId = %user_id, requestId = %request_id, closed = report.closed, failed = report.failed, notEnded = report.not_ended, "signed out");
            Ok(OperatorReport::SignOut(report))
        }
        _ => todo!(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::refuses;

    #[test]
    fn an_invalid_setting_is_named() {
        let wrong = [("STACK_NAME", ""), ("WEBSOCKET_API_ENDPOINT", "")];
        refuses(Settings::read, &wrong);
    }
}
