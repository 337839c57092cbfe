//! The settings and wiring that the broadcaster and its workers share.

use std::time::Duration;

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{Clients, DynamoDb, LambdaWorkers, SystemClock, SystemRandomness};
use belfry_core::broadcast::{Delivered, DeliverySettings, FanoutSettings, Worker};
use belfry_core::channels::ChannelRules;
use belfry_protocol::BroadcastStatus;

use crate::common::{ApiEndpoint, Common, Metrics};
use crate::environment::{Environment, SettingError};

#[derive(Debug)]
pub(crate) struct Settings {
    common: Common,
    api_endpoint: ApiEndpoint,
    rules: ChannelRules,
    delivery: DeliverySettings,
    pub(crate) max_workers: u32,
    worker_function: String,
}

impl Settings {
    pub(crate) fn read(
        environment: &Environment,
        worker_function: String,
    ) -> Result<Self, SettingError> {
        let concurrency = environment.count("POST_CONCURRENCY", 64, 1_000)?;
        let post_timeout = environment.number("POST_TIMEOUT_MS", 3_000, 100..=29_000)?;
        let posts_per_second = environment.count("POSTS_PER_SECOND", 2_500, 100_000)?;
        // Every worker makes at least one post a second.
        let max_workers = environment
            .count("MAX_WORKERS", 4, 100)?
            .min(posts_per_second);
        Ok(Self {
            common: Common::read(environment)?,
            api_endpoint: ApiEndpoint::read(environment)?,
            rules: environment.parsed("CHANNEL_RULES", ChannelRules::default())?,
            delivery: DeliverySettings {
                concurrency: usize::try_from(concurrency).unwrap_or(1),
                post_timeout: Duration::from_millis(post_timeout),
                // Each worker has its share, whether or not the others are
                // active, so they need not coordinate.
                posts_per_second: f64::from(posts_per_second) / f64::from(max_workers),
            },
            max_workers,
            worker_function,
        })
    }

    /// How messages to channels are split among workers. Only broadcasts to
    /// everyone have an interval.
    pub(crate) fn of_publishers(&self, connections_per_worker: u32) -> FanoutSettings {
        FanoutSettings {
            connections_per_worker,
            max_workers: self.max_workers,
            all_interval: Duration::ZERO,
        }
    }
}

pub(crate) type UseCase =
    Worker<DynamoDb, ManagementOutbox, SystemClock, Metrics, LambdaWorkers, SystemRandomness>;

/// The adapters that posting needs, and the clients that others can share.
pub(crate) struct Opened {
    pub(crate) worker: UseCase,
    pub(crate) clients: Clients,
}

pub(crate) async fn build(settings: Settings) -> UseCase {
    open(settings).await.worker
}

pub(crate) async fn open(settings: Settings) -> Opened {
    let adapters = settings.common.open().await;
    let lambda = adapters.clients.lambda();
    let worker = Worker {
        outbox: settings.api_endpoint.outbox(&adapters.clients),
        store: adapters.store,
        clock: SystemClock,
        metrics: adapters.metrics,
        workers: LambdaWorkers::new(lambda, settings.worker_function),
        random: SystemRandomness,
        rules: settings.rules,
        delivery: settings.delivery,
    };
    Opened {
        worker,
        clients: adapters.clients,
    }
}

/// Logs a broadcast's present state, with some of the connections that failed.
pub(crate) fn log(delivered: &Delivered, segment: Option<u32>, request_id: &str) {
    let report = &delivered.report;
    let failures = &report.failures;
    let sample: Vec<String> = delivered
        .sample
        .iter()
        .map(|(id, cause)| format!("{id}: {cause}"))
        .collect();
    let message = match report.status {
        BroadcastStatus::Done => "broadcast done",
        BroadcastStatus::Running => "broadcast running",
        BroadcastStatus::Stopped => "broadcast stopped",
    };
    tracing::info!(
        event = "broadcast.reported",
        requestId = %request_id,
        messageId = %report.message_id,
        segment,
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
        "{message}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::VALID;

    #[test]
    fn the_workers_share_the_whole_rate() {
        for (posts, workers, share) in [("7", "4", 1.75), ("199", "100", 1.99), ("2", "4", 1.0)] {
            let rate = [("POSTS_PER_SECOND", posts), ("MAX_WORKERS", workers)];
            let environment = VALID.into_iter().chain(rate).collect();
            let settings = Settings::read(&environment, "Worker".into()).unwrap();
            let rate = settings.delivery.posts_per_second;
            assert!((rate - share).abs() < 1e-9, "{posts}, {workers}: {rate}");
        }
    }
}
