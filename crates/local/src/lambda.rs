//! Lambda on one machine: execution environments that are spawned on demand,
//! and the APIs on both sides of them.

mod asynchronous;
mod environment;
mod function;
mod invoke_api;
mod output;
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

use crate::fault::Faults;
use crate::ids;
use crate::template::{ACCOUNT, FunctionSpec};
use asynchronous::Queue;
pub(crate) use asynchronous::{DeadLetters, RetryDelays};
use function::Function;
pub(crate) use invoke_api::router as invoke_router;
use runtime_api::Environments;
pub(crate) use runtime_api::router as runtime_router;
pub(crate) use schedule::start as start_schedules;

/// How long the environments may take to end: killing them takes milliseconds.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// How many times an environment's idle time is looked at before it is
/// reclaimed: it lives at most a quarter longer than it may.
const RECLAIM_CHECKS: u32 = 4;

/// What every function's environment has in common.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The folder that holds the functions' binaries.
    pub binaries: PathBuf,
    /// Where the Runtime API is served. With its scheme: Lambda's own value has
    /// none, but then Rust's runtime takes no path.
    pub runtime_api: String,
    /// Where the embedded DynamoDB is served.
    pub dynamodb_url: String,
    /// Where Lambda's own API is served.
    pub lambda_url: String,
    /// The region that functions are told.
    pub region: String,
    /// How many environments of one function this machine runs; events beyond wait.
    pub environments: usize,
    /// How many invocations may be under way in all; more are refused.
    pub concurrency: usize,
    /// How long an environment may be idle before it is reclaimed.
    pub reclaim_after: Duration,
    /// How long a failed asynchronous event waits for its next attempt.
    pub retry_delays: RetryDelays,
    /// Whether lines that report metrics are shown among the functions' output.
    pub show_metrics: bool,
}

impl Settings {
    /// A function's ARN.
    fn arn(&self, name: &str) -> String {
        format!("arn:aws:lambda:{}:{ACCOUNT}:function:{name}", self.region)
    }
}

/// An event for a function.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The same for every attempt at an asynchronous event.
    request_id: String,
    /// X-Ray's header, with the lineage that stops endless recursion.
    trace: String,
    payload: Bytes,
}

impl Invocation {
    /// An event with a request id of its own.
    pub(crate) fn new(payload: Bytes) -> Self {
        Self {
            request_id: ids::uuid(),
            trace: ids::trace(),
            payload,
        }
    }
}

/// What an invocation came to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// What the function returned, or its error as JSON.
    pub payload: Bytes,
    /// Whether the payload is an error.
    pub is_error: bool,
    /// The end of what it logged.
    pub log: Bytes,
}

/// Why a function was not even started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotInvoked {
    #[error("Function not found: {0}")]
    Unknown(String),
    #[error("Rate Exceeded.")]
    Throttled {
        /// Whether the function's own reserved concurrency is the limit.
        reserved: bool,
    },
    #[error("the local stack is stopping")]
    Stopping,
}

/// The functions of the stack.
#[derive(Clone)]
pub(crate) struct Lambda {
    functions: Arc<BTreeMap<String, Arc<Function>>>,
    environments: Environments,
    queue: Queue,
}

impl Lambda {
    /// Functions that can be invoked; nothing is spawned yet. What they
    /// reserve of the concurrency is theirs alone, as on AWS.
    pub(crate) fn new(specs: Vec<FunctionSpec>, settings: &Settings, faults: &Faults) -> Self {
        let environments = Environments::default();
        let reserved: usize = specs.iter().filter_map(|spec| spec.reserved).sum();
        let unreserved = Arc::new(Semaphore::new(
            settings.concurrency.saturating_sub(reserved),
        ));
        let functions = specs
            .into_iter()
            .map(|spec| {
                let capacity = match spec.reserved {
                    Some(reserved) => Arc::new(Semaphore::new(reserved)),
                    None => Arc::clone(&unreserved),
                };
                let name = spec.name.clone();
                let function = Function::new(
                    spec,
                    settings.clone(),
                    environments.clone(),
                    capacity,
                    faults.clone(),
                );
                (name, Arc::new(function))
            })
            .collect();
        let lambda = Self {
            functions: Arc::new(functions),
            environments,
            queue: Queue::new(settings.retry_delays),
        };
        tokio::spawn(lambda.clone().reclaim(settings.reclaim_after));
        lambda
    }

    /// Asynchronous events that failed for good.
    pub(crate) fn dead_letters(&self) -> &DeadLetters {
        self.queue.dead_letters()
    }

    /// The function that a name, a partial or a whole ARN means, with or
    /// without a version.
    fn find(&self, name: &str) -> Result<Arc<Function>, NotInvoked> {
        let whole = format!(":{ACCOUNT}:function:");
        let partial = format!("{ACCOUNT}:function:");
        let short = name
            .split_once(&whole)
            .map(|(_, rest)| rest)
            .or(name.strip_prefix(&partial))
            .unwrap_or(name);
        let short = short.strip_suffix(":$LATEST").unwrap_or(short);
        let function = self.functions.get(short).map(Arc::clone);
        function.ok_or_else(|| {
            let known: Vec<_> = self.functions.keys().map(String::as_str).collect();
            NotInvoked::Unknown(format!("{name} (this stack has {})", known.join(", ")))
        })
    }

    /// Runs a function for one event. The caller may stop waiting, as API
    /// Gateway does: an event that has begun goes on to its end, one that still
    /// waits for its turn never begins.
    pub(crate) async fn invoke(
        &self,
        name: &str,
        invocation: Invocation,
    ) -> Result<Outcome, NotInvoked> {
        let function = self.find(name)?;
        let turn = function.turn().await?;
        let run = tokio::spawn(async move { function.invoke(turn, invocation).await });
        // A task ends early only with its runtime.
        run.await.unwrap_or(Err(NotInvoked::Stopping))
    }

    /// Takes an event for later: tried again where the function fails, and a
    /// dead letter in the end.
    pub(crate) fn invoke_later(
        &self,
        name: &str,
        invocation: Invocation,
    ) -> Result<(), NotInvoked> {
        self.queue.take(self.find(name)?, invocation)
    }

    /// Ends environments that had nothing to do for so long.
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

    /// Ends every environment, or after a moment leaves the rest to the end of
    /// the process.
    pub(crate) async fn stop(&self) {
        self.queue.stop();
        let all = join_all(self.functions.values().map(|function| function.stop()));
        let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
    }
}

/// An error in the form in which Lambda reports them.
fn error_payload(error_type: &str, message: &str) -> Bytes {
    json!({"errorType": error_type, "errorMessage": message})
        .to_string()
        .into()
}
