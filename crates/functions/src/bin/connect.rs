//! The Lambda function behind the route `$connect`.

use std::process::ExitCode;

use belfry_functions::{connect, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(connect::Settings::read, async |settings| {
        let use_case = &connect::build(settings).await;
        run(service_fn(|event| connect::handle(use_case, event))).await
    })
}
