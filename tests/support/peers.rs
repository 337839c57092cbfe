//! The functions that benchmarks compare: Belfry's own, and their
//! counterparts in other languages.

use std::ffi::OsStr;
use std::path::PathBuf;

use tokio::process::Command;

use crate::stack::{Stack, repository};

/// A program with an empty environment: some variables change what a runtime
/// reads at its start.
fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
    command
}

/// Where `make bench` puts the local stack and the functions as they are deployed.
#[must_use]
pub fn measured() -> PathBuf {
    repository().join("target/measured")
}

/// Belfry's function, as it is deployed.
#[must_use]
pub fn belfry(function: &str) -> Command {
    program(measured().join(function))
}

/// The same function in Node, bundled.
#[must_use]
pub fn node_peer(function: &str) -> Command {
    let file = format!("tests/benches/peers/node/dist/{function}.mjs");
    let mut command = program("node");
    command.arg(repository().join(file));
    // Otherwise the SDK warns at each start about Node versions it will drop.
    command.env("NODE_NO_WARNINGS", "1");
    command
}

/// The same function in Python.
#[must_use]
pub fn python_peer(function: &str) -> Command {
    let file = format!("tests/benches/peers/python/{function}.py");
    let mut command = program(repository().join(".venv/peer-python/bin/python"));
    command.arg(repository().join(file));
    command
}

impl Stack {
    /// Environment variables for functions that use this stack's tables and
    /// issuer, and post to another management API, without limits of Belfry's.
    #[must_use]
    pub fn unlimited(&self, management: &str) -> Vec<(&'static str, String)> {
        [
            ("AWS_ENDPOINT_URL_DYNAMODB", self.ready.dynamodb.as_str()),
            ("AWS_ENDPOINT_URL_LAMBDA", &self.ready.lambda),
            ("WEBSOCKET_CONNECTION_TABLE", "Connections"),
            ("WEBSOCKET_MESSAGE_TABLE", "Messages"),
            ("WEBSOCKET_SUBSCRIPTION_TABLE", "Subscriptions"),
            ("WEBSOCKET_STATE_TABLE", "State"),
            ("WEBSOCKET_API_ENDPOINT", management),
            ("TOKEN_ISSUER", &self.ready.issuer),
            ("COGNITO_CLIENT_IDS", "local"),
            ("STACK_NAME", "belfry"),
            ("WORKER_FUNCTION", "Worker"),
            ("MAX_CONNECTIONS_PER_USER", "1000"),
            ("MESSAGES_PER_MINUTE", "60000"),
            ("CONNECTIONS_PER_WORKER", "1000000"),
            ("POSTS_PER_SECOND", "100000"),
            ("MAX_WORKERS", "1"),
            ("BROADCAST_ALL_INTERVAL_SECONDS", "0"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }
}
