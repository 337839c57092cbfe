//! The Lambda function that serves HTTP readers.

use std::process::ExitCode;
use std::sync::Arc;

use belfry_functions::{reader, start};
use lambda_runtime::{run, service_fn};

fn main() -> ExitCode {
    start(reader::Settings::read, async |settings| {
        let use_case = &Arc::new(reader::build(settings).await);
        run(service_fn(|event| reader::handle(use_case, event))).await
    })
}
