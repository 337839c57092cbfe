//! The Lambda function that ends, pings and moves connections every minute.

use std::process::ExitCode;

use belfry_functions::{start, sweeper};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(sweeper::Settings::read, async |settings| {
        let use_case = &sweeper::build(settings).await;
        run(service_fn(|event| sweeper::handle(use_case, event))).await
    })
}
