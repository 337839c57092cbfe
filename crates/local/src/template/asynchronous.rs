//! What Lambda does with a function's asynchronous events: `EventInvokeConfig`
//! and `DeadLetterQueue`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::{Properties, unknown, whole_number};

/// How asynchronous events are tried, and where they go in the end.
#[derive(Debug, Clone)]
pub(crate) struct Asynchronous {
    /// How many attempts follow a failed first one.
    pub max_retries: u32,
    /// How long an event may wait in all.
    pub max_age: Duration,
    /// Where events go that failed for good.
    pub destination: Option<String>,
}

/// Lambda's defaults (AWS::Lambda::EventInvokeConfig).
const DEFAULT_RETRIES: u64 = 2;
const DEFAULT_MAX_AGE_SECONDS: u64 = 21_600;

/// Reads a function's own configuration, or what all functions have.
pub(super) fn read(
    properties: &Properties<'_>,
    config: Option<&Value>,
) -> Result<Asynchronous, TemplateError> {
    let wrong = |path: &str, problem: String| {
        properties.wrong(&format!("EventInvokeConfig.{path}"), problem)
    };
    let empty = Map::new();
    let config = match config {
        None => &empty,
        Some(Value::Object(config)) => config,
        Some(_) => return Err(properties.wrong("EventInvokeConfig", "must be a mapping")),
    };
    let read = [
        "DestinationConfig",
        "MaximumEventAgeInSeconds",
        "MaximumRetryAttempts",
    ];
    let not_understood = || "is not understood by the local stack".to_owned();
    if let Some(name) = unknown(config, &read, &[]) {
        return Err(wrong(name, not_understood()));
    }
    let number = |name: &str, default, range| match config.get(name) {
        None => Ok(default),
        Some(value) => whole_number(value, range).map_err(|problem| wrong(name, problem)),
    };
    let max_retries = number("MaximumRetryAttempts", DEFAULT_RETRIES, 0..=2)?;
    let max_age = number(
        "MaximumEventAgeInSeconds",
        DEFAULT_MAX_AGE_SECONDS,
        60..=DEFAULT_MAX_AGE_SECONDS,
    )?;
    let on_failure = config.get("DestinationConfig");
    if let Some(name) = on_failure
        .and_then(Value::as_object)
        .and_then(|destinations| unknown(destinations, &["OnFailure"], &[]))
    {
        return Err(wrong(
            &format!("DestinationConfig.{name}"),
            not_understood(),
        ));
    }
    let on_failure = on_failure.and_then(|on| named(&on["OnFailure"], "Destination"));
    let queue = properties.get("DeadLetterQueue")?;
    let destination = on_failure.or_else(|| named(queue.as_ref()?, "TargetArn"));
    Ok(Asynchronous {
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        max_age: Duration::from_secs(max_age),
        destination,
    })
}

/// The destination's own name, or that SAM makes one of this type.
fn named(destination: &Value, name: &str) -> Option<String> {
    let named = destination[name].as_str().map(str::to_owned);
    named.or_else(|| Some(format!("{} (made by SAM)", destination["Type"].as_str()?)))
}
