//! `sign-out`.

use belfry_protocol::SignOutReport;
use serde_json::json;

use super::Outcome;
use super::connections::dry_run;
use crate::arguments::SignOutArgs;
use crate::error::OpsError;
use crate::output::{Output, counted, grouped};
use crate::stack::{Stack, read};

pub(super) async fn sign_out(
    stack: &Stack,
    output: &mut Output,
    arguments: &SignOutArgs,
) -> Result<Outcome, OpsError> {
    let SignOutArgs { user, dry_run: dry } = arguments;
    if *dry {
        let target = json!({"type": "user", "userId": user});
        return dry_run(stack, output, &target, "refuse the user's tokens and close").await;
    }
    let request = json!({"action": "signOut", "userId": user});
    let answer = stack.ask(&request).await?;
    let report: SignOutReport = read(&answer)?;
    output.result(&answer, || Ok(summary(report)))?;
    let complete = report.failed == 0 && report.not_ended == 0;
    if !complete {
        output.say("Run the command again: that is safe.");
    }
    Ok(Outcome::of(complete))
}

fn summary(report: SignOutReport) -> String {
    let mut text = format!(
        "signed out: {} closed",
        counted(report.closed, "connection")
    );
    if report.failed > 0 {
        let failed = grouped(report.failed);
        text.push_str(&format!(", {failed} ended but not closed yet"));
    }
    if report.not_ended > 0 {
        let served = grouped(report.not_ended);
        text.push_str(&format!(", {served} perhaps still served"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let report = SignOutReport {
            closed: 1,
            ..SignOutReport::default()
        };
        insta::assert_snapshot!(summary(report), @"signed out: 1 connection closed");
        let report = SignOutReport {
            closed: 0,
            failed: 2,
            not_ended: 1,
        };
        insta::assert_snapshot!(summary(report), @"signed out: 0 connections closed, 2 ended but not closed yet, 1 perhaps still served");
    }
}
