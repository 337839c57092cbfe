//! `AWS::Serverless::Function`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::event_invoke_config::{self, EventInvokeConfig};
use super::function_url::{self, FunctionUrlSpec};
use super::intrinsics::Scope;
use super::properties::{NOT_SUPPORTED, Properties, integer, unsupported};
use super::schedule::{self, ScheduleSpec};
use crate::code::Code;

#[derive(Debug, Clone)]
pub(crate) struct FunctionSpec {
    pub name: String,
    pub code: Code,
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
    /// Reported to the function; not enforced.
    pub memory_mb: u64,
    pub reserved_concurrency: Option<usize>,
    pub event_invoke: EventInvokeConfig,
    pub schedules: Vec<ScheduleSpec>,
    pub url: Option<FunctionUrlSpec>,
}

/// Properties that `Globals` may set for all functions.
const COMMON: [&str; 7] = [
    "CodeUri",
    "Environment",
    "EventInvokeConfig",
    "FunctionUrlConfig",
    "MemorySize",
    "ReservedConcurrentExecutions",
    "Timeout",
];

/// Properties that only a function itself may set.
const OWN: [&str; 3] = ["DeadLetterQueue", "Events", "FunctionName"];

/// Accepted, with no effect on one machine.
const IGNORED: [&str; 11] = [
    "Architectures",
    "Description",
    "Handler",
    "Layers",
    "LoggingConfig",
    "PermissionsBoundary",
    "Policies",
    "Role",
    "Runtime",
    "Tags",
    "Tracing",
];

/// Lambda's default (AWS::Lambda::Function, `Timeout`).
const DEFAULT_TIMEOUT_SECONDS: u64 = 3;

/// Lambda's default (AWS::Lambda::Function, `MemorySize`).
const DEFAULT_MEMORY_MB: u64 = 128;

/// The time limit of a function that the template does not define: more than
/// its callers wait.
const OTHER_TIMEOUT_SECONDS: u64 = 30;

/// More than any account has by default.
const MAX_RESERVED: u64 = 100_000;

impl FunctionSpec {
    /// A function that the template does not define, with Lambda's defaults.
    pub(crate) fn of_application(
        name: &str,
        code: Code,
        environment: BTreeMap<String, String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            code,
            environment,
            timeout: Duration::from_secs(OTHER_TIMEOUT_SECONDS),
            memory_mb: DEFAULT_MEMORY_MB,
            reserved_concurrency: None,
            event_invoke: EventInvokeConfig::default(),
            schedules: Vec::new(),
            url: None,
        }
    }
}

pub(super) fn read(
    id: &str,
    resource: &Value,
    properties: &Properties<'_>,
    globals: Option<&Value>,
    scope: &Scope<'_>,
    folder: &Path,
) -> Result<FunctionSpec, TemplateError> {
    properties.allow_only(&[&COMMON[..], &OWN[..]].concat(), &IGNORED)?;
    let globals = Globals::read(globals, scope)?;
    let own_or_common = |name: &str| {
        let own = properties.get(name)?;
        Ok(own.or_else(|| globals.0.get(name).cloned()))
    };
    let number = |name: &str, range| match own_or_common(name)? {
        None => Ok(None),
        Some(value) => integer(&value, range)
            .map(Some)
            .map_err(|problem| properties.error(name, problem)),
    };
    let code = code(id, resource, own_or_common("CodeUri")?.as_ref(), folder)?;
    let timeout = number("Timeout", 1..=900)?.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let memory_mb = number("MemorySize", 128..=10_240)?.unwrap_or(DEFAULT_MEMORY_MB);
    let reserved = number("ReservedConcurrentExecutions", 0..=MAX_RESERVED)?;
    let mut environment = variables(globals.0.get("Environment")).map_err(|(path, problem)| {
        TemplateError::at("Globals", &format!("Function.{path}"), problem)
    })?;
    let own = properties.get("Environment")?;
    environment.extend(
        variables(own.as_ref()).map_err(|(path, problem)| properties.error(&path, problem))?,
    );
    Ok(FunctionSpec {
        name: properties
            .string("FunctionName")?
            .unwrap_or_else(|| id.to_owned()),
        code,
        environment,
        timeout: Duration::from_secs(timeout),
        memory_mb,
        reserved_concurrency: reserved.and_then(|reserved| usize::try_from(reserved).ok()),
        event_invoke: event_invoke_config::read(
            properties,
            own_or_common("EventInvokeConfig")?.as_ref(),
        )?,
        schedules: schedule::read(id, properties)?,
        url: function_url::read(properties, own_or_common("FunctionUrlConfig")?.as_ref())?,
    })
}

/// A function that is to be built names its Rust binary. Any other is built
/// already: `CodeUri` is the folder of its program, beside the template.
fn code(
    id: &str,
    resource: &Value,
    uri: Option<&Value>,
    folder: &Path,
) -> Result<Code, TemplateError> {
    let metadata = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str);
    if let Some(binary) = metadata("/Metadata/BuildProperties/Binary") {
        return Ok(Code::Binary(binary.to_owned()));
    }
    if metadata("/Metadata/BuildMethod").is_some() {
        return Err(TemplateError::at(
            id,
            "Metadata.BuildProperties.Binary",
            "is missing; it names the Rust binary to run",
        ));
    }
    let uri = uri.and_then(Value::as_str).ok_or_else(|| {
        TemplateError::at(
            id,
            "Properties.CodeUri",
            "must be the folder of the function's `bootstrap`; or name the Rust binary to run as Metadata.BuildProperties.Binary",
        )
    })?;
    Ok(Code::Program(folder.join(uri).join("bootstrap")))
}

/// The section `Globals.Function`.
struct Globals(Map<String, Value>);

impl Globals {
    fn read(raw: Option<&Value>, scope: &Scope<'_>) -> Result<Self, TemplateError> {
        let raw = match raw {
            None => return Ok(Self(Map::new())),
            Some(Value::Object(raw)) => raw,
            Some(_) => {
                return Err(TemplateError::at(
                    "Globals",
                    "Function",
                    "must be a mapping",
                ));
            }
        };
        if let Some(name) = unsupported(raw, &COMMON, &IGNORED) {
            return Err(TemplateError::at(
                "Globals",
                &format!("Function.{name}"),
                NOT_SUPPORTED,
            ));
        }
        let mut evaluated = Map::new();
        for name in COMMON {
            if let Some(value) = raw.get(name) {
                let value = scope
                    .evaluate(value)
                    .map_err(|error| error.in_property("Globals", &format!("Function.{name}")))?;
                evaluated.extend(value.map(|value| (name.to_owned(), value)));
            }
        }
        Ok(Self(evaluated))
    }
}

fn variables(environment: Option<&Value>) -> Result<BTreeMap<String, String>, (String, String)> {
    let Some(environment) = environment else {
        return Ok(BTreeMap::new());
    };
    let mapping = |value: &Value, path: &str| match value {
        Value::Object(object) => Ok(object.clone()),
        _ => Err((path.to_owned(), "must be a mapping".to_owned())),
    };
    let environment = mapping(environment, "Environment")?;
    if let Some(name) = unsupported(&environment, &["Variables"], &[]) {
        return Err((format!("Environment.{name}"), NOT_SUPPORTED.to_owned()));
    }
    let Some(variables) = environment.get("Variables") else {
        return Ok(BTreeMap::new());
    };
    mapping(variables, "Environment.Variables")?
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
            _ => Err((
                format!("Environment.Variables.{name}"),
                "must be a string".to_owned(),
            )),
        })
        .collect()
}
