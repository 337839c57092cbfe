//! The sweeper: ends, pings and moves connections.

use std::time::Duration;

use belfry_aws::apigateway::ManagementOutbox;
use belfry_aws::{DynamoDb, LambdaWorkers, SystemClock, SystemRandomness};
use belfry_core::UnixMillis;
use belfry_core::liveness::{LivenessSettings, Sweeper};
use belfry_core::ports::Clock;
use belfry_core::presence::PresenceSettings;
use belfry_protocol::{SweepReport, SweepRequest};
use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;

use crate::common::Metrics;
use crate::environment::{Environment, SettingError};
use crate::error::{FailureEvents, FunctionError};
use crate::fanout;

/// Time left after the last check has begun: ten seconds for the checks that are
/// under way, and five to count the open connections.
const FINISHING_TIME: Duration = Duration::from_secs(15);

/// Time limit of the audit, which comes before the sweep.
const AUDIT_TIME: Duration = Duration::from_secs(10);

const FAILURES: FailureEvents = FailureEvents {
    what: "sweep",
    refused: "sweep.refused",
    failed: "sweep.failed",
};

#[derive(Debug)]
pub struct Settings {
    fanout: fanout::Settings,
    connections_per_worker: u32,
    liveness: LivenessSettings,
    presence: PresenceSettings,
}

impl Settings {
    /// # Errors
    /// [`SettingError`], which names the variable.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let worker_function = environment.required("WORKER_FUNCTION")?;
        Ok(Self {
            fanout: fanout::Settings::read(environment, worker_function)?,
            connections_per_worker: environment.connections_per_worker()?,
            liveness: environment.liveness()?,
            presence: environment.presence()?,
        })
    }
}

pub type UseCase =
    Sweeper<DynamoDb, ManagementOutbox, SystemClock, Metrics, LambdaWorkers, SystemRandomness>;

pub async fn build(settings: Settings) -> UseCase {
    let fanout = settings
        .fanout
        .of_publishers(settings.connections_per_worker);
    let worker = fanout::build(settings.fanout).await;
    Sweeper {
        outbox: worker.outbox,
        store: worker.store,
        clock: worker.clock,
        metrics: worker.metrics,
        workers: worker.workers,
        random: worker.random,
        settings: settings.liveness,
        delivery: worker.delivery,
        fanout,
        presence: settings.presence,
    }
}

/// Handles one event of the schedule.
///
/// # Errors
/// [`FunctionError`]. What was done stays done, and the next sweep does the
/// rest.
pub async fn handle(
    sweeper: &UseCase,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<SweepReport, FunctionError> {
    let LambdaEvent { payload, context } = event;
    let deadline = UnixMillis(context.deadline).minus(FINISHING_TIME);
    let swept = sweep(sweeper, payload.get(), deadline, &context.request_id).await;
    swept.inspect_err(|error| error.log(FAILURES, &context.request_id, None))
}

async fn sweep(
    sweeper: &UseCase,
    payload: &str,
    deadline: UnixMillis,
    request_id: &str,
) -> Result<SweepReport, FunctionError> {
    SweepRequest::parse(payload)?;
    audit(sweeper).await;
    let swept = Box::pin(sweeper.sweep(deadline)).await;
    if let Ok(report) = &swept {
        log(report, request_id);
    }
    Ok(swept?)
}

/// Compares some of the counters with their rows: all it needs is something
/// that runs every minute.
///
/// Before the sweep, which moves rows in the index that lists them: a row that
/// is on its way would be missing in every audit that follows a sweep.
async fn audit(sweeper: &UseCase) {
    let audit = Box::pin(sweeper.store.audit_counters(sweeper.clock.now()));
    let reason = match tokio::time::timeout(AUDIT_TIME, audit).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took more than {AUDIT_TIME:?}"),
    };
    tracing::warn!(
        event = "counters.audit-failed",
        reason,
        "could not compare a counter with its rows"
    );
}

fn log(report: &SweepReport, request_id: &str) {
    macro_rules! log_at {
        ($level:ident) => {
            tracing::$level!(
                event = "sweep.completed",
                requestId = %request_id,
                kept = report.kept,
                pinged = report.pinged,
                reconnectSent = report.reconnect_sent,
                expired = report.expired,
                silent = report.silent,
                replaced = report.replaced,
                outlived = report.outlived,
                gone = report.gone,
                failed = report.failed,
                complete = report.complete,
                connections = report.connections,
                "swept"
            )
        };
    }
    // A line a minute about nothing would bury the others.
    if found_nothing(report) {
        log_at!(debug);
    } else {
        log_at!(info);
    }
}

/// Whether the sweep checked everything and nothing needed it.
fn found_nothing(report: &SweepReport) -> bool {
    let nothing = SweepReport {
        kept: report.kept,
        complete: true,
        connections: report.connections,
        ..SweepReport::default()
    };
    *report == nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tests::refuses;

    #[test]
    fn a_sweep_that_acted_failed_or_ran_out_of_time_found_something() {
        let report = |change: fn(&mut SweepReport)| {
            let mut report = SweepReport {
                complete: true,
                ..SweepReport::default()
            };
            change(&mut report);
            report
        };
        let nothing: [fn(&mut SweepReport); 2] = [|r| r.kept = 1, |r| r.connections = 1];
        assert!(nothing.map(report).iter().all(found_nothing));
        let something: [fn(&mut SweepReport); 9] = [
            |r| r.pinged = 1,
            |r| r.reconnect_sent = 1,
            |r| r.expired = 1,
            |r| r.silent = 1,
            |r| r.replaced = 1,
            |r| r.outlived = 1,
            |r| r.gone = 1,
            |r| r.failed = 1,
            |r| r.complete = false,
        ];
        assert!(!something.map(report).iter().any(found_nothing));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        refuses(
            Settings::read,
            &[
                ("STACK_NAME", ""),
                ("WEBSOCKET_API_ENDPOINT", ""),
                ("HEARTBEAT_INTERVAL_SECONDS", "0"),
            ],
        );
    }
}
