//! How Lambda retries a function's asynchronous events, and where it sends
//! those that fail: `EventInvokeConfig` and `DeadLetterQueue`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::{NOT_SUPPORTED, Properties, integer, unsupported};

/// The default is Lambda's.
#[derive(Debug, Clone)]
pub(crate) struct EventInvokeConfig {
    pub max_retries: u32,
    pub max_age: Duration,
    /// Receives events that failed for good.
    pub destination: Option<String>,
}

/// Lambda's defaults (`AWS::Lambda::EventInvokeConfig`).
const DEFAULT_RETRIES: u64 = 2;
const DEFAULT_MAX_AGE_SECONDS: u64 = 21_600;

impl Default for EventInvokeConfig {
    fn default() -> Self {
        Self {
            max_retries: DEFAULT_RETRIES as u32,
            max_age: Duration::from_secs(DEFAULT_MAX_AGE_SECONDS),
            destination: None,
        }
    }
}

/// Reads a function's own configuration, or the one from `Globals`.
pub(super) fn read(
    properties: &Properties<'_>,
    config: Option<&Value>,
) -> Result<EventInvokeConfig, TemplateError> {
    let error = |path: &str, problem: String| {
        properties.error(&format!("EventInvokeConfig.{path}"), problem)
    };
    let empty = Map::new();
    let config = match config {
        None => &empty,
        Some(Value::Object(config)) => config,
        Some(_) => return Err(properties.error("EventInvokeConfig", "must be a mapping")),
    };
    let read = [
        "DestinationConfig",
        "MaximumEventAgeInSeconds",
        "MaximumRetryAttempts",
    ];
    if let Some(name) = unsupported(config, &read, &[]) {
        return Err(error(name, NOT_SUPPORTED.to_owned()));
    }
    let number = |name: &str, default, range| match config.get(name) {
        None => Ok(default),
        Some(value) => integer(value, range).map_err(|problem| error(name, problem)),
    };
    let max_retries = number("MaximumRetryAttempts", DEFAULT_RETRIES, 0..=2)?;
    let max_age = number(
        "MaximumEventAgeInSeconds",
        DEFAULT_MAX_AGE_SECONDS,
        60..=DEFAULT_MAX_AGE_SECONDS,
    )?;
    let on_failure = match config.get("DestinationConfig") {
        None => None,
        Some(Value::Object(destinations)) => {
            if let Some(name) = unsupported(destinations, &["OnFailure"], &[]) {
                let path = format!("DestinationConfig.{name}");
                return Err(error(&path, NOT_SUPPORTED.to_owned()));
            }
            destinations.get("OnFailure")
        }
        Some(_) => return Err(error("DestinationConfig", "must be a mapping".to_owned())),
    };
    let on_failure = on_failure.and_then(|target| target_name(target, "Destination"));
    let queue = properties.get("DeadLetterQueue")?;
    let destination = on_failure.or_else(|| target_name(queue.as_ref()?, "TargetArn"));
    Ok(EventInvokeConfig {
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        max_age: Duration::from_secs(max_age),
        destination,
    })
}

/// A destination's ARN, or its type if SAM creates the destination.
fn target_name(target: &Value, property: &str) -> Option<String> {
    let arn = target[property].as_str().map(str::to_owned);
    arn.or_else(|| Some(format!("{} (created by SAM)", target["Type"].as_str()?)))
}
