//! The template reader as a whole.

mod bounds;
mod hostile;

use std::time::{Duration, Instant};

use super::*;
use crate::code::Code;

/// Far more than any of these cases takes, far less than an exponential one.
const PATIENCE: Duration = Duration::from_secs(20);

fn stack(text: &str) -> Result<StackSpec, TemplateError> {
    let started = Instant::now();
    let stack = Template::parse(text).and_then(|t| t.evaluate(&BTreeMap::new(), "us-east-1"));
    let elapsed = started.elapsed();
    assert!(elapsed < PATIENCE, "{elapsed:?} for {} bytes", text.len());
    stack
}

/// A line, a section or a key at its beginning, or the template as a whole.
fn names_the_place(error: &TemplateError) -> bool {
    let error = error.to_string();
    let key = error
        .split_once(": ")
        .is_some_and(|(key, _)| key.contains('.'));
    let subjects = ["the section ", "the template ", "a template "];
    key || error.contains("line ") || subjects.iter().any(|text| error.starts_with(text))
}

fn refused(text: &str) -> String {
    let error = stack(text).unwrap_err();
    assert!(names_the_place(&error), "{error}");
    error.to_string()
}

fn originals() -> [String; 3] {
    let misbehave = "tests/templates/misbehave.yaml";
    ["template.yaml", misbehave, "tests/templates/urls.yaml"].map(|path| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
        std::fs::read_to_string(format!("{root}{path}")).unwrap()
    })
}

fn belfrys_own() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml")).unwrap()
}

#[test]
fn a_function_that_is_built_already_runs_the_bootstrap_in_its_folder() {
    let build = "    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: connect\n    Properties:\n";
    let text = belfrys_own().replace(build, "    Properties:\n      CodeUri: functions/Connect\n");
    let mut template = Template::parse(&text).unwrap();
    template.folder = "/stacks".into();
    let stack = template.evaluate(&BTreeMap::new(), "us-east-1").unwrap();
    let bootstrap = Path::new("/stacks/functions/Connect/bootstrap");
    assert!(matches!(&stack.functions["Connect"].code, Code::Program(file) if file == bootstrap));
    assert!(matches!(&stack.functions["Default"].code, Code::Binary(name) if name == "default"));
}

#[test]
fn paths_in_a_template_are_relative_to_its_folder() {
    let template = Template::read(Path::new("../../template.yaml")).unwrap();
    assert!(template.folder.is_absolute());
    assert!(template.folder.join("template.yaml").is_file());
}

#[test]
fn belfrys_own_template_is_read() {
    let stack = stack(&belfrys_own()).unwrap();
    assert_eq!(stack.api.stage, "dev");
    assert_eq!(stack.api.routes["$default"].function, "Default");
    assert!(stack.api.routes["$default"].two_way);
    assert!(!stack.api.routes["$connect"].two_way);
    let connect = &stack.functions["Connect"];
    assert!(matches!(&connect.code, Code::Binary(name) if name == "connect"));
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
    assert_eq!(names, ["Connections", "Messages", "State", "Subscriptions"]);
    assert_eq!(stack.tables[0].ttl_attribute.as_deref(), Some("expiresAt"));
}

#[test]
fn retries_destinations_schedules_and_reserved_concurrency_are_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/templates/misbehave.yaml"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let misbehave = |text: &str| stack(text).unwrap().functions["Misbehave"].clone();
    let function = misbehave(&text);
    assert_eq!(function.event_invoke.max_retries, 2);
    assert_eq!(function.event_invoke.max_age.as_secs(), 21_600);
    let queue = "arn:aws:sqs:us-east-1:000000000000:DeadLetters";
    assert_eq!(function.event_invoke.destination.as_deref(), Some(queue));
    assert_eq!(function.reserved_concurrency, None);
    let schedules: Vec<_> = function.schedules.iter().map(|s| s.id.as_str()).collect();
    let ids = ["MisbehaveHanging", "MisbehaveMinutely", "MisbehaveNightly"];
    assert_eq!(schedules, ids);

    let text = text.replace(
        "        DestinationConfig:\n          OnFailure:\n            Type: SQS\n            Destination: !GetAtt DeadLetters.Arn\n",
        "      ReservedConcurrentExecutions: 7\n      DeadLetterQueue:\n        Type: SQS\n        TargetArn: !GetAtt DeadLetters.Arn\n",
    ).replace("      ReservedConcurrentExecutions: !If", "      Description: !If");
    let function = misbehave(&text);
    assert_eq!(function.event_invoke.destination.as_deref(), Some(queue));
    assert_eq!(function.reserved_concurrency, Some(7));

    for (find, replace, expected) in [
        (
            "MaximumRetryAttempts: !Ref MaximumRetries",
            "MaximumRetryAttempts: 3",
            "EventInvokeConfig.MaximumRetryAttempts: must be a whole number from 0 to 2",
        ),
        (
            "OnFailure:",
            "OnSuccess:",
            "EventInvokeConfig.DestinationConfig.OnSuccess: is not supported",
        ),
        (
            "Type: ScheduleV2",
            "Type: SQS",
            "Events.Minutely.Type: is not supported",
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
    let template = Template::parse(&belfrys_own()).unwrap();
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
fn unsupported_input_is_named() {
    for (find, replace, expected) in [
        (
            "!Ref Connections",
            "!Cidr Connections",
            "Globals.Function.Environment.Variables.WEBSOCKET_CONNECTION_TABLE: unknown intrinsic !Cidr",
        ),
        (
            "!Ref Connections",
            "!Ref Konnections",
            "Globals.Function.Environment.Variables.WEBSOCKET_CONNECTION_TABLE: no parameter or resource Konnections",
        ),
        (
            "!GetAtt Default.Arn",
            "!GetAtt Missing.Arn",
            "Api.Properties.Routes.$default.FunctionArn: no resource Missing",
        ),
        (
            "FunctionArn: !GetAtt Default.Arn",
            "FunctionArn: !GetAtt State.Arn",
            "Api.Properties.Routes.$default.FunctionArn: is not the ARN of a function in this template",
        ),
        (
            "${AWS::URLSuffix}",
            "${AWS::Planet}",
            "Broadcaster.Properties.Environment.Variables.WEBSOCKET_API_ENDPOINT: unknown pseudo parameter AWS::Planet",
        ),
        (
            "        Binary: connect",
            "        Binaries: connect",
            "Connect.Metadata.BuildProperties.Binary: is missing",
        ),
        (
            "    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: connect\n    Properties:\n",
            "    Properties:\n      CodeUri: {Bucket: releases, Key: connect.zip}\n",
            "Connect.Properties.CodeUri: must be the folder of the function's `bootstrap`",
        ),
        (
            "Handler: bootstrap",
            "Handlers: bootstrap",
            "Globals.Function.Handlers: is not supported",
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
        let text = belfrys_own().replacen(find, replace, 1);
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
fn other_resource_types_are_listed_as_ignored() {
    let text = belfrys_own().replace(
        "Outputs:",
        "  Topic:\n    Type: AWS::SNS::Topic\n    Properties:\n      X: !Whatever y\n\nOutputs:",
    );
    let stack = stack(&text).unwrap();
    assert_eq!(stack.ignored["AWS::SNS::Topic"], ["Topic"]);
    let nested = &stack.ignored["AWS::CloudFormation::Stack"];
    assert_eq!(*nested, ["Alarms", "Dashboard"]);
}

#[test]
fn conditions_decide_which_resources_exist() {
    let text = belfrys_own().replace(
        "  State:\n    Type: AWS::DynamoDB::Table",
        "  State:\n    Condition: HasCallbackEndpoint\n    Type: AWS::DynamoDB::Table",
    );
    let tables = stack(&text).unwrap().tables;
    assert!(
        tables.iter().all(|table| table.name != "State"),
        "{tables:?}"
    );
}

#[test]
fn an_invalid_parameter_is_named() {
    let template = Template::parse(&belfrys_own()).unwrap();
    for (name, value, expected) in [
        (
            "MaxConnection",
            "100",
            "Parameters.MaxConnection: the template has no such parameter; did you mean MaxConnections",
        ),
        (
            "TokenUse",
            "refresh",
            "Parameters.TokenUse: must be one of access, id, any",
        ),
        (
            "PostConcurrency",
            "0",
            "Parameters.PostConcurrency: must be at least 1",
        ),
        (
            "PostConcurrency",
            "many",
            "Parameters.PostConcurrency: must be a whole number",
        ),
        (
            "TokenIssuer",
            "https://issuer.example",
            "Rules.ClientsOfAPool: CognitoUserPoolId and TokenIssuer need CognitoClientIds",
        ),
        (
            "CognitoClientIds",
            " , ",
            "Parameters.CognitoClientIds: must be IDs separated by commas.",
        ),
        (
            "TokenJwksUrl",
            "http://issuer.example/keys",
            "Parameters.TokenJwksUrl: must be an https URL",
        ),
        (
            "TokenJwksUrl",
            "https://user:secret@issuer.example/keys",
            "Parameters.TokenJwksUrl: must be an https URL",
        ),
        (
            "Stage",
            "a/b",
            "Parameters.Stage: must be 1 to 64 letters, digits, underscores and hyphens.",
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

// A function that cannot parse the URL would fail at its first event.
#[test]
fn the_urls_of_tokens_are_urls() {
    let template = Template::parse(&belfrys_own()).unwrap();
    for (url, accepted) in [
        ("https://id.example", true),
        ("https://id.example/", true),
        ("https://id.example:8443/realms/a?b=c", true),
        ("https://id.example:65535", true),
        ("https://[2001:db8::1]:8443/keys", true),
        ("http://localhost:3001/local_belfry", true),
        ("http://127.0.0.5:3001/local_belfry", true),
        ("http://[::1]:3001/local_belfry", true),
        ("https://id.example:0", false),
        ("https://id.example:65536/keys", false),
        ("https://id.example:99999/keys", false),
        ("https://id.example:port/keys", false),
        ("https://id.example:", false),
        ("https://[::1/keys", false),
        ("https://id%2Eexample", false),
        ("https://user:secret@id.example", false),
        ("https://user@id.example", false),
        ("https:///keys", false),
        ("https://?keys", false),
        ("http://localhost:99999", false),
        ("http://localhost.example/keys", false),
        ("http://127.0.0.1.example/keys", false),
    ] {
        for name in ["TokenIssuer", "TokenJwksUrl"] {
            let given = [(name, url), ("CognitoClientIds", "web")];
            let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let outcome = template.evaluate(&given.into(), "us-east-1");
            assert_eq!(outcome.is_ok(), accepted, "{name}={url}");
        }
        if accepted {
            assert!(url::Url::parse(url).is_ok(), "{url}");
        }
    }
}

#[test]
fn no_number_of_belfrys_own_may_have_a_fraction() {
    let text = belfrys_own();
    let template = Template::parse(&text).unwrap();
    let names: Vec<&str> = text
        .split("\n    Type: Number\n")
        .filter_map(|before| before.lines().last()?.trim().strip_suffix(':'))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        for value in [
            "1000.5", "1e3", "1000.0", "+1000", "", " 1000", "0x10", "inf",
        ] {
            let given = [(name.to_owned(), value.to_owned())].into();
            let error = template.evaluate(&given, "us-east-1").unwrap_err();
            let expected = format!("Parameters.{name}: must be a whole number");
            assert_eq!(error.to_string(), expected, "{value}");
        }
    }
}

#[test]
fn a_parameter_that_declares_a_fraction_may_have_one() {
    let resolved = |parameter: &str, value: &str| {
        let declared: Value = serde_json::from_str(parameter).unwrap();
        let declared = [("Share".to_owned(), declared)].into_iter().collect();
        let given = [("Share".to_owned(), value.to_owned())].into();
        super::parameters::resolve(&declared, &given).is_ok()
    };
    for declared in [
        r#"{"Type": "Number", "Default": 0.5}"#,
        r#"{"Type": "Number", "Default": "0.5"}"#,
        r#"{"Type": "Number", "MaxValue": 1.5}"#,
    ] {
        assert!(resolved(declared, "0.25"), "{declared}");
        assert!(resolved(declared, "1"), "{declared}");
    }
    let negative = r#"{"Type": "Number", "MinValue": -5}"#;
    assert!(resolved(negative, "-5"));
    assert!(!resolved(negative, "-6"));
    assert!(!resolved(r#"{"Type": "Number", "MaxValue": "5"}"#, "6"));
    assert!(!resolved(negative, "0.5"));
}

#[test]
fn the_pattern_of_origins_refuses_what_a_pattern_can() {
    let template = Template::parse(&belfrys_own()).unwrap();
    let evaluate = |entry: &str| {
        let given = [("AllowedOrigins".to_owned(), entry.to_owned())].into();
        template.evaluate(&given, "us-east-1")
    };
    let cases = include_str!("../../../../tests/cases/allowed-origins.json");
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    for case in &cases {
        let entry = case["entry"].as_str().unwrap();
        let allows = case["sent"].is_string() || case["patternAllows"] == true;
        assert_eq!(evaluate(entry).is_ok(), allows, "{entry}");
    }
    for list in ["", " ", "https://a.example , http://localhost:1,"] {
        assert!(evaluate(list).is_ok(), "{list}");
    }
    assert!(evaluate("https://a.example http://b.example").is_err());
    let error = evaluate("localhost:5173").unwrap_err().to_string();
    assert!(error.contains("Write http://localhost:5173"), "{error}");
}

#[test]
fn a_file_that_is_not_a_template_is_an_error() {
    for text in ["", "- a", "Resources: [", "a: 1\na: 2", "Description: x"] {
        assert!(stack(text).is_err(), "{text}");
    }
}
