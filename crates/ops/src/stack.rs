//! The stack that is asked: the function `Operator` of a CloudFormation stack or
//! of the local stack.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::arguments::{DEFAULT_ENDPOINT, StackArgs};
use crate::cloud::{BAD_CREDENTIALS, Cloud};
use crate::commands;
use crate::error::OpsError;
use crate::http::{Http, causes};

const INVOKING: &str = "invoking the function Operator";

/// The function's logical id, which is its name in the local stack.
const OPERATOR: &str = "Operator";

/// The function has 60 seconds.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(75);

/// For who asks, which only the log of the function needs.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);

/// The most characters of a caller's name. The function keeps no more.
const MAX_CALLER_CHARS: usize = 256;

pub(crate) struct Stack {
    lambda: aws_sdk_lambda::Client,
    function: String,
    /// Who asks, as Lambda's client context.
    context: String,
    pub(crate) place: Place,
    /// The flags that choose this stack again.
    flags: String,
}

pub(crate) enum Place {
    Local { endpoint: String },
    Aws { cloud: Cloud, stack: String },
}

impl Stack {
    pub(crate) async fn open(arguments: &StackArgs) -> Result<Self, OpsError> {
        let flags = flags(arguments);
        check(arguments)?;
        match &arguments.stack {
            None => Ok(Self::local(&arguments.endpoint, flags)),
            Some(stack) => Self::on_aws(stack, arguments, flags).await,
        }
    }

    fn local(endpoint: &str, flags: String) -> Self {
        let credentials = Credentials::new("local", "local", None, None, "the local stack");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(endpoint)
            .http_client(Http::plain().sdk_client())
            .build();
        Self {
            lambda: aws_sdk_lambda::Client::new(&config),
            function: OPERATOR.to_owned(),
            context: context(&user_at_host()),
            place: Place::Local {
                endpoint: endpoint.to_owned(),
            },
            flags,
        }
    }

    async fn on_aws(stack: &str, arguments: &StackArgs, flags: String) -> Result<Self, OpsError> {
        let http = Http::with_tls();
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http.sdk_client());
        if let Some(region) = &arguments.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &arguments.profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let cloud = Cloud::new(&config, http)?;
        let function = cloud.function_of(stack, OPERATOR).await?;
        let identity = aws_sdk_sts::Client::new(&config)
            .get_caller_identity()
            .send();
        let identity = tokio::time::timeout(IDENTITY_TIMEOUT, identity).await;
        let caller = identity.ok().and_then(|identity| identity.ok()?.arn);
        Ok(Self {
            lambda: aws_sdk_lambda::Client::new(&config),
            function,
            context: context(&caller.unwrap_or_else(user_at_host)),
            place: Place::Aws {
                cloud,
                stack: stack.to_owned(),
            },
            flags,
        })
    }

    /// Invokes the function and returns its report.
    pub(crate) async fn ask(&self, request: &Value) -> Result<Value, OpsError> {
        let invocation = self
            .lambda
            .invoke()
            .function_name(&self.function)
            .client_context(&self.context)
            .payload(Blob::new(request.to_string()));
        let output = tokio::time::timeout(INVOKE_TIMEOUT, invocation.send()).await;
        let output = output.map_err(|_| OpsError::Aws {
            operation: INVOKING,
            reason: format!("no answer within {INVOKE_TIMEOUT:?}"),
        })?;
        let output = output.map_err(|error| self.problem(error))?;
        let payload = output.payload().map(AsRef::as_ref).unwrap_or_default();
        let report: Value = serde_json::from_slice(payload)
            .map_err(|error| OpsError::UnknownReport(error.to_string()))?;
        if output.function_error().is_none() {
            return Ok(report);
        }
        let field = |name: &str| report[name].as_str().unwrap_or_default();
        Err(OpsError::of_function(
            field("errorType"),
            field("errorMessage"),
        ))
    }

    /// A command that asks the same stack.
    pub(crate) fn command(&self, action: &str) -> String {
        format!("{} ops {action}{}", commands::program(), self.flags)
    }

    /// What people call the stack.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::Local { endpoint } => format!("the local stack at {endpoint}"),
            Place::Aws { stack, .. } => format!("stack {stack}"),
        }
    }

    fn problem(&self, error: SdkError<InvokeError>) -> OpsError {
        let reason = error.message().map(str::to_owned);
        let reason = reason.unwrap_or_else(|| causes(&error));
        let denied = matches!(error.code(), Some("AccessDeniedException"));
        let bad = |code: &str| BAD_CREDENTIALS.iter().any(|bad| code.starts_with(bad));
        if error.code().is_some_and(bad) {
            return OpsError::NoCredentials(reason);
        }
        match (&error, &self.place) {
            (
                SdkError::DispatchFailure(_) | SdkError::TimeoutError(_),
                Place::Local { endpoint },
            ) => OpsError::NoLocalStack {
                endpoint: endpoint.clone(),
                cause: causes(&error),
            },
            _ if denied => OpsError::Denied {
                operation: "lambda:InvokeFunction",
                reason,
            },
            _ => OpsError::Aws {
                operation: INVOKING,
                reason,
            },
        }
    }
}

/// Reads a report as the type of its action.
pub(crate) fn read<T: DeserializeOwned>(report: &Value) -> Result<T, OpsError> {
    T::deserialize(report).map_err(|error| OpsError::UnknownReport(error.to_string()))
}

/// clap would look at the flags before and after the action one by one.
fn check(arguments: &StackArgs) -> Result<(), OpsError> {
    let is_elsewhere = arguments.endpoint != DEFAULT_ENDPOINT;
    match &arguments.stack {
        None if arguments.region.is_some() || arguments.profile.is_some() => Err(
            OpsError::WrongFlags("--region and --profile need --stack, the stack on AWS"),
        ),
        Some(_) if is_elsewhere => Err(OpsError::WrongFlags(
            "--endpoint is for the local stack; leave it out with --stack",
        )),
        _ => Ok(()),
    }
}

fn flags(arguments: &StackArgs) -> String {
    let endpoint = (arguments.endpoint != DEFAULT_ENDPOINT).then_some(&arguments.endpoint);
    [
        ("stack", arguments.stack.as_ref()),
        ("region", arguments.region.as_ref()),
        ("profile", arguments.profile.as_ref()),
        ("endpoint", endpoint),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!(" --{name} {}", commands::quoted(value?))))
    .collect()
}

fn user_at_host() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
    let system = rustix::system::uname();
    format!("{user}@{}", system.nodename().to_string_lossy())
}

/// Lambda's client context. The function gets it in a header, so it is ASCII.
fn context(by: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let by: String = by.chars().take(MAX_CALLER_CHARS).map(visible).collect();
    STANDARD.encode(json!({"custom": {"by": by}}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_named_in_ascii() {
        let decoded = |by: &str| String::from_utf8(STANDARD.decode(context(by)).unwrap()).unwrap();
        assert_eq!(decoded("zoë@host"), r#"{"custom":{"by":"zo?@host"}}"#);
        assert!(context(&"ü".repeat(9_000)).len() < 512);
    }

    #[test]
    fn a_further_command_asks_the_same_stack() {
        let mut arguments = StackArgs {
            stack: None,
            region: None,
            profile: None,
            endpoint: DEFAULT_ENDPOINT.to_owned(),
        };
        assert_eq!(flags(&arguments), "");
        arguments.endpoint = "http://127.0.0.1:4000".into();
        assert_eq!(flags(&arguments), " --endpoint http://127.0.0.1:4000");
        arguments.endpoint = DEFAULT_ENDPOINT.into();
        arguments.stack = Some("belfry-prod".into());
        arguments.region = Some("eu-west-1".into());
        arguments.profile = Some("on call".into());
        assert_eq!(
            flags(&arguments),
            " --stack belfry-prod --region eu-west-1 --profile 'on call'"
        );
    }
}
