//! Functions that run on a schedule.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Invocation, Lambda};
use crate::ids;
use crate::template::{ACCOUNT, ScheduleKind, ScheduleSpec};

/// Starts every schedule with the template's period, or with `every` if given,
/// and logs the schedules that it ignores. Aborting a task stops its schedule.
pub(crate) fn start(
    lambda: &Lambda,
    schedules: Vec<(String, ScheduleSpec)>,
    every: Option<Duration>,
    region: &str,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for (function, schedule) in schedules {
        let Some(period) = every.or(schedule.period) else {
            tracing::info!(
                "ignoring the schedule {}: the local stack does not evaluate {}; run it with --schedule-every 1m",
                schedule.id,
                schedule.expression
            );
            continue;
        };
        tasks.push(tokio::spawn(tick(
            lambda.clone(),
            function,
            schedule,
            period,
            region.to_owned(),
        )));
    }
    tasks
}

async fn tick(
    lambda: Lambda,
    function: String,
    schedule: ScheduleSpec,
    period: Duration,
    region: String,
) {
    let mut ticks = interval_at(Instant::now() + period, period);
    // After the machine slept, the missed ticks must not all run at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<JoinHandle<()>> = None;
    loop {
        ticks.tick().await;
        // Without this, sweeps every second would all do the same work at once.
        // At the template's own period they may, as on AWS.
        let overlaps = last.as_ref().is_some_and(|event| !event.is_finished());
        if overlaps && schedule.period.is_none_or(|own| period < own) {
            continue;
        }
        let event = event(&schedule, &region);
        let invocation = Invocation::new(event.to_string().into());
        match lambda.invoke_later(&function, invocation) {
            Ok(event) => last = Some(event),
            Err(error) => {
                tracing::warn!(schedule = schedule.id, reason = %error, "a scheduled event was lost");
            }
        }
    }
}

/// The schedule's own input, or EventBridge's default event.
fn event(schedule: &ScheduleSpec, region: &str) -> Value {
    if let Some(input) = &schedule.input {
        return input.clone();
    }
    let id = &schedule.id;
    let (source, arn, detail) = match schedule.kind {
        ScheduleKind::Rule => (
            "aws.events",
            format!("arn:aws:events:{region}:{ACCOUNT}:rule/{id}"),
            json!({}),
        ),
        ScheduleKind::Scheduler => (
            "aws.scheduler",
            format!("arn:aws:scheduler:{region}:{ACCOUNT}:schedule/default/{id}"),
            json!("{}"),
        ),
    };
    json!({
        "version": "0",
        "id": ids::uuid(),
        "detail-type": "Scheduled Event",
        "source": source,
        "account": ACCOUNT,
        "time": format!("{:.0}", jiff::Timestamp::now()),
        "region": region,
        "resources": [arn],
        "detail": detail,
    })
}
