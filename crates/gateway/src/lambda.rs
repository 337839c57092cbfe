//! Lambda on one machine: execution environments that are spawned on demand,
//! and the APIs on both sides of them.

mod environment;
mod function;
mod invoke_api;
mod runtime_api;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;

use crate::template::{ACCOUNT, FunctionSpec};
use function::Function;
pub(crate) use invoke_api::router as invoke_router;
use runtime_api::Environments;
pub(crate) use runtime_api::router as runtime_router;

/// How long the environments may take to end: killing them takes milliseconds.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

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
    /// How many environments a function may have at a time.
    pub concurrency: usize,
}

/// What an invocation came to.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// What the function returned, or its error as JSON.
    pub payload: Bytes,
    /// Whether the payload is an error.
    pub is_error: bool,
}

impl Outcome {
    fn error(error_type: &str, message: &str) -> Self {
        let payload = json!({"errorType": error_type, "errorMessage": message})
            .to_string()
            .into();
        Self {
            payload,
            is_error: true,
        }
    }
}

/// The functions of the stack.
#[derive(Clone)]
pub(crate) struct Lambda {
    functions: Arc<BTreeMap<String, Arc<Function>>>,
    environments: Environments,
}

impl Lambda {
    /// Functions that can be invoked; nothing is spawned yet.
    pub(crate) fn new(specs: impl IntoIterator<Item = FunctionSpec>, settings: &Settings) -> Self {
        let environments = Environments::default();
        let functions = specs
            .into_iter()
            .map(|spec| {
                let name = spec.name.clone();
                (
                    name,
                    Arc::new(Function::new(spec, settings.clone(), environments.clone())),
                )
            })
            .collect();
        Self {
            functions: Arc::new(functions),
            environments,
        }
    }

    /// The function that a name, a partial or a whole ARN means, with or
    /// without a version.
    fn find(&self, name: &str) -> Option<&Arc<Function>> {
        let whole = format!(":{ACCOUNT}:function:");
        let partial = format!("{ACCOUNT}:function:");
        let name = name
            .split_once(&whole)
            .map(|(_, rest)| rest)
            .or(name.strip_prefix(&partial))
            .unwrap_or(name);
        let name = name.strip_suffix(":$LATEST").unwrap_or(name);
        self.functions.get(name)
    }

    /// Runs a function for one event, to its end: the caller may stop
    /// waiting, as API Gateway does, and the function goes on.
    pub(crate) async fn invoke(&self, name: &str, event: Bytes) -> Outcome {
        let Some(function) = self.find(name).map(Arc::clone) else {
            return Outcome::error(
                "ResourceNotFoundException",
                &format!("Function not found: {name}"),
            );
        };
        let run = tokio::spawn(async move { function.invoke(event).await });
        match run.await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::error("ServiceException", &error.to_string()),
        }
    }

    /// Ends every environment, or after a moment leaves the rest to the end of
    /// the process.
    pub(crate) async fn stop(&self) {
        let all = join_all(self.functions.values().map(|function| function.stop()));
        let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
    }
}
