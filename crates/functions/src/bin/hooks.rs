//! The Lambda function that tells the application's function of events.

use std::process::ExitCode;

use belfry_functions::{hooks, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(hooks::Settings::read, async |settings| {
        let use_case = &hooks::build(settings).await;
        run(service_fn(|event| hooks::handle(use_case, event))).await
    })
}
