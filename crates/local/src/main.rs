//! Belfry's local stack: API Gateway for WebSockets, Lambda and DynamoDB in one
//! process. It runs the deployed binaries and talks to them through event JSON,
//! the Lambda Runtime API and HTTP only, as AWS does, so it cannot hide a mistake
//! in them.
//!
//! Only [`channels`] uses Belfry's other crates: it checks `channels.json` and
//! explains its decisions, and a second evaluator could decide otherwise than
//! the functions do. The same holds for the names of channels. The command line
//! also has `belfry ops`, a crate of its own. `tools/check_dependencies.py`
//! refuses any other use.

mod channels;
mod cli;
mod client;
mod clock;
mod code;
mod console;
mod cost;
mod database;
mod duration;
mod fault;
mod function_url;
mod guard;
mod ids;
mod issuer;
mod lambda;
mod listen;
mod local_api;
mod metrics;
mod nearest;
mod origins;
mod rate_limiter;
mod ready;
mod run;
mod server;
mod template;
mod terminal;
mod websocket;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use cli::{ChannelsCommand, Cli, Command};

/// How long blocking tasks may take when the stack stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => start(*arguments).map_err(|error| error.to_string()),
        Command::Token(arguments) => client::token(&arguments).map_err(|error| error.to_string()),
        Command::Invoke(arguments) => client::invoke(&arguments).map_err(|error| error.to_string()),
        Command::Subscribe(arguments) => {
            client::subscribe(&arguments).map_err(|error| error.to_string())
        }
        Command::Publish(arguments) => {
            client::publish(&arguments).map_err(|error| error.to_string())
        }
        Command::Call(arguments) => client::call(&arguments).map_err(|error| error.to_string()),
        Command::Channels(ChannelsCommand::Check(arguments)) => {
            channels::check(&arguments).map_err(|error| error.to_string())
        }
        Command::Cost(arguments) => {
            cost::print(&arguments);
            Ok(())
        }
        Command::Ops(arguments) => return belfry_ops::run(&arguments),
        Command::Completions { shell } => {
            cli::print_completions(shell);
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("belfry: {}", terminal::printable(&error));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: cli::RunArgs) -> Result<(), run::RunError> {
    let level = if arguments.verbose { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("belfry={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // A closed terminal must not make the stack panic.
        .log_internal_errors(false)
        .init();
    raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run::run(arguments));
    // Dropping the remaining tasks kills the functions' processes.
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}

/// Raises the limit of open files as far as allowed. Each socket is an open file,
/// and the usual limit is 1,024.
fn raise_open_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(reason = %error, "cannot raise the limit of open files");
    }
}
