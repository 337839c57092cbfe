//! `kick` and `drain`, which go on until every connection is counted, and
//! `report` and `resume`, which watch them.

use belfry_protocol::{BroadcastReport, BroadcastStatus, KickCode, MessageId};
use serde_json::{Value, json};

use super::Outcome;
use super::connections::{dry_run, dry_run_of_share};
use crate::arguments::{CareArgs, DrainArgs, KickArgs, TargetArgs};
use crate::confirm::confirm;
use crate::error::OpsError;
use crate::output::{Output, counted, grouped};
use crate::stack::{Stack, read};

/// How long one look at the report waits for the end, in seconds. Progress is
/// shown this often.
const WAIT_SECONDS: u8 = 2;

pub(super) async fn kick(
    stack: &Stack,
    output: &mut Output,
    arguments: &KickArgs,
) -> Result<Outcome, OpsError> {
    if arguments.care.dry_run {
        return dry_run(stack, output, &arguments.target.to_json(), "close").await;
    }
    ask_first(stack, &arguments.target, arguments.care, "closes")?;
    let request = json!({
        "action": "kick",
        "target": arguments.target.to_json(),
        "code": KickCode::from(arguments.code),
    });
    start(stack, output, request).await
}

pub(super) async fn drain(
    stack: &Stack,
    output: &mut Output,
    arguments: &DrainArgs,
) -> Result<Outcome, OpsError> {
    if arguments.care.dry_run {
        let target = arguments.target.to_json();
        return match arguments.percent {
            100 => dry_run(stack, output, &target, "ask").await,
            percent => dry_run_of_share(stack, output, &target, percent).await,
        };
    }
    ask_first(stack, &arguments.target, arguments.care, "replaces")?;
    let request = json!({
        "action": "drain",
        "target": arguments.target.to_json(),
        "withinSeconds": arguments.within,
        "percent": arguments.percent,
    });
    start(stack, output, request).await
}

fn ask_first(
    stack: &Stack,
    target: &TargetArgs,
    care: CareArgs,
    what: &str,
) -> Result<(), OpsError> {
    if !target.all || care.yes {
        return Ok(());
    }
    confirm(&format!(
        "This {what} every connection of {}.",
        stack.name()
    ))
}

async fn start(
    stack: &Stack,
    output: &mut Output,
    mut request: Value,
) -> Result<Outcome, OpsError> {
    // Ours, so that a call that is repeated because its answer was lost starts
    // nothing else.
    let id = uuid::Uuid::new_v4().to_string();
    request["messageId"] = id.as_str().into();
    watched(stack, output, request, &id).await
}

/// Watches work that has begun, from a report or by resuming it.
pub(super) async fn follow(
    stack: &Stack,
    output: &mut Output,
    action: &str,
    id: &MessageId,
) -> Result<Outcome, OpsError> {
    let request = json!({"action": action, "messageId": id});
    watched(stack, output, request, id.as_str()).await
}

/// Asks until the work is done, unless Ctrl-C comes first.
async fn watched(
    stack: &Stack,
    output: &mut Output,
    request: Value,
    id: &str,
) -> Result<Outcome, OpsError> {
    let command = |action| format!("  {}", stack.command(&format!("{action} {id}")));
    let mut begun = false;
    let done = until_done(stack, output, request, id, &mut begun);
    let last = tokio::select! {
        last = done => last,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            let what = if begun {
                "Stopped watching. The work continues. To watch it again:"
            } else {
                "Stopped before the stack answered. To see whether the work is running:"
            };
            return Err(OpsError::Interrupted(format!("{what}\n{}", command("report"))));
        }
    };
    // The first answer may have been lost after the work began.
    let last = last.map_err(|cause| {
        let unknown = matches!(cause, OpsError::Failed { .. } | OpsError::Aws { .. });
        if !begun && !unknown {
            return cause;
        }
        let report = stack.command(&format!("report {id}"));
        OpsError::Begun {
            cause: Box::new(cause),
            report,
        }
    })?;
    let report: BroadcastReport = read(&last)?;
    output.result(&last, || Ok(summary(&report)))?;
    if report.status == BroadcastStatus::Stopped {
        output.say(&format!(
            "The workers died before they finished. To continue their work:\n{}",
            command("resume")
        ));
    }
    let reached = report.failure == report.failures.gone;
    Ok(Outcome::of(
        report.complete && reached && report.status == BroadcastStatus::Done,
    ))
}

/// The last report of the work: it is done or has stopped.
async fn until_done(
    stack: &Stack,
    output: &mut Output,
    mut request: Value,
    id: &str,
    begun: &mut bool,
) -> Result<Value, OpsError> {
    let mut shown = String::new();
    loop {
        let answer = stack.ask(&request).await?;
        *begun = true;
        let report: BroadcastReport = read(&answer)?;
        if report.status != BroadcastStatus::Running {
            return Ok(answer);
        }
        let progress = progress(&report);
        if progress != shown {
            output.progress(&progress);
            shown = progress;
        }
        request = json!({"action": "report", "messageId": id, "waitSeconds": WAIT_SECONDS});
    }
}

fn progress(report: &BroadcastReport) -> String {
    format!(
        "{}: {} reached, {} not",
        report.message_id,
        grouped(report.success),
        grouped(report.failure)
    )
}

fn summary(report: &BroadcastReport) -> String {
    let status = match report.status {
        BroadcastStatus::Done => "done",
        BroadcastStatus::Running => "running",
        BroadcastStatus::Stopped => "stopped",
    };
    let mut text = format!(
        "{} {status}: {} reached",
        report.message_id,
        counted(report.success, "connection")
    );
    let failures = report.failures;
    for (count, what) in [
        (failures.gone, "gone already"),
        (failures.throttled, "throttled"),
        (failures.too_large, "too large"),
        (failures.failed, "failed"),
        (failures.not_attempted, "not attempted"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", grouped(count)));
        }
    }
    if !report.complete {
        text.push_str("; some are not counted yet");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: Value) -> BroadcastReport {
        read(&value).unwrap()
    }

    #[test]
    fn a_report_is_one_sentence() {
        let done = report(json!({
            "messageId": "m", "status": "done", "success": 12_000, "failure": 3,
            "failures": {"gone": 2, "throttled": 1, "tooLarge": 0, "failed": 0, "notAttempted": 0},
        }));
        insta::assert_snapshot!(summary(&done), @"m done: 12,000 connections reached, 2 gone already, 1 throttled");
        let stopped = report(json!({
            "messageId": "m", "status": "stopped", "success": 1, "failure": 0, "complete": false,
            "failures": {"gone": 0, "throttled": 0, "tooLarge": 0, "failed": 0, "notAttempted": 0},
        }));
        insta::assert_snapshot!(summary(&stopped), @"m stopped: 1 connection reached; some are not counted yet");
        insta::assert_snapshot!(progress(&done), @"m: 12,000 reached, 3 not");
    }
}
