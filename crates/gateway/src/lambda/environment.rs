//! An execution environment: one process of a function.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::runtime_api::{Environments, Event, FromRuntime, Link};
use super::{Outcome, Settings};
use crate::ids;
use crate::template::{ACCOUNT, FunctionSpec};

/// How long a function may take until it asks for its first event (AWS: "the
/// Init phase is limited to 10 seconds").
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest line of a function's output that is shown in one piece.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Why an environment is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("could not start {path}: {cause}; build it with `cargo build --workspace --bins`")]
    Spawn { path: String, cause: std::io::Error },
    #[error("Runtime exited with error: {0}")]
    Exit(ExitStatus),
    #[error("Task timed out after {:.2} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the function did not ask for an event within {} seconds", INIT_TIMEOUT.as_secs())]
    Init,
    #[error("the function reported that it cannot start: {0}")]
    InitError(String),
}

impl Failure {
    /// The word that Lambda has for it.
    pub(super) fn error_type(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "Runtime.InvalidEntrypoint",
            Self::Exit(_) => "Runtime.ExitError",
            Self::Timeout(_) => "Sandbox.Timedout",
            Self::Init => "Sandbox.InitTimedout",
            Self::InitError(_) => "Runtime.InitError",
        }
    }
}

/// A running process. Dropping it kills the process.
pub(super) struct Environment {
    child: Child,
    link: Link,
    arn: String,
}

impl Environment {
    /// Starts the function's binary with the environment that Lambda gives.
    /// Nothing of this process's own environment reaches it but `PATH`: a
    /// developer's real credentials stay out.
    pub(super) fn spawn(
        spec: &FunctionSpec,
        settings: &Settings,
        environments: &Environments,
    ) -> Result<Self, Failure> {
        let (name, region) = (spec.name.as_str(), settings.region.as_str());
        let link = environments.link();
        let path = settings.binaries.join(&spec.binary);
        let mut child = Command::new(&path)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_REGION", region)
            .env("AWS_DEFAULT_REGION", region)
            .env("AWS_ENDPOINT_URL_DYNAMODB", &settings.dynamodb_url)
            .env("AWS_ENDPOINT_URL_LAMBDA", &settings.lambda_url)
            .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env(
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                spec.memory_mb.to_string(),
            )
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}"))
            .env("AWS_LAMBDA_LOG_STREAM_NAME", link.id())
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                format!("{}{}", settings.runtime_api, link.path()),
            )
            .env("LAMBDA_TASK_ROOT", &settings.binaries)
            .env("_HANDLER", "bootstrap")
            .env("TZ", ":UTC")
            .envs(&spec.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the gateway, which then stops its functions.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| Failure::Spawn {
                path: path.display().to_string(),
                cause,
            })?;
        show(name, child.stdout.take());
        show(name, child.stderr.take());
        let arn = format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}");
        Ok(Self { child, link, arn })
    }

    /// Waits until the function asks for an event.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let asked = timeout(INIT_TIMEOUT, async {
            tokio::select! {
                message = self.link.received() => Ok(message),
                status = self.child.wait() => Err(exited(&status)),
            }
        });
        match asked.await {
            // It may have asked and died since.
            Ok(Ok(FromRuntime::Next)) => match self.child.try_wait() {
                Ok(Some(status)) => Err(Failure::Exit(status)),
                _ => Ok(()),
            },
            Ok(Ok(FromRuntime::InitError(error))) => Err(Failure::InitError(error)),
            Ok(Ok(FromRuntime::Answer { .. })) => Err(Failure::Init),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Init),
        }
    }

    /// Hands an event to the function, which must be ready, and waits for
    /// what it answers.
    pub(super) async fn handle(
        &mut self,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        let request_id = ids::uuid();
        self.link.send(Event {
            request_id: request_id.clone(),
            deadline: SystemTime::now() + limit,
            arn: self.arn.clone(),
            payload,
        });
        let answered = timeout(limit, async {
            loop {
                tokio::select! {
                    message = self.link.received() => match message {
                        FromRuntime::Answer { request_id: answered, outcome } if answered == request_id => return Ok(outcome),
                        _ => {}
                    },
                    status = self.child.wait() => return Err(exited(&status)),
                }
            }
        });
        answered.await.unwrap_or(Err(Failure::Timeout(limit)))
    }

    /// Ends the process and waits until it is gone.
    pub(super) async fn stop(mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill().await;
    }
}

fn exited(status: &std::io::Result<ExitStatus>) -> Failure {
    match status {
        Ok(status) => Failure::Exit(*status),
        Err(_) => Failure::Init,
    }
}

/// Shows a function's output, each line with its name.
fn show(name: &str, output: Option<impl AsyncRead + Send + Unpin + 'static>) {
    let Some(output) = output else { return };
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Read to its end whatever it holds: a function must not fail because
        // nobody takes its output.
        while let Ok(1..) = (&mut output)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await
        {
            eprintln!("[{name}] {}", String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    });
}
