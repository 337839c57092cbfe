//! The Lambda function that REST handlers invoke to broadcast.

use std::process::ExitCode;

use belfry_functions::{broadcaster, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(broadcaster::Settings::read, async |settings| {
        let use_case = &broadcaster::build(settings).await;
        run(service_fn(|event| broadcaster::handle(use_case, event))).await
    })
}
