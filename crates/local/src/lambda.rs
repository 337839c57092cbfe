//! Lambda on one machine: execution environments, started on demand, and the
//! two APIs around them, Invoke and the Runtime API.

mod asynchronous;
mod client_context;
mod environment;
mod function;
mod function_name;
mod invoke_api;
mod output;
mod response_stream;
mod runtime_api;
mod schedule;
mod trace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::console::Recorder;
use crate::fault::Faults;
use crate::ids;
use crate::metrics::Metrics;
use crate::template::{ACCOUNT, FunctionSpec};
use asynchronous::EventQueue;
pub(crate) use asynchronous::{DeadLetters, RetryDelays};
use client_context::ClientContext;
use function::{Function, Permit};
use function_name::{FunctionName, LATEST, UnresolvedName};
pub(crate) use invoke_api::router as invoke_router;
pub(crate) use output::is_metrics;
pub(crate) use response_stream::{ResponseStream, StreamCut};
use runtime_api::RuntimeRegistry;
pub(crate) use runtime_api::router as runtime_router;
pub(crate) use schedule::start as start_schedules;

/// How long all environments may take to stop. Killing them takes milliseconds.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Checks per idle period: an environment lives at most a quarter too long.
const RECLAIM_CHECKS: u32 = 4;

/// Settings that all functions share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The folder of the functions' binaries.
    pub binaries: PathBuf,
    /// The Runtime API's URL. Lambda's own value has no scheme, but the Rust
    /// runtime accepts a path only after one.
    pub runtime_api: String,
    pub dynamodb_url: String,
    pub lambda_url: String,
    pub region: String,
    /// Environments of one function; further events wait.
    pub max_environments: usize,
    /// Concurrent invocations of all functions; further ones are refused.
    pub concurrency: usize,
    /// Idle time after which an environment is stopped.
    pub reclaim_after: Duration,
    pub retry_delays: RetryDelays,
    /// Lambda's level of application logs, like `INFO`.
    pub log_level: &'static str,
    /// Collects the functions' metrics.
    pub metrics: Metrics,
    /// Whether the functions' output includes their metrics.
    pub show_metrics: bool,
}

impl Settings {
    fn arn(&self, name: &str) -> String {
        arn(&self.region, name)
    }
}

pub(crate) fn arn(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}")
}

/// An event for a function.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The same for every attempt at an asynchronous event.
    request_id: String,
    /// X-Ray's header. Its lineage stops endless recursion.
    trace: String,
    payload: Bytes,
    /// What the caller says of itself, for the function.
    client_context: Option<ClientContext>,
}

impl Invocation {
    /// An event with a new request id.
    pub(crate) fn new(payload: Bytes) -> Self {
        Self {
            request_id: ids::uuid(),
            trace: ids::trace(),
            payload,
            client_context: None,
        }
    }

    /// An event that names its own request id and trace.
    pub(crate) fn identified(request_id: String, trace: String, payload: Bytes) -> Self {
        Self {
            request_id,
            trace,
            payload,
            client_context: None,
        }
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// The result of an invocation.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The function's return value, or its error as JSON.
    pub payload: Bytes,
    pub is_error: bool,
    /// The end of the invocation's log.
    pub log_tail: Bytes,
}

/// How a function that may stream its response responded.
pub(crate) enum Streamed {
    /// At once, or with an error.
    Complete(Outcome),
    Stream(ResponseStream),
}

/// Why a function was not invoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotInvoked {
    #[error("Function not found: {0}")]
    Unknown(String),
    #[error("Rate Exceeded.")]
    Throttled {
        /// Whether the limit is the function's own reserved concurrency.
        reserved: bool,
    },
    #[error("the local stack is stopping")]
    Stopping,
}

impl NotInvoked {
    /// Lambda's name for a limit.
    pub(crate) fn throttle_reason(reserved: bool) -> &'static str {
        if reserved {
            "ReservedFunctionConcurrentInvocationLimitExceeded"
        } else {
            "ConcurrentInvocationLimitExceeded"
        }
    }
}

/// An event's turn to run.
pub(crate) struct Turn {
    function: Arc<Function>,
    permit: Permit,
}

impl Turn {
    /// Runs the event. The caller may stop waiting: it then continues to its end.
    pub(crate) async fn invoke(self, invocation: Invocation) -> Result<Outcome, NotInvoked> {
        let Self { function, permit } = self;
        let run = tokio::spawn(async move { function.invoke(permit, invocation, None).await });
        // The task is lost only if the async runtime shuts down.
        run.await.unwrap_or(Err(NotInvoked::Stopping))
    }
}

/// The stack's functions.
#[derive(Clone)]
pub(crate) struct Lambda {
    functions: Arc<BTreeMap<String, Arc<Function>>>,
    region: Arc<str>,
    runtimes: RuntimeRegistry,
    queue: EventQueue,
}

impl Lambda {
    /// Starts no environment yet. Reserved concurrency is taken from the pool
    /// that the other functions share, as on AWS.
    pub(crate) fn new(
        specs: Vec<FunctionSpec>,
        settings: &Settings,
        faults: &Faults,
        recorder: &Recorder,
    ) -> Self {
        let runtimes = RuntimeRegistry::default();
        let reserved: usize = specs
            .iter()
            .filter_map(|spec| spec.reserved_concurrency)
            .sum();
        let unreserved = Arc::new(Semaphore::new(
            settings.concurrency.saturating_sub(reserved),
        ));
        let functions = specs
            .into_iter()
            .map(|spec| {
                let concurrency = match spec.reserved_concurrency {
                    Some(reserved) => Arc::new(Semaphore::new(reserved)),
                    None => Arc::clone(&unreserved),
                };
                let name = spec.name.clone();
                let function = Function::new(
                    spec,
                    settings.clone(),
                    runtimes.clone(),
                    concurrency,
                    faults.clone(),
                    recorder.clone(),
                );
                (name, Arc::new(function))
            })
            .collect();
        let lambda = Self {
            functions: Arc::new(functions),
            region: settings.region.as_str().into(),
            runtimes,
            queue: EventQueue::new(settings.retry_delays),
        };
        tokio::spawn(lambda.clone().reclaim(settings.reclaim_after));
        lambda
    }

    pub(crate) fn dead_letters(&self) -> &DeadLetters {
        self.queue.dead_letters()
    }

    /// The name of the function that `Invoke` means with these parameters.
    fn resolve<'a>(
        &self,
        function_name: &'a str,
        qualifier: Option<&'a str>,
    ) -> Result<&'a str, UnresolvedName> {
        let function = FunctionName::parse(function_name);
        if let Some(region) = function.region
            && region != &*self.region
        {
            return Err(UnresolvedName::OtherRegion {
                function: region.to_owned(),
                stack: self.region.to_string(),
            });
        }
        let qualifier = match (function.qualifier, qualifier) {
            (Some(own), Some(given)) if own != given => return Err(UnresolvedName::OtherQualifier),
            (own, given) => own.or(given).unwrap_or(LATEST),
        };
        let arn = arn(&self.region, function.name);
        if !self.functions.contains_key(function.name) {
            let known: Vec<_> = self.functions.keys().map(String::as_str).collect();
            let hint = format!("{arn} (this stack has {})", known.join(", "));
            return Err(UnresolvedName::NotFound(hint));
        }
        if qualifier != LATEST {
            return Err(UnresolvedName::NotFound(format!("{arn}:{qualifier}")));
        }
        Ok(function.name)
    }

    /// How many processes a function may have, if all of them are busy. A further
    /// event waits.
    pub(crate) fn busy_environments(&self, name: &str) -> Option<usize> {
        self.functions.get(name)?.busy_environments()
    }

    fn find(&self, name: &str) -> Result<Arc<Function>, NotInvoked> {
        let function = self.functions.get(name).map(Arc::clone);
        function.ok_or_else(|| NotInvoked::Unknown(name.to_owned()))
    }

    /// Waits for one of this machine's environments of a function. The caller may
    /// stop waiting.
    pub(crate) async fn turn(&self, name: &str) -> Result<Turn, NotInvoked> {
        let function = self.find(name)?;
        let permit = function.acquire().await?;
        Ok(Turn { function, permit })
    }

    /// Runs a function for one event. The caller may stop waiting, as API
    /// Gateway does: a running invocation then continues to its end, and a
    /// queued one never starts.
    pub(crate) async fn invoke(
        &self,
        name: &str,
        invocation: Invocation,
    ) -> Result<Outcome, NotInvoked> {
        self.turn(name).await?.invoke(invocation).await
    }

    /// Like [`Self::invoke`], but returns as soon as the function begins to stream
    /// its response.
    pub(crate) async fn stream(
        &self,
        name: &str,
        invocation: Invocation,
    ) -> Result<Streamed, NotInvoked> {
        let Turn { function, permit } = self.turn(name).await?;
        let (sink, head) = response_stream::channel();
        let mut run =
            tokio::spawn(async move { function.invoke(permit, invocation, Some(sink)).await });
        tokio::select! {
            // A short response may have ended by now.
            biased;
            Ok(head) = head => Ok(Streamed::Stream(ResponseStream::new(head, run))),
            outcome = &mut run => {
                outcome.unwrap_or(Err(NotInvoked::Stopping)).map(Streamed::Complete)
            }
        }
    }

    /// Accepts an asynchronous event. It is retried if the function fails, and
    /// becomes a dead letter in the end. Then the task ends.
    pub(crate) fn invoke_later(
        &self,
        name: &str,
        invocation: Invocation,
    ) -> Result<JoinHandle<()>, NotInvoked> {
        self.queue.accept(self.find(name)?, invocation)
    }

    /// Stops environments that have been idle for `after`.
    async fn reclaim(self, after: Duration) {
        let mut checks =
            tokio::time::interval((after / RECLAIM_CHECKS).max(Duration::from_millis(1)));
        loop {
            checks.tick().await;
            for function in self.functions.values() {
                function.reclaim(after).await;
            }
        }
    }

    /// Stops every environment. After a timeout, the end of this process stops
    /// the rest.
    pub(crate) async fn stop(&self) {
        self.queue.stop();
        let all = join_all(self.functions.values().map(|function| function.stop()));
        let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
    }
}

/// An error in the form that Lambda reports.
fn error_payload(error_type: &str, message: &str) -> Bytes {
    json!({"errorType": error_type, "errorMessage": message})
        .to_string()
        .into()
}
