//! The Lambda function that processes a segment of a large broadcast.

use std::process::ExitCode;

use belfry_functions::{start, worker};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(worker::Settings::read, async |settings| {
        let use_case = &worker::build(settings).await;
        run(service_fn(|event| worker::handle(use_case, event))).await
    })
}
