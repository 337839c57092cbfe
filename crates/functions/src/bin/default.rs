//! The Lambda function behind the route `$default`.

use std::process::ExitCode;

use belfry_functions::{default, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(default::Settings::read, async |settings| {
        let use_case = &default::build(settings).await;
        run(service_fn(|event| default::handle(use_case, event))).await
    })
}
