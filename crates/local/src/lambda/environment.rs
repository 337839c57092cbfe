//! An execution environment: one process of a function.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::output::ProcessOutput;
use super::response_stream::StreamSink;
use super::runtime_api::{
    FunctionResponse, RuntimeEvent, RuntimeLink, RuntimeMessage, RuntimeRegistry,
};
use super::{Invocation, Settings, error_payload};
use crate::fault::FunctionFault;
use crate::template::FunctionSpec;

/// How long a function may take to ask for its first event (AWS: "the Init
/// phase is limited to 10 seconds").
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a process that breaks off its response may take to end. If it lives
/// on, only the response has failed.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Why an environment failed and cannot be used again.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("cannot start {path}: {cause}; {advice}")]
    Spawn {
        path: String,
        cause: io::Error,
        advice: &'static str,
    },
    #[error("Runtime exited with error: {0}")]
    Exit(ExitStatus),
    #[error("Task timed out after {:.2} seconds", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the function did not ask for an event within {} seconds", INIT_TIMEOUT.as_secs())]
    Init,
    #[error("the function reported an initialization error: {0}")]
    InitError(String),
}

impl EnvironmentError {
    /// Lambda's name for it.
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

/// A running process that leads its own process group. Dropping this kills the
/// group.
pub(super) struct Environment {
    child: Child,
    runtime: RuntimeLink,
    arn: String,
    memory_mb: u64,
    output: ProcessOutput,
}

impl Environment {
    /// Starts the function's code with Lambda's environment variables. Of this
    /// process's own environment it gets only `PATH`, so it never sees a
    /// developer's real credentials.
    pub(super) fn spawn(
        spec: &FunctionSpec,
        settings: &Settings,
        runtimes: &RuntimeRegistry,
    ) -> Result<Self, EnvironmentError> {
        let spawned = Self::try_spawn(spec, settings, runtimes);
        spawned.map_err(|cause| EnvironmentError::Spawn {
            path: spec.code.path(&settings.binaries).display().to_string(),
            cause,
            advice: spec.code.advice(),
        })
    }

    fn try_spawn(
        spec: &FunctionSpec,
        settings: &Settings,
        runtimes: &RuntimeRegistry,
    ) -> io::Result<Self> {
        let (name, region) = (spec.name.as_str(), settings.region.as_str());
        let runtime = runtimes.register();
        // One pipe for stdout and stderr keeps their lines in order.
        let (output, writer) = io::pipe()?;
        let child = spec
            .code
            .command(&settings.binaries)
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
            .env("AWS_LAMBDA_LOG_LEVEL", settings.log_level)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", runtime.id())
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                format!("{}{}", settings.runtime_api, runtime.path()),
            )
            .env("TZ", ":UTC")
            .envs(&spec.environment)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // Ctrl-C in the terminal must reach only the local stack, which then
            // stops its functions. If the local stack itself is killed, the
            // kernel ends the stopped processes of an orphaned group. The group is
            // not orphaned if the process that adopts its members is in the same
            // session, like a container's shell. Then they stay.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
            runtime.set_process_group(Pid::from_raw(id));
        }
        Ok(Self {
            child,
            runtime,
            arn: settings.arn(name),
            memory_mb: spec.memory_mb,
            output: ProcessOutput::new(
                name,
                output,
                settings.metrics.clone(),
                settings.show_metrics,
            )?,
        })
    }

    /// Waits until the function asks for an event.
    pub(super) async fn ready(&mut self) -> Result<(), EnvironmentError> {
        let ready = async {
            loop {
                match self.next_message().await? {
                    // It may have died since it asked.
                    RuntimeMessage::Next => match self.child.try_wait() {
                        Ok(Some(status)) => return Err(EnvironmentError::Exit(status)),
                        _ => return Ok(()),
                    },
                    RuntimeMessage::InitError(error) => {
                        return Err(EnvironmentError::InitError(error));
                    }
                    // A late response to an earlier event.
                    RuntimeMessage::Response { .. } | RuntimeMessage::Incomplete { .. } => {}
                }
            }
        };
        let ready = timeout(INIT_TIMEOUT, ready).await;
        ready.unwrap_or(Err(EnvironmentError::Init))
    }

    /// Sends an event to the function, which must be ready, and waits for its
    /// response. A streamed response goes to the sink, and its end is returned.
    pub(super) async fn handle(
        &mut self,
        invocation: Invocation,
        sink: Option<StreamSink>,
        limit: Duration,
        fault: Option<FunctionFault>,
    ) -> Result<FunctionResponse, EnvironmentError> {
        let request_id = invocation.request_id.clone();
        self.output.start_log(&request_id);
        let started = Instant::now();
        self.runtime.send(RuntimeEvent {
            invocation,
            sink,
            deadline: SystemTime::now() + limit,
            arn: self.arn.clone(),
        });
        let response = timeout(limit, self.respond(&request_id, fault)).await;
        let response = response.unwrap_or(Err(EnvironmentError::Timeout(limit)));
        // Everything that it wrote before its response is in the pipe by now.
        self.output.print_pending();
        if let Err(error) = &response {
            let line = format!("RequestId: {request_id} Error: {error}\n");
            self.output.log(line.as_bytes());
        }
        let duration = started.elapsed();
        let end = format!(
            "END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\t\n",
            duration.as_secs_f64() * 1_000.0,
            duration.as_micros().div_ceil(1_000),
            self.memory_mb,
        );
        self.output.log(end.as_bytes());
        response
    }

    /// The end of the last invocation's log.
    pub(super) fn log_tail(&self) -> Bytes {
        self.output.log_tail()
    }

    async fn respond(
        &mut self,
        request_id: &str,
        fault: Option<FunctionFault>,
    ) -> Result<FunctionResponse, EnvironmentError> {
        if let Some(FunctionFault::Kill { after }) = fault {
            tokio::select! {
                response = self.response_to(request_id) => return response,
                () = sleep(after) => self.kill(),
            }
        }
        let response = self.response_to(request_id).await?;
        if matches!(fault, Some(FunctionFault::LoseResponse)) {
            self.kill();
            return self.response_to(request_id).await;
        }
        Ok(response)
    }

    async fn response_to(
        &mut self,
        request_id: &str,
    ) -> Result<FunctionResponse, EnvironmentError> {
        loop {
            match self.next_message().await? {
                RuntimeMessage::Response {
                    request_id: answered,
                    response,
                } if answered == request_id => return Ok(response),
                RuntimeMessage::Incomplete {
                    request_id: answered,
                } if answered == request_id => return self.incomplete_response().await,
                // A late response to an earlier event, or a message out of order.
                _ => {}
            }
        }
    }

    /// The runtime has broken off its response, mostly because its process ended.
    async fn incomplete_response(&mut self) -> Result<FunctionResponse, EnvironmentError> {
        if let Ok(status) = timeout(EXIT_GRACE, self.child.wait()).await {
            return Err(status.map_or(EnvironmentError::Init, EnvironmentError::Exit));
        }
        Ok(FunctionResponse {
            payload: error_payload("Runtime.TruncatedResponse", "the response is incomplete"),
            is_error: true,
        })
    }

    /// Waits for the runtime's next message, and prints the output meanwhile.
    async fn next_message(&mut self) -> Result<RuntimeMessage, EnvironmentError> {
        loop {
            tokio::select! {
                // A process that has ended may have sent its response, or why it
                // does not start, just before.
                biased;
                message = self.runtime.next_message() => return Ok(message),
                status = self.child.wait() => {
                    // At once: the kernel may soon give the id to another group.
                    self.kill();
                    self.output.print_pending();
                    return Err(status.map_or(EnvironmentError::Init, EnvironmentError::Exit));
                }
                () = self.output.print_next() => {}
            }
        }
    }

    /// Kills the function's process and the processes that it started.
    fn kill(&mut self) {
        // The id stays this group's for as long as a member lives or has not
        // been reaped. An empty group does not exist, unless the kernel has
        // already reused its id.
        if let Some(group) = self.runtime.process_group() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Kills the process and waits until it is gone.
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
