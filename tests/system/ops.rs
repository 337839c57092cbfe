//! `belfry ops`, against the local stack and against a made-up AWS.

mod aws;
mod fake;
mod local;
mod operated;
mod terminal;
mod watch;
mod work;

use std::process::{Output, Stdio};

use belfry_tests::{binaries, ended};
use tokio::process::Command;

/// `belfry ops` with credentials of its own, whatever the person who runs the
/// tests has.
fn ops(arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("belfry"));
    command
        .arg("ops")
        .args(arguments)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("USER", "alice")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for variable in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
    ] {
        command.env_remove(variable);
    }
    command
}

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs `belfry ops` at a stack on this machine.
async fn ops_at(endpoint: &str, arguments: &[&str]) -> Ended {
    let arguments = [arguments, &["--endpoint", endpoint]].concat();
    ended(&mut ops(&arguments)).await.into()
}
