//! `belfry ops`: what operators ask of a running stack, from a terminal.
//!
//! Each action is a request to the function `Operator`; `watch` also reads
//! metrics and alarms. This crate has no rules: it asks, shows and waits.

mod actions;
mod arguments;
mod cloud;
pub mod commands;
mod confirm;
mod error;
mod http;
mod output;
mod stack;
mod watch;

use std::process::ExitCode;

pub use arguments::OpsArgs;
use error::OpsError;
use output::Output;
pub use output::printable;
use stack::Stack;

/// Runs an action and returns the program's exit code.
#[must_use]
pub fn run(arguments: &OpsArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(OpsError::Io)
        .and_then(|runtime| runtime.block_on(act(arguments)));
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("belfry: {}", printable(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn act(arguments: &OpsArgs) -> Result<actions::Outcome, OpsError> {
    let stack = Stack::open(&arguments.stack).await?;
    let mut output = Output::new(arguments.json);
    actions::run(&arguments.action, &stack, &mut output).await
}
