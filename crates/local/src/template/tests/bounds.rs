//! Templates that try to exhaust the stack, the memory or the time.

use std::fmt::Write;

use serde_json::json;

use super::*;

/// A template whose function has this environment variable, with more sections.
fn with_variable(sections: &str, value: &str) -> String {
    format!(
        "{sections}
Resources:
  Api:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      RouteSelectionExpression: $request.body.type
      StageName: dev
      Routes: {{$default: {{FunctionArn: !GetAtt F.Arn}}}}
  F:
    Type: AWS::Serverless::Function
    Metadata: {{BuildProperties: {{Binary: f}}}}
    Properties:
      Environment:
        Variables:
          V: {value}
"
    )
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a: ", "- ", "? ", "a:\n", "!Not [", "- - a: "] {
        refused(&open.repeat(20_000));
    }
    let indented: String = (0..2_000).fold(String::new(), |mut text, depth| {
        let _ = writeln!(text, "{}a:", " ".repeat(depth / 5));
        text
    });
    refused(&indented);
    let indented: String = (0..500).fold(String::new(), |mut text, depth| {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
        text
    });
    assert!(refused(&indented).contains("line 65: values are nested"));
}

#[test]
fn a_large_template_is_refused() {
    let error = refused(&"a".repeat(2 * 1024 * 1024));
    assert!(error.contains("larger than 1 MB"), "{error}");
    for (section, limit) in [
        ("Resources", "500 resources"),
        ("Parameters", "200 parameters"),
    ] {
        let entries: String = (0..600).map(|n| format!("  R{n}: {{}}\n")).collect();
        let mut text = format!("{section}:\n{entries}");
        if section != "Resources" {
            text += "Resources: {}\n";
        }
        let error = refused(&text);
        assert!(error.contains(limit), "{error}");
    }
    assert!(Template::read(Path::new("/dev/zero")).is_err());
}

#[test]
fn cyclic_conditions_are_refused() {
    for conditions in [
        "{A: !Condition A}",
        "{A: !Not [!Condition B], B: !Or [!Condition C, !Condition A], C: !Condition B}",
        "{A: !Equals [!If [A, 1, 2], 1]}",
        "{A: !Equals [!Sub [\"${x}\", {x: !If [B, 1, 2]}], 1], B: !And [!Condition A]}",
    ] {
        let text = with_variable(&format!("Conditions: {conditions}"), "!If [A, 1, 2]");
        let error = refused(&text);
        assert!(error.starts_with("F.Properties.Environment"), "{error}");
        assert!(error.contains("refers to itself"), "{error}");
    }
}

#[test]
fn a_long_chain_of_conditions_is_refused() {
    for link in ["!Condition C", "!Equals [x, !If [C"] {
        let end = if link.starts_with("!Eq") {
            ", 1, 2]]"
        } else {
            ""
        };
        let chain: String = (0..10_000)
            .map(|n| format!("  C{n}: {link}{}{end}\n", n + 1))
            .collect();
        let text = with_variable(&format!("Conditions:\n{chain}"), "!If [C0, 1, 2]");
        assert!(refused(&text).contains("nested too deeply"));
    }
}

#[test]
fn conditions_in_layers_take_linear_time() {
    let layers: String = (0..20)
        .map(|n| {
            let next = format!("!Condition C{}", n + 1);
            format!("  C{n}: !And [{}]\n", vec![next; 10].join(", "))
        })
        .collect();
    let conditions = format!("Conditions:\n{layers}  C20: !Equals [1, 1]\n");
    let text = with_variable(&conditions, "!If [C0, yes, no]");
    let stack = stack(&text).unwrap();
    assert_eq!(stack.functions["F"].environment["V"], "yes");
}

#[test]
fn nested_substitutions_take_linear_time() {
    let value = (0..12).fold("''".to_owned(), |inner, _| {
        format!("!Sub [\"{}\", {{a: {inner}}}]", "${a}".repeat(100))
    });
    let stack = stack(&with_variable("", &value)).unwrap();
    assert_eq!(stack.functions["F"].environment["V"], "");
}

#[test]
fn a_template_cannot_multiply_its_own_size() {
    let long = "x".repeat(4_000);
    let parameter = format!("Parameters: {{P: {{Type: String, Default: {long}}}}}");
    let references = vec!["!Ref P"; 10_000].join(", ");
    let substitutions = "${P}".repeat(10_000);
    let nested = (0..6).fold("!Ref P".to_owned(), |inner, _| {
        format!("!Sub [\"{}\", {{a: {inner}}}]", "${a}".repeat(10))
    });
    for value in [
        format!("!Join [\"\", [{references}]]"),
        format!("!Sub \"{substitutions}\""),
        nested,
    ] {
        let error = refused(&with_variable(&parameter, &value));
        assert!(error.contains("more than 16 MB"), "{error}");
    }

    let functions: String = (0..400)
        .map(|n| {
            format!("  F{n}: {{Type: AWS::Serverless::Function, Metadata: {{BuildProperties: {{Binary: f}}}}}}\n")
        })
        .collect();
    let globals = format!(
        "Globals: {{Function: {{Environment: {{Variables: {{A: {}}}}}}}}}",
        "x".repeat(500_000)
    );
    let error = refused(&(with_variable(&globals, "1") + &functions));
    assert!(error.contains("more than 16 MB"), "{error}");
}

#[test]
fn a_costly_pattern_is_refused() {
    let pattern = "(((a{100}){100}){100})*";
    let parameters =
        format!("Parameters: {{P: {{Type: String, Default: a, AllowedPattern: '{pattern}'}}}}");
    let error = refused(&with_variable(&parameters, "1"));
    assert!(error.starts_with("Parameters.P: AllowedPattern"), "{error}");
}

#[test]
fn values_of_the_wrong_type_are_refused_not_ignored() {
    for (path, wrong, expected) in [
        (
            "/Parameters",
            json!([]),
            "the section Parameters must be a mapping",
        ),
        (
            "/Conditions",
            json!(null),
            "the section Conditions must be a mapping",
        ),
        ("/Rules", json!("x"), "the section Rules must be a mapping"),
        (
            "/Globals",
            json!(7),
            "the section Globals must be a mapping",
        ),
        (
            "/Globals/Function",
            json!([]),
            "Globals.Function: must be a mapping",
        ),
        (
            "/Resources/Broadcaster/Properties/EventInvokeConfig/DestinationConfig",
            json!("x"),
            "Broadcaster.Properties.EventInvokeConfig.DestinationConfig: must be a mapping",
        ),
        (
            "/Resources/Api/Properties/Routes/$default/RouteResponseSelectionExpression",
            json!(1),
            "Api.Properties.Routes.$default.RouteResponseSelectionExpression: must be $default",
        ),
        (
            "/Parameters/PostConcurrency/Default",
            json!("NaN"),
            "Parameters.PostConcurrency: must be a number",
        ),
        (
            "/Parameters/PostConcurrency/Default",
            json!("inf"),
            "Parameters.PostConcurrency: must be a number",
        ),
    ] {
        let mut root = yaml::parse(&originals()[0]).unwrap();
        *root.pointer_mut(path).unwrap() = wrong;
        assert_eq!(refused(&root.to_string()), expected);
    }
}
