//! The actions, one file for each subject.

mod channels;
mod connections;
mod sign_out;
mod stats;
mod work;

use std::process::ExitCode;

use crate::arguments::Action;
use crate::error::OpsError;
use crate::output::Output;
use crate::stack::Stack;
use crate::watch;

/// Whether everything was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete,
    /// Some of it failed or is not done.
    Partial,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Complete => Self::SUCCESS,
            Outcome::Partial => Self::FAILURE,
        }
    }
}

impl Outcome {
    pub(crate) fn of(complete: bool) -> Self {
        if complete {
            Self::Complete
        } else {
            Self::Partial
        }
    }
}

pub(crate) async fn run(
    action: &Action,
    stack: &Stack,
    output: &mut Output,
) -> Result<Outcome, OpsError> {
    match action {
        Action::List(arguments) => connections::list(stack, output, arguments).await,
        Action::Inspect(arguments) => {
            connections::inspect(stack, output, &arguments.connection).await
        }
        Action::Kick(arguments) => work::kick(stack, output, arguments).await,
        Action::Drain(arguments) => work::drain(stack, output, arguments).await,
        Action::Report(arguments) => work::follow(stack, output, "report", &arguments.id).await,
        Action::Resume(arguments) => work::follow(stack, output, "resume", &arguments.id).await,
        Action::Stats => stats::stats(stack, output).await,
        Action::Purge(arguments) => channels::purge(stack, output, arguments).await,
        Action::Presence(arguments) => channels::presence(stack, output, &arguments.channel).await,
        Action::Locks(arguments) => channels::locks(stack, output, &arguments.channel).await,
        Action::Unlock(arguments) => channels::unlock(stack, output, arguments).await,
        Action::SignOut(arguments) => sign_out::sign_out(stack, output, arguments).await,
        Action::Watch(arguments) => watch::watch(stack, output, arguments).await,
    }
}
