//! Functions that run on a schedule.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Invocation, Lambda};
use crate::ids;
use crate::template::{ACCOUNT, Schedule, ScheduleKind};

/// Ticks every schedule: as often as the template says, or as `every` says.
/// What is ignored is named once. They tick until their tasks are aborted.
pub(crate) fn start(
    lambda: &Lambda,
    schedules: Vec<(String, Schedule)>,
    every: Option<Duration>,
    region: &str,
) -> Vec<JoinHandle<()>> {
    let mut ticking = Vec::new();
    for (function, schedule) in schedules {
        let Some(period) = every.or(schedule.period) else {
            tracing::info!(
                "ignoring the schedule {}: {} has no local meaning; --schedule-every 1m ticks it all the same",
                schedule.id,
                schedule.expression
            );
            continue;
        };
        ticking.push(tokio::spawn(tick(
            lambda.clone(),
            function,
            schedule,
            period,
            region.to_owned(),
        )));
    }
    ticking
}

async fn tick(
    lambda: Lambda,
    function: String,
    schedule: Schedule,
    period: Duration,
    region: String,
) {
    let mut ticks = interval_at(Instant::now() + period, period);
    // A machine that slept for a night owes nobody a thousand ticks.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let event = event(&schedule, &region);
        let invocation = Invocation::new(event.to_string().into());
        if let Err(refusal) = lambda.invoke_later(&function, invocation) {
            tracing::warn!(schedule = schedule.id, reason = %refusal, "a tick was lost");
        }
    }
}

/// What the scheduler sends: the schedule's own input, or the event that
/// EventBridge makes.
fn event(schedule: &Schedule, region: &str) -> Value {
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
