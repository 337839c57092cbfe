//! The Lambda function that operators invoke.

use std::process::ExitCode;

use belfry_functions::{operator, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(operator::Settings::read, async |settings| {
        let operator = &operator::build(settings).await;
        run(service_fn(|event| operator::handle(operator, event))).await
    })
}
