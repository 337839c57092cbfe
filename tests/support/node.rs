//! Clients from npm.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::logs::Logs;
use crate::patience::ended;
use crate::stack::repository;

fn folder() -> PathBuf {
    let folder = repository().join("tests/node");
    assert!(
        folder.join("node_modules").is_dir(),
        "the npm packages are missing; run `make test-tools`"
    );
    folder
}

/// Runs a script of `tests/node` and returns the JSON it prints.
///
/// # Panics
/// If it fails.
pub async fn node(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new("node");
    command.arg(script).args(arguments);
    command.current_dir(folder()).stdin(Stdio::null());
    // The SDK warns of Node 20 on every run.
    command.env("AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED", "true");
    printed_by(&mut command, script).await
}

/// Runs a text as a Node module and returns the JSON it prints.
///
/// # Panics
/// If it fails or warns.
pub async fn node_text(text: &str, environment: &[(&str, &str)]) -> Value {
    let mut command = Command::new("node");
    command
        .args(["--input-type=module", "--eval", text])
        .envs(environment.iter().copied())
        .current_dir(folder())
        .stdin(Stdio::null());
    printed_by(&mut command, "the text").await
}

/// The JSON that a command prints.
///
/// # Panics
/// If it fails.
pub(crate) async fn printed_by(command: &mut Command, script: &str) -> Value {
    let output = ended(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let problem = || {
        format!(
            "{script}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    };
    assert!(output.status.success(), "{}", problem());
    assert!(output.stderr.is_empty(), "{}", problem());
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", problem()))
}

/// The path of wscat in `node_modules`.
#[must_use]
pub fn wscat_path() -> PathBuf {
    folder().join("node_modules/.bin/wscat")
}

/// A shell command with somebody at its keyboard.
pub struct Terminal {
    pub output: Logs,
    input: ChildStdin,
    _process: Child,
}

impl Terminal {
    /// Starts a shell command in the repository's root.
    ///
    /// # Panics
    /// If there is no shell.
    #[must_use]
    pub fn start(line: &str) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", &format!("exec {line}")])
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let output = Logs::of(process.stdout.take().expect("piped"));
        let input = process.stdin.take().expect("piped");
        Self {
            output,
            input,
            _process: process,
        }
    }

    pub async fn type_line(&mut self, line: &str) {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .expect("typed");
    }

    /// Types a line repeatedly until a line with these texts is printed: a
    /// program that is not ready yet drops its input.
    ///
    /// # Panics
    /// If none is printed in time.
    pub async fn type_until(&mut self, line: &str, parts: &[&str]) {
        for _ in 0..60 {
            self.type_line(line).await;
            if self
                .output
                .wait_up_to(Duration::from_millis(500), parts)
                .await
                .is_some()
            {
                return;
            }
        }
        panic!("no line with {parts:?} in:\n{}", self.output.text());
    }
}
