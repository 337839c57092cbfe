//! `$disconnect`: forgets a connection.

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::{DynamoDb, SystemClock};
use belfry_core::connections::Disconnect;
use lambda_runtime::LambdaEvent;

use crate::common::{Common, Metrics};
use crate::environment::{Environment, SettingError};
use crate::error::FunctionError;

#[derive(Debug)]
pub struct Settings(Common);

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Common::read(environment).map(Self)
    }
}

pub type UseCase = Disconnect<DynamoDb, SystemClock, Metrics>;

pub async fn build(Settings(common): Settings) -> UseCase {
    let adapters = common.open().await;
    Disconnect {
        store: adapters.store,
        clock: SystemClock,
        metrics: adapters.metrics,
    }
}

/// Handles one `$disconnect`.
///
/// # Errors
/// [`FunctionError`] for an event of another kind, and if the row could not be
/// removed. API Gateway ignores it; the function's error count does not.
pub async fn handle(
    disconnect: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let id = apigateway::connection_id(&event.payload)?;
    let request = &event.context.request_id;
    let status = event.payload.request_context.disconnect_status_code;
    match disconnect.handle(&id).await {
        Ok(()) => {
            tracing::info!(event = "connection.ended", connectionId = %id, requestId = %request, status, "disconnected");
            Ok(apigateway::status(200))
        }
        Err(error) => {
            tracing::error!(event = "connection.remove-failed", connectionId = %id, requestId = %request, reason = %error, "could not remove a connection");
            Err(error.into())
        }
    }
}
