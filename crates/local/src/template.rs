//! Reads a SAM template into what the local stack runs.
//!
//! Only what has a meaning here is understood: WebSocket APIs, functions and
//! tables. A resource type without one is listed as ignored; everything else
//! that is not understood is an error that names the resource and the
//! property, never a silent skip.

mod api;
mod asynchronous;
mod error;
mod function;
mod intrinsics;
mod parameters;
mod properties;
mod rules;
mod schedule;
mod table;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

pub(crate) use api::Api;
pub(crate) use error::TemplateError;
pub(crate) use function::FunctionSpec;
pub(crate) use schedule::{Schedule, ScheduleKind};
pub(crate) use table::TableSpec;

use intrinsics::Scope;
use properties::Properties;

/// The account that local resources live in.
pub(crate) const ACCOUNT: &str = "000000000000";

/// The id of the local API.
pub(crate) const API_ID: &str = "local";

/// The sections that are read.
const SECTIONS: [&str; 5] = ["Conditions", "Globals", "Parameters", "Resources", "Rules"];

/// Known, and without a meaning on one machine.
const IGNORED_SECTIONS: [&str; 5] = [
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Outputs",
    "Transform",
];

/// What the local stack runs.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The WebSocket API.
    pub api: Api,
    /// The functions by their logical id.
    pub functions: BTreeMap<String, FunctionSpec>,
    /// The tables.
    pub tables: Vec<TableSpec>,
    /// Types that have no meaning here, each with its logical ids.
    pub ignored: BTreeMap<String, Vec<String>>,
}

/// A template's text, parsed; its parameters are known, nothing is evaluated.
#[derive(Debug)]
pub(crate) struct Template {
    root: Map<String, Value>,
}

impl Template {
    /// Reads a template file, YAML or JSON.
    pub(crate) fn read(path: &Path) -> Result<Self, TemplateError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            TemplateError::file(format!(
                "cannot read {}: {error}; name another with --template",
                path.display()
            ))
        })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        match yaml::parse(text).map_err(TemplateError::file)? {
            Value::Object(root) => Ok(Self { root }),
            _ => Err(TemplateError::file(
                "a template is a mapping with a section Resources",
            )),
        }
    }

    /// Whether the template has a parameter of this name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.section("Parameters")
            .is_some_and(|parameters| parameters.contains_key(name))
    }

    /// The default of a parameter, where it is a text.
    pub(crate) fn parameter_default(&self, name: &str) -> Option<String> {
        let default = self.section("Parameters")?.get(name)?.get("Default")?;
        default.as_str().map(str::to_owned)
    }

    fn section(&self, name: &str) -> Option<&Map<String, Value>> {
        self.root.get(name).and_then(Value::as_object)
    }

    /// Evaluates the template with these parameters.
    pub(crate) fn evaluate(
        &self,
        given: &BTreeMap<String, String>,
        region: &str,
    ) -> Result<Stack, TemplateError> {
        let empty = Map::new();
        let parameters = parameters::resolve(self.section("Parameters").unwrap_or(&empty), given)?;
        let resources = self
            .section("Resources")
            .ok_or_else(|| TemplateError::file("the template has no section Resources"))?;
        let scope = Scope {
            parameters,
            conditions: self.section("Conditions").unwrap_or(&empty),
            resources,
            region,
        };
        if let Some(name) = properties::unknown(&self.root, &SECTIONS, &IGNORED_SECTIONS) {
            return Err(TemplateError::file(format!(
                "the section {name} is not understood by the local stack"
            )));
        }
        rules::check(self.section("Rules").unwrap_or(&empty), &scope)?;
        let globals = self.section("Globals").unwrap_or(&empty);
        if let Some(name) = properties::unknown(globals, &["Function"], &[]) {
            return Err(TemplateError::at(
                "Globals",
                name,
                "is not understood by the local stack",
            ));
        }
        let globals = globals.get("Function");

        let mut apis = Vec::new();
        let mut functions = BTreeMap::new();
        let mut tables = Vec::new();
        let mut ignored = BTreeMap::<_, Vec<_>>::new();
        let mut answering_routes = Vec::new();
        for (id, resource) in resources {
            if !scope.exists(id, resource)? {
                continue;
            }
            let kind = resource.get("Type").and_then(Value::as_str);
            let kind = kind.ok_or_else(|| TemplateError::at(id, "Type", "is missing"))?;
            let properties = Properties::of(id, resource, &scope)?;
            match kind {
                "AWS::Serverless::WebSocketApi" => apis.push((id, api::read(&properties)?)),
                "AWS::Serverless::Function" => {
                    let function = function::read(id, resource, &properties, globals, &scope)?;
                    functions.insert(id.clone(), function);
                }
                "AWS::DynamoDB::Table" => tables.push(table::read(id, &properties)?),
                "AWS::ApiGatewayV2::RouteResponse" => {
                    answering_routes.push((id, api::answering_route(&properties)?))
                }
                other => ignored
                    .entry(other.to_owned())
                    .or_default()
                    .push(id.clone()),
            }
        }
        let mut apis = apis.into_iter();
        let (api_id, mut api) = match (apis.next(), apis.next()) {
            (Some(api), None) => api,
            (None, _) => {
                return Err(TemplateError::file(
                    "the template has no AWS::Serverless::WebSocketApi",
                ));
            }
            (Some(_), Some((second, _))) => {
                return Err(TemplateError::at(
                    second,
                    "Type",
                    "is a second WebSocket API; the local stack runs one",
                ));
            }
        };
        api.connect_functions(api_id, &functions)?;
        api.apply_route_responses(api_id, &answering_routes)?;
        Ok(Stack {
            api,
            functions,
            tables,
            ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> Result<Stack, TemplateError> {
        Template::parse(text)?.evaluate(&BTreeMap::new(), "us-east-1")
    }

    fn real() -> String {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml"))
            .unwrap()
    }

    #[test]
    fn the_real_template_is_understood() {
        let stack = stack(&real()).unwrap();
        assert_eq!(stack.api.stage, "dev");
        assert_eq!(stack.api.routes["$default"].function, "Default");
        assert!(stack.api.routes["$default"].answers);
        assert!(!stack.api.routes["$connect"].answers);
        let connect = &stack.functions["Connect"];
        assert_eq!(connect.binary, "connect");
        assert_eq!(
            connect.environment["WEBSOCKET_CONNECTION_TABLE"],
            "Connections"
        );
        assert_eq!(connect.environment["CONNECTION_TTL_SECONDS"], "7500");
        assert_eq!(connect.timeout.as_secs(), 25);
        let sweeps = &stack.functions["Sweeper"].schedules;
        assert_eq!(sweeps[0].period, Some(std::time::Duration::from_secs(60)));
        assert_eq!(
            sweeps[0].input,
            Some(serde_json::json!({"action": "sweep"}))
        );
        let endpoint = &stack.functions["Default"].environment["WEBSOCKET_API_ENDPOINT"];
        assert_eq!(
            endpoint,
            "https://local.execute-api.us-east-1.amazonaws.com/dev"
        );
        let names: Vec<_> = stack
            .tables
            .iter()
            .map(|table| table.name.as_str())
            .collect();
        assert_eq!(names, ["Connections", "State"]);
        assert_eq!(stack.tables[0].ttl_attribute.as_deref(), Some("expiresAt"));
    }

    #[test]
    fn retries_destinations_schedules_and_reservations_are_understood() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/templates/misbehave.yaml"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let misbehave = |text: &str| stack(text).unwrap().functions["Misbehave"].clone();
        let function = misbehave(&text);
        assert_eq!(function.asynchronous.max_retries, 2);
        assert_eq!(function.asynchronous.max_age.as_secs(), 21_600);
        let queue = "arn:aws:sqs:us-east-1:000000000000:DeadLetters";
        assert_eq!(function.asynchronous.destination.as_deref(), Some(queue));
        assert_eq!(function.reserved, None);
        let schedules: Vec<_> = function.schedules.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(schedules, ["MisbehaveMinutely", "MisbehaveNightly"]);

        let text = text.replace(
            "        DestinationConfig:\n          OnFailure:\n            Type: SQS\n            Destination: !GetAtt DeadLetters.Arn\n",
            "      ReservedConcurrentExecutions: 7\n      DeadLetterQueue:\n        Type: SQS\n        TargetArn: !GetAtt DeadLetters.Arn\n",
        ).replace("      ReservedConcurrentExecutions: !If", "      Description: !If");
        let function = misbehave(&text);
        assert_eq!(function.asynchronous.destination.as_deref(), Some(queue));
        assert_eq!(function.reserved, Some(7));

        for (find, replace, expected) in [
            (
                "MaximumRetryAttempts: !Ref MaximumRetries",
                "MaximumRetryAttempts: 3",
                "EventInvokeConfig.MaximumRetryAttempts: must be a whole number from 0 to 2",
            ),
            (
                "OnFailure:",
                "OnSuccess:",
                "EventInvokeConfig.DestinationConfig.OnSuccess: is not understood",
            ),
            (
                "Type: ScheduleV2",
                "Type: SQS",
                "Events.Minutely.Type: is not understood",
            ),
        ] {
            let text = std::fs::read_to_string(path)
                .unwrap()
                .replacen(find, replace, 1);
            let error = stack(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn parameters_reach_the_functions() {
        let template = Template::parse(&real()).unwrap();
        let given = [
            ("CallbackEndpoint", "http://127.0.0.1:1/dev"),
            ("Stage", "test"),
        ];
        let given = given
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let stack = template.evaluate(&given, "us-east-1").unwrap();
        assert_eq!(stack.api.stage, "test");
        let endpoint = &stack.functions["Broadcaster"].environment["WEBSOCKET_API_ENDPOINT"];
        assert_eq!(endpoint, "http://127.0.0.1:1/dev");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (find, replace, expected) in [
            (
                "!Ref Connections",
                "!Cidr Connections",
                "Connect.Properties.Environment.Variables.WEBSOCKET_CONNECTION_TABLE: unknown intrinsic !Cidr",
            ),
            (
                "!Ref Connections",
                "!Ref Konnections",
                "Connect.Properties.Environment.Variables.WEBSOCKET_CONNECTION_TABLE: no parameter or resource Konnections",
            ),
            (
                "!GetAtt Default.Arn",
                "!GetAtt Missing.Arn",
                "Api.Properties.Routes.$default.FunctionArn: no resource Missing",
            ),
            (
                "FunctionArn: !GetAtt Default.Arn",
                "FunctionArn: !GetAtt State.Arn",
                "Api.Properties.Routes.$default.FunctionArn: names no function of this template",
            ),
            (
                "${AWS::URLSuffix}",
                "${AWS::Planet}",
                "Default.Properties.Environment.Variables.WEBSOCKET_API_ENDPOINT: no pseudo parameter AWS::Planet",
            ),
            (
                "        Binary: connect",
                "        Binaries: connect",
                "Connect.Metadata.BuildProperties.Binary: is missing",
            ),
            (
                "Handler: bootstrap",
                "Handlers: bootstrap",
                "Globals.Function.Handlers: is not understood",
            ),
            (
                "      Timeout: 25",
                "      Timeout: soon",
                "Connect.Properties.Timeout: must be a whole number from 1 to 900",
            ),
            (
                "RouteSelectionExpression: $request.body.type",
                "RouteSelectionExpression: $request.header.type",
                "Api.Properties.RouteSelectionExpression: must have the form $request.body.name",
            ),
            (
                "      - HasCallbackEndpoint",
                "      - Has",
                "condition Has is not defined",
            ),
            (
                "RouteId: !Ref ApiDefaultRoute",
                "RouteId: !Ref ApiOtherRoute",
                "DefaultRouteResponse.Properties.RouteId",
            ),
        ] {
            let text = real().replacen(find, replace, 1);
            match stack(&text) {
                Err(error) => assert!(
                    error.to_string().contains(expected) && !expected.is_empty(),
                    "{error}"
                ),
                Ok(_) => assert_eq!(expected, "", "{replace} was accepted"),
            }
        }
    }

    #[test]
    fn other_resources_are_listed_as_ignored() {
        let text = real().replace("Outputs:", "  Topic:\n    Type: AWS::SNS::Topic\n    Properties:\n      X: !Whatever y\n\nOutputs:");
        let stack = stack(&text).unwrap();
        assert_eq!(stack.ignored["AWS::SNS::Topic"], ["Topic"]);
        let nested = &stack.ignored["AWS::CloudFormation::Stack"];
        assert_eq!(*nested, ["Alarms", "Dashboard"]);
    }

    #[test]
    fn conditions_decide_what_exists() {
        let text = real().replace(
            "  State:\n    Type: AWS::DynamoDB::Table",
            "  State:\n    Condition: HasCallbackEndpoint\n    Type: AWS::DynamoDB::Table",
        );
        assert_eq!(stack(&text).unwrap().tables.len(), 1);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let template = Template::parse(&real()).unwrap();
        for (name, value, expected) in [
            (
                "Nope",
                "x",
                "Parameters.Nope: the template has no such parameter",
            ),
            (
                "TokenUse",
                "refresh",
                "Parameters.TokenUse: must be one of access, id",
            ),
            (
                "PostConcurrency",
                "0",
                "Parameters.PostConcurrency: must be at least 1",
            ),
            (
                "PostConcurrency",
                "many",
                "Parameters.PostConcurrency: must be a number",
            ),
            (
                "TokenIssuer",
                "https://issuer.example",
                "Rules.ClientsOfAPool: CognitoUserPoolId and TokenIssuer need CognitoClientIds",
            ),
            (
                "Stage",
                "a/b",
                "Parameters.Stage: must match ^[A-Za-z0-9_-]{1,64}$",
            ),
        ] {
            let given = [(name.to_owned(), value.to_owned())].into();
            let error = template
                .evaluate(&given, "us-east-1")
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_template_is_an_error() {
        for text in ["", "- a", "Resources: [", "a: 1\na: 2", "Description: x"] {
            assert!(stack(text).is_err(), "{text}");
        }
    }
}
