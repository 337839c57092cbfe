//! The Lambda function behind the route `$disconnect`.

use std::process::ExitCode;

use belfry_functions::{disconnect, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(disconnect::Settings::read, async |settings| {
        let use_case = &disconnect::build(settings).await;
        run(service_fn(|event| disconnect::handle(use_case, event))).await
    })
}
