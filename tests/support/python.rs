//! A client from PyPI.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::node::printed_by;
use crate::stack::repository;

/// Runs a script of `tests/python` and returns the JSON it prints.
///
/// # Panics
/// If it fails.
pub async fn python(script: &str, arguments: &[&str]) -> Value {
    let interpreter = repository().join(".venv/clients/bin/python");
    assert!(
        interpreter.exists(),
        "the Python packages are missing; run `make test-tools`"
    );
    let mut command = Command::new(interpreter);
    command.arg(script).args(arguments);
    command.current_dir(repository().join("tests/python"));
    printed_by(command.stdin(Stdio::null()), script).await
}
