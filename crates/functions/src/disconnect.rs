//! `$disconnect`: forgets a connection.

use belfry_aws::apigateway::{self, Event, Response};
use belfry_aws::{Clients, DynamoConnections, SystemClock, Tables};
use belfry_core::Disconnect;
use lambda_runtime::LambdaEvent;

use crate::environment::{Environment, Metrics, SettingError};
use crate::error::FunctionError;

/// What `$disconnect` needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    tables: Tables,
    metrics: Metrics,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            region: environment.region()?,
            tables: environment.tables()?,
            metrics: environment.metrics()?,
        })
    }
}

/// The use case with its adapters.
pub type UseCase = Disconnect<DynamoConnections, SystemClock, Metrics>;

/// Puts the parts together, once for an environment.
pub async fn build(settings: Settings) -> UseCase {
    let clients = Clients::load(settings.region).await;
    Disconnect {
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        clock: SystemClock,
        metrics: settings.metrics,
    }
}

/// Handles one `$disconnect`.
///
/// # Errors
/// [`FunctionError`] for an event that is none, and where the row could not be
/// removed: API Gateway ignores it, the function's error count does not.
pub async fn handle(
    disconnect: &UseCase,
    event: LambdaEvent<Event>,
) -> Result<Response, FunctionError> {
    let id = apigateway::connection_id(&event.payload)?;
    let request = &event.context.request_id;
    let status = event.payload.request_context.disconnect_status_code;
    match disconnect.handle(&id).await {
        Ok(()) => {
            tracing::info!(connectionId = %id, requestId = %request, status, "disconnected");
            Ok(apigateway::status(200))
        }
        Err(error) => {
            tracing::error!(connectionId = %id, requestId = %request, reason = %error, "could not forget a connection");
            Err(error.into())
        }
    }
}
