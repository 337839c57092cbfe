//! The sweeper: ends what has to end, asks the silent for a sign of life.

use std::time::Duration;

use belfry_aws::{Clients, DynamoConnections, ManagementOutbox, SystemClock, Tables};
use belfry_core::{Schedule, Sweeper, UnixMillis};
use belfry_protocol::{SweepReport, SweeperReport, SweeperRequest};
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;

use crate::environment::{Environment, Metrics, SettingError};
use crate::error::FunctionError;

/// What is left of the invocation's time for what has begun: a read and a
/// write of five seconds at most, and a post of three.
const FINISHING_TIME: Duration = Duration::from_secs(15);

/// What the sweeper needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    tables: Tables,
    api_endpoint: String,
    metrics: Metrics,
    schedule: Schedule,
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
            api_endpoint: environment.api_endpoint()?,
            metrics: environment.metrics()?,
            schedule: environment.schedule()?,
        })
    }
}

/// The use case with its adapters.
pub type UseCase = Sweeper<DynamoConnections, ManagementOutbox, SystemClock, Metrics>;

/// Puts the parts together, once for an environment.
pub async fn build(settings: Settings) -> UseCase {
    let clients = Clients::load(settings.region).await;
    Sweeper {
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        outbox: ManagementOutbox::new(clients.management(&settings.api_endpoint)),
        clock: SystemClock,
        metrics: settings.metrics,
        schedule: settings.schedule,
    }
}

/// Handles one request: the schedule's, or an operator's.
///
/// # Errors
/// [`FunctionError`]; what was done until then stays done, and the next sweep
/// does the rest.
pub async fn handle(
    sweeper: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<SweeperReport, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let handled = async {
        match SweeperRequest::parse(payload.get())? {
            SweeperRequest::Sweep {} => {
                let deadline = UnixMillis(context.deadline).minus(FINISHING_TIME);
                // Both are large, and one of them is not used.
                let report = Box::pin(sweeper.sweep(deadline)).await?;
                log(&report, &context.request_id);
                Ok(SweeperReport::Sweep(report))
            }
            SweeperRequest::SignOut { user_id } => {
                let report = Box::pin(sweeper.sign_out(&user_id)).await?;
                tracing::info!(userId = %user_id, requestId = %context.request_id, closed = report.closed, failed = report.failed, "signed out");
                Ok(SweeperReport::SignOut(report))
            }
        }
    };
    let handled: Result<_, FunctionError> = handled.await;
    handled.inspect_err(|error| error.log("sweep or sign-out", &context.request_id))
}

fn log(report: &SweepReport, request_id: &str) {
    tracing::info!(
        requestId = %request_id,
        kept = report.kept,
        pinged = report.pinged,
        toldToReconnect = report.told_to_reconnect,
        expired = report.expired,
        silent = report.silent,
        replaced = report.replaced,
        outlived = report.outlived,
        gone = report.gone,
        failed = report.failed,
        complete = report.complete,
        connections = report.connections,
        "swept"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value) in [
            ("WEBSOCKET_CONNECTION_TABLE", ""),
            ("WEBSOCKET_STATE_TABLE", ""),
            ("WEBSOCKET_API_ENDPOINT", "wss://api.example.com/dev"),
            ("STACK_NAME", ""),
            ("HEARTBEAT_INTERVAL_SECONDS", "0"),
        ] {
            let variables = [
                ("AWS_REGION", "eu-west-1"),
                ("WEBSOCKET_CONNECTION_TABLE", "Connections"),
                ("WEBSOCKET_STATE_TABLE", "State"),
                ("WEBSOCKET_API_ENDPOINT", "https://api.example.com/dev"),
                ("STACK_NAME", "belfry-dev"),
                (name, value),
            ];
            let settings = Settings::read(&variables.into_iter().collect());
            let error = settings.unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
