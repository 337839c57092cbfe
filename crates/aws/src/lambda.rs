mod callee;
mod hooks;

use std::ops::RangeInclusive;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use belfry_core::channels::Actions;
use belfry_core::ports::{Authorizer, Permission, Question, Workers};
use belfry_protocol::{Action, ChannelName, MessageId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use callee::{CALL_TIME, LambdaCallee};
pub use hooks::{HooksTask, LambdaHooks, LambdaListener, SubjectName};

use crate::sdk_error::describe;

/// Time limit of an answer of the application. Its client waits.
const ASK_TIME: Duration = Duration::from_secs(3);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4_096;

/// How long an answer may hold, in seconds.
const LIFETIMES: RangeInclusive<u32> = 1..=86_400;

/// Asks a Lambda function of the application's own what a user may do. Without
/// a function, nothing is allowed.
#[derive(Debug, Clone)]
pub struct LambdaAuthorizer {
    client: Client,
    function: Option<String>,
}

/// What the function is invoked with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AskEvent<'a> {
    user_id: &'a UserId,
    claims: Value,
    channel: &'a ChannelName,
    action: Action,
}

/// What the function answers. Anything else is odd, and allows nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskAnswer {
    allow: Vec<String>,
    /// Needed if something is allowed.
    seconds: Option<u32>,
}

impl LambdaAuthorizer {
    #[must_use]
    pub fn new(client: Client, function: Option<String>) -> Self {
        Self { client, function }
    }
}

impl Authorizer for LambdaAuthorizer {
    async fn ask(&self, question: Question<'_>) -> Result<Permission, String> {
        let Some(function) = &self.function else {
            return Err("a rule says `ask`, but the stack has no AuthorizeFunction".into());
        };
        let event = AskEvent {
            user_id: question.user_id,
            claims: question.claims.to_value(),
            channel: question.channel,
            action: question.action,
        };
        let invoked = invoke(&self.client, function, &event, ASK_TIME).await;
        let answer = invoked.map_err(|error| error.to_string())?;
        read_answer(answer.as_ref()).ok_or_else(|| format!("{function} gave an odd answer"))
    }
}

fn read_answer(payload: &[u8]) -> Option<Permission> {
    if payload.len() > MAX_ANSWER_BYTES {
        return None;
    }
    let AskAnswer { allow, seconds } = serde_json::from_slice(payload).ok()?;
    let action = |name: &String| {
        let mut all = Action::ALL.into_iter();
        all.find(|action| action.as_str() == name)
    };
    let actions: Actions = allow.iter().map(action).collect::<Option<_>>()?;
    let seconds = seconds.or(actions.is_empty().then_some(1))?;
    LIFETIMES.contains(&seconds).then(|| Permission {
        actions,
        lifetime: Duration::from_secs(seconds.into()),
    })
}

/// Why a function of the application's own did not answer.
#[derive(Debug, thiserror::Error)]
enum InvokeError {
    #[error("{function} did not answer within {limit:?}")]
    TimedOut { function: String, limit: Duration },
    #[error("{function} failed: {error}")]
    Failed { function: String, error: String },
    #[error("{0}")]
    Throttled(String),
    #[error("{0}")]
    Unavailable(String),
}

/// Invokes a function of the application's own and waits for its answer.
async fn invoke(
    client: &Client,
    function: &str,
    event: &impl Serialize,
    limit: Duration,
) -> Result<Blob, InvokeError> {
    let payload =
        serde_json::to_vec(event).map_err(|error| InvokeError::Unavailable(error.to_string()))?;
    let invoke = client
        .invoke()
        .function_name(function)
        .payload(Blob::new(payload));
    let invoked = tokio::time::timeout(limit, Box::pin(invoke.send())).await;
    let answer = invoked
        .map_err(|_| InvokeError::TimedOut {
            function: function.into(),
            limit,
        })?
        .map_err(|error| match error.code() {
            Some("TooManyRequestsException") => InvokeError::Throttled(describe(&error)),
            _ => InvokeError::Unavailable(describe(&error)),
        })?;
    match answer.function_error() {
        Some(error) => Err(InvokeError::Failed {
            function: function.into(),
            error: error.into(),
        }),
        None => Ok(answer.payload.unwrap_or_else(|| Blob::new([]))),
    }
}

/// The event of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SegmentTask {
    pub message_id: MessageId,
    /// Counted from zero.
    pub segment: u32,
}

/// Starts workers as asynchronous invocations of a Lambda function. Lambda
/// retries a failed one twice, after one and two minutes, under the same
/// request id (AWS: "How Lambda handles errors and retries with asynchronous
/// invocation").
#[derive(Debug, Clone)]
pub struct LambdaWorkers {
    client: Client,
    function: String,
}

impl LambdaWorkers {
    #[must_use]
    pub fn new(client: Client, function: String) -> Self {
        Self { client, function }
    }
}

impl Workers for LambdaWorkers {
    async fn start(&self, id: &MessageId, segment: u32) -> Result<(), String> {
        let task = SegmentTask {
            message_id: id.clone(),
            segment,
        };
        let payload = serde_json::to_vec(&task).map_err(|error| error.to_string())?;
        let invoke = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload));
        match Box::pin(invoke.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(describe(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_answer_allows_something() {
        let answer = read_answer(br#"{"allow":["subscribe","publish"],"seconds":300}"#).unwrap();
        assert!(answer.actions.contains(Action::Publish));
        assert!(!answer.actions.contains(Action::Lock));
        assert_eq!(answer.lifetime, Duration::from_secs(300));
        let refusal = read_answer(br#"{"allow":[]}"#).unwrap();
        assert!(refusal.actions.is_empty());
        let long = format!(r#"{{"allow":[],"seconds":1{}}}"#, " ".repeat(5_000));
        for odd in [
            "",
            "null",
            "true",
            r#""yes""#,
            r#"{"allow":true,"seconds":300}"#,
            r#"{"allow":["subscribe"]}"#,
            r#"{"allow":["everything"],"seconds":300}"#,
            r#"{"allow":["subscribe"],"seconds":0}"#,
            r#"{"allow":["subscribe"],"seconds":86401}"#,
            r#"{"allow":["subscribe"],"seconds":-1}"#,
            r#"{"allow":["subscribe"],"seconds":300,"history":{"seconds":600}}"#,
            r#"{"errorMessage":"boom","errorType":"Error"}"#,
            &long,
        ] {
            assert_eq!(read_answer(odd.as_bytes()), None, "{odd:.80}");
        }
    }
}
