//! The broadcaster: one message to a user, to some connections, or to all.

use std::time::Duration;

use belfry_aws::{Clients, DynamoConnections, ManagementOutbox, SystemClock, Tables};
use belfry_core::{Broadcaster, Delivered, DeliverySettings, UnixMillis};
use belfry_protocol::{BroadcastReport, BroadcastRequest, MessageId};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;

use crate::environment::{Environment, Metrics, SettingError};
use crate::error::FunctionError;

/// What is left of the invocation's time for counting, logging and answering.
const REPORTING_TIME: Duration = Duration::from_millis(500);

/// What the broadcaster needs to know.
#[derive(Debug)]
pub struct Settings {
    region: String,
    tables: Tables,
    api_endpoint: String,
    delivery: DeliverySettings,
    metrics: Metrics,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let concurrency = environment.number("POST_CONCURRENCY", 64, 1..=1_000)?;
        let post_timeout = environment.number("POST_TIMEOUT_MS", 3_000, 100..=29_000)?;
        Ok(Self {
            region: environment.region()?,
            tables: environment.tables()?,
            metrics: environment.metrics()?,
            api_endpoint: environment.api_endpoint()?,
            delivery: DeliverySettings {
                concurrency: usize::try_from(concurrency).unwrap_or(1),
                post_timeout: Duration::from_millis(post_timeout),
            },
        })
    }
}

/// The use case with its adapters.
pub type UseCase = Broadcaster<DynamoConnections, ManagementOutbox, SystemClock, Metrics>;

/// Puts the parts together, once for an environment.
pub async fn build(settings: Settings) -> UseCase {
    let clients = Clients::load(settings.region).await;
    Broadcaster {
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        outbox: ManagementOutbox::new(clients.management(&settings.api_endpoint)),
        clock: SystemClock,
        metrics: settings.metrics,
        delivery: settings.delivery,
    }
}

/// Handles one request. The payload is read as text first: a parser that
/// skipped a duplicate key would send to someone the caller did not mean.
///
/// # Errors
/// [`FunctionError`]; then nobody was posted to.
pub async fn handle(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<BroadcastReport, FunctionError> {
    let request_id = event.context.request_id.clone();
    match broadcast(broadcaster, event).await {
        Ok(delivered) => {
            log(&delivered, &request_id);
            Ok(delivered.report)
        }
        Err(error) => {
            error.log("broadcast", &request_id);
            Err(error)
        }
    }
}

async fn broadcast(
    broadcaster: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Delivered, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let mut request = BroadcastRequest::parse(payload.get())?;
    let message_id = match request.message_id.take() {
        Some(id) => id,
        None => default_message_id(&context)?,
    };
    let deadline = UnixMillis(context.deadline).minus(REPORTING_TIME);
    Ok(broadcaster.handle(request, message_id, deadline).await?)
}

/// Lambda keeps the request id when it retries, so it is as good a key as a
/// caller's own where the caller gave none.
fn default_message_id(context: &Context) -> Result<MessageId, FunctionError> {
    MessageId::parse(context.request_id.as_str()).map_err(|_| FunctionError {
        error_type: "InvalidRequest",
        message: "messageId: the invocation's request id cannot serve as one".into(),
    })
}

/// One line for the whole broadcast, with a few of the connections that failed.
fn log(delivered: &Delivered, request_id: &str) {
    let report = &delivered.report;
    let failures = &report.failures;
    let sample: Vec<String> = delivered
        .sample
        .iter()
        .map(|(id, cause)| format!("{id}: {cause}"))
        .collect();
    tracing::info!(
        requestId = %request_id,
        messageId = %report.message_id,
        success = report.success,
        failure = report.failure,
        gone = failures.gone,
        throttled = failures.throttled,
        tooLarge = failures.too_large,
        failed = failures.failed,
        notAttempted = failures.not_attempted,
        durationMs = u64::try_from(delivered.took.as_millis()).unwrap_or(u64::MAX),
        rowsKept = delivered.rows_kept,
        failedSample = sample.join(", "),
        "broadcast done"
    );
}
