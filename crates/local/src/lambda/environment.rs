//! An execution environment: one process of a function.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::output::Output;
use super::runtime_api::{Answer, Environments, Event, FromRuntime, Link};
use super::{Invocation, Settings};
use crate::fault::FunctionFault;
use crate::template::FunctionSpec;

/// How long a function may take until it asks for its first event (AWS: "the
/// Init phase is limited to 10 seconds").
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an environment is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("could not start {path}: {cause}; build it with `cargo build --workspace --bins`")]
    Spawn { path: String, cause: io::Error },
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

/// A running process, the leader of a group of its own. Dropping it kills them.
pub(super) struct Environment {
    child: Child,
    link: Link,
    arn: String,
    memory_mb: u64,
    output: Output,
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
        let path = settings.binaries.join(&spec.binary);
        let spawned = Self::try_spawn(spec, settings, environments);
        spawned.map_err(|cause| Failure::Spawn {
            path: path.display().to_string(),
            cause,
        })
    }

    fn try_spawn(
        spec: &FunctionSpec,
        settings: &Settings,
        environments: &Environments,
    ) -> io::Result<Self> {
        let (name, region) = (spec.name.as_str(), settings.region.as_str());
        let link = environments.link();
        // One pipe for both, so that their lines stay in order.
        let (output, written) = io::pipe()?;
        let child = Command::new(settings.binaries.join(&spec.binary))
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
            .stdout(written.try_clone()?)
            .stderr(written)
            // Ctrl-C in the terminal is for the gateway, which then stops its
            // functions. And where the gateway itself is killed, the system
            // wakes and ends the frozen processes of such an orphaned group.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
            link.of_process(Pid::from_raw(id));
        }
        Ok(Self {
            child,
            link,
            arn: settings.arn(name),
            memory_mb: spec.memory_mb,
            output: Output::new(name, output, settings.show_metrics)?,
        })
    }

    /// Waits until the function asks for an event.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let asked = timeout(INIT_TIMEOUT, self.said()).await;
        match asked.unwrap_or(Err(Failure::Init))? {
            // It may have asked and died since.
            FromRuntime::Next => match self.child.try_wait() {
                Ok(Some(status)) => Err(Failure::Exit(status)),
                _ => Ok(()),
            },
            FromRuntime::InitError(error) => Err(Failure::InitError(error)),
            FromRuntime::Answer { .. } => Err(Failure::Init),
        }
    }

    /// Hands an event to the function, which must be ready, and waits for
    /// what it answers.
    pub(super) async fn handle(
        &mut self,
        invocation: Invocation,
        limit: Duration,
        fault: Option<FunctionFault>,
    ) -> Result<Answer, Failure> {
        let request_id = invocation.request_id.clone();
        self.output.begin(&request_id);
        let begun = Instant::now();
        self.link.send(Event {
            invocation,
            deadline: SystemTime::now() + limit,
            arn: self.arn.clone(),
        });
        let answered = timeout(limit, self.answer(&request_id, fault)).await;
        let answered = answered.unwrap_or(Err(Failure::Timeout(limit)));
        // What it wrote before it answered is in the pipe by now.
        self.output.take();
        if let Err(failure) = &answered {
            let line = format!("RequestId: {request_id} Error: {failure}\n");
            self.output.note(line.as_bytes());
        }
        let took = begun.elapsed();
        let end = format!(
            "END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\t\n",
            took.as_secs_f64() * 1_000.0,
            took.as_micros().div_ceil(1_000),
            self.memory_mb,
        );
        self.output.note(end.as_bytes());
        answered
    }

    /// The end of what was logged for the last event.
    pub(super) fn log(&self) -> Bytes {
        self.output.tail()
    }

    async fn answer(
        &mut self,
        request_id: &str,
        fault: Option<FunctionFault>,
    ) -> Result<Answer, Failure> {
        if let Some(FunctionFault::Kill { after }) = fault {
            tokio::select! {
                answer = self.answer_to(request_id) => return answer,
                () = sleep(after) => self.kill(),
            }
        }
        let answer = self.answer_to(request_id).await?;
        if matches!(fault, Some(FunctionFault::LoseAnswer)) {
            self.kill();
            return self.answer_to(request_id).await;
        }
        Ok(answer)
    }

    async fn answer_to(&mut self, request_id: &str) -> Result<Answer, Failure> {
        loop {
            match self.said().await? {
                FromRuntime::Answer {
                    request_id: answered,
                    answer,
                } if answered == request_id => return Ok(answer),
                // Of an event that it gave up, or out of turn.
                _ => {}
            }
        }
    }

    /// What the runtime says next, while its output is shown.
    async fn said(&mut self) -> Result<FromRuntime, Failure> {
        loop {
            tokio::select! {
                message = self.link.received() => return Ok(message),
                status = self.child.wait() => {
                    self.output.take();
                    return Err(status.map_or(Failure::Init, Failure::Exit));
                }
                () = self.output.more() => {}
            }
        }
    }

    /// Kills the function's process and whatever it has started itself.
    fn kill(&mut self) {
        // A group keeps its id for as long as one of it lives or was not waited
        // for. Where none is left there is nothing to kill.
        if let Some(group) = self.link.process() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Ends the process and waits until it is gone.
    pub(super) async fn stop(mut self) {
        self.kill();
        let _ = self.child.wait().await;
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.kill();
    }
}
