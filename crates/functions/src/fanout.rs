//! What the broadcaster and its workers have in common.

use std::time::Duration;

use belfry_aws::{
    Clients, DynamoConnections, LambdaWorkers, ManagementOutbox, SystemClock, Tables,
};
use belfry_core::{Broadcaster, Delivered, DeliverySettings, FanoutSettings};
use belfry_protocol::BroadcastStatus;

use crate::environment::{Environment, Metrics, SettingError};

/// What both need to know.
#[derive(Debug)]
pub(crate) struct Settings {
    region: String,
    tables: Tables,
    api_endpoint: String,
    delivery: DeliverySettings,
    fanout: FanoutSettings,
    worker: String,
    metrics: Metrics,
}

impl Settings {
    /// Reads the settings; `worker` is the function that workers are.
    pub(crate) fn read(environment: &Environment, worker: String) -> Result<Self, SettingError> {
        let number = |name, default, most| {
            let number = environment.number(name, default, 1..=most)?;
            Ok(u32::try_from(number).unwrap_or(u32::MAX))
        };
        let concurrency = number("POST_CONCURRENCY", 64, 1_000)?;
        let post_timeout = environment.number("POST_TIMEOUT_MS", 3_000, 100..=29_000)?;
        let posts_per_second = number("POSTS_PER_SECOND", 2_500, 100_000)?;
        // Each makes a post a second at least.
        let max_workers = number("MAX_WORKERS", 4, 100)?.min(posts_per_second);
        let all_interval = environment.number("BROADCAST_ALL_INTERVAL_SECONDS", 60, 0..=86_400)?;
        Ok(Self {
            region: environment.region()?,
            tables: environment.tables()?,
            api_endpoint: environment.api_endpoint()?,
            delivery: DeliverySettings {
                concurrency: usize::try_from(concurrency).unwrap_or(1),
                post_timeout: Duration::from_millis(post_timeout),
                // Each has its share, whether or not the others are at work:
                // nobody needs to ask anybody.
                posts_per_second: posts_per_second / max_workers,
            },
            fanout: FanoutSettings {
                connections_per_worker: number("CONNECTIONS_PER_WORKER", 5_000, 1_000_000)?,
                max_workers,
                all_interval: Duration::from_secs(all_interval),
            },
            worker,
            metrics: environment.metrics()?,
        })
    }
}

/// The use case with its adapters.
pub type UseCase =
    Broadcaster<DynamoConnections, ManagementOutbox, SystemClock, Metrics, LambdaWorkers>;

/// Puts the parts together, once for an environment.
pub(crate) async fn build(settings: Settings) -> UseCase {
    let clients = Clients::load(settings.region).await;
    Broadcaster {
        store: DynamoConnections::new(clients.dynamodb(), settings.tables),
        outbox: ManagementOutbox::new(clients.management(&settings.api_endpoint)),
        clock: SystemClock,
        metrics: settings.metrics,
        workers: LambdaWorkers::new(clients.lambda(), settings.worker),
        delivery: settings.delivery,
        fanout: settings.fanout,
    }
}

/// One line for a broadcast as it stands, with a few of the connections that
/// failed.
pub(crate) fn log(delivered: &Delivered, request_id: &str) {
    let report = &delivered.report;
    let failures = &report.failures;
    let sample: Vec<String> = delivered
        .sample
        .iter()
        .map(|(id, cause)| format!("{id}: {cause}"))
        .collect();
    let what = match report.status {
        BroadcastStatus::Done => "broadcast done",
        BroadcastStatus::Running => "broadcast running",
        BroadcastStatus::Stopped => "broadcast stopped",
    };
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
        complete = report.complete,
        "{what}"
    );
}
