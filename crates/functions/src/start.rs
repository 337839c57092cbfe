use std::process::ExitCode;

use tracing::Level;

use crate::environment::{Environment, SettingError};
use crate::logging;

/// Starts a function: initialises logging, reads the settings, runs it. An
/// invalid setting ends the process with a log line that names it.
pub fn start<S, F>(
    settings: impl FnOnce(&Environment) -> Result<S, SettingError>,
    run: impl FnOnce(S) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), lambda_runtime::Error>>,
{
    let environment = Environment::of_process();
    let level = environment
        .parsed("AWS_LAMBDA_LOG_LEVEL", Level::INFO)
        .unwrap_or(Level::INFO);
    logging::init(level);
    let settings = match settings(&environment) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(event = "function.misconfigured", reason = %error, "a setting is invalid; the function cannot start");
            return ExitCode::FAILURE;
        }
    };
    // An environment handles one event at a time with less than two
    // processors: more threads would only cost start-up time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "function.stopped", reason = %error, "the function stopped");
            ExitCode::FAILURE
        }
    }
}
