//! Hostile templates: the reader must refuse them and name the place. It must
//! never panic, hang, or use unbounded memory.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Far more than any of these cases takes, far less than an exponential one.
const PATIENCE: Duration = Duration::from_secs(20);

fn evaluate(text: &str) -> Result<StackSpec, TemplateError> {
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

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = evaluate(text) {
        prop_assert!(names_the_place(&error), "{error}");
    }
    Ok(())
}

fn refused(text: &str) -> String {
    let error = evaluate(text).unwrap_err();
    assert!(names_the_place(&error), "{error}");
    error.to_string()
}

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

fn originals() -> [String; 2] {
    ["template.yaml", "tests/templates/misbehave.yaml"].map(|path| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
        std::fs::read_to_string(format!("{root}{path}")).unwrap()
    })
}

/// Pieces of YAML and of templates that break assumptions.
const TOKENS: [&str; 40] = [
    "",
    "\t",
    "\0",
    "\u{feff}",
    "é",
    "'",
    "\"",
    "#",
    "- ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "|",
    ">-",
    "&a ",
    "*a",
    "<<: *a",
    "!Ref ",
    "!Ref Api",
    "!GetAtt .",
    "!Sub ${",
    "!Sub [\"${a}\", {a: !Ref Stage}]",
    "!Join [\",\", !Ref Stage]",
    "!If [A, !If [A, 1, 2], 3]",
    "!FindInMap [A, B, C]",
    "!",
    "!!int x",
    "---",
    "...",
    "%YAML 9.9",
    ".nan",
    "-0",
    "1e999",
    "99999999999999999999999999",
    "null",
    "[]",
    "{}",
];

/// One change to a text: what to do, where, and with what.
type Change = (u8, prop::sample::Index, prop::sample::Index, &'static str);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let change = (0..8_u8, index(), index(), prop::sample::select(&TOKENS[..]));
    prop::collection::vec(change, 1..5)
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (kind, at, other, token) in changes {
        if lines.is_empty() {
            break;
        }
        let (at, other) = (at.index(lines.len()), other.index(lines.len()));
        let line = &mut lines[at];
        let boundaries: Vec<usize> = line.char_indices().map(|(i, _)| i).collect();
        let column = boundaries.get(other % boundaries.len().max(1)).copied();
        match kind {
            0 => drop(lines.remove(at)),
            1 => {
                let line = line.clone();
                lines.insert(other, line);
            }
            2 => lines.swap(at, other),
            3 => lines.truncate(at),
            4 => line.insert_str(0, "  "),
            5 => line.insert_str(column.unwrap_or(0), token),
            6 => line.truncate(column.unwrap_or(0)),
            _ => match line.split_once(": ") {
                Some((key, _)) => *line = format!("{key}: {token}"),
                None => *line = format!("{line} {token}"),
            },
        }
    }
    lines.join("\n")
}

/// A value with every kind of intrinsic, right and wrong.
fn value() -> impl Strategy<Value = Value> {
    let names = [
        "Stage",
        "Api",
        "Connect",
        "HasCallbackEndpoint",
        "AWS::NoValue",
        "X",
        "",
    ];
    let name = prop::sample::select(names.map(str::to_owned).to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[${}.!a-zA-Z:]{0,12}".prop_map(Value::from),
        name.prop_map(Value::from),
    ];
    let keys = [
        "Ref",
        "Condition",
        "Fn::GetAtt",
        "Fn::Sub",
        "Fn::Join",
        "Fn::If",
        "Fn::Equals",
        "Fn::Not",
        "Fn::And",
        "Fn::Or",
        "Fn::",
        "Type",
        "Properties",
        "Variables",
        "OnFailure",
        "",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = prop::sample::select(keys.map(str::to_owned).to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 1..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Replaces the value that a walk of random steps ends at.
fn replace(tree: &mut Value, steps: &[prop::sample::Index], replacement: Value) {
    let Some((step, steps)) = steps.split_first() else {
        *tree = replacement;
        return;
    };
    let children: Vec<&mut Value> = match tree {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(entries) => entries.values_mut().collect(),
        _ => Vec::new(),
    };
    match children.len() {
        0 => *tree = replacement,
        len => {
            if let Some(child) = children.into_iter().nth(step.index(len)) {
                replace(child, steps, replacement);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_text_is_refused(text in "(?s).{0,200}") {
        check(&text)?;
    }

    #[test]
    fn any_yaml_punctuation_is_refused(text in "[-\\[\\]{}:,?!&*#|>'\"%@`a \n\t]{0,80}") {
        check(&text)?;
    }

    #[test]
    fn a_changed_template_is_read_or_refused(
        which in 0..2_usize,
        changes in changes(),
    ) {
        check(&changed(&originals()[which], &changes))?;
    }

    #[test]
    fn any_value_in_a_template_is_read_or_refused(
        which in 0..2_usize,
        steps in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        value in value(),
    ) {
        let mut root = yaml::parse(&originals()[which]).unwrap();
        replace(&mut root, &steps, value);
        let text = root.to_string();
        check(&text)?;
        if let Ok(stack) = evaluate(&text) {
            // The embedded DynamoDB may refuse a table, too.
            let _ = crate::database::with_tables(&stack.tables);
        }
    }

    #[test]
    fn any_parameter_value_is_taken_or_refused(
        name in "[A-Za-z]{0,8}",
        known in any::<prop::sample::Index>(),
        value in "(?s).{0,40}|[0-9eE.+-]{1,12}|inf|NaN",
    ) {
        let template = Template::parse(&originals()[0]).unwrap();
        let names: Vec<_> = template.section("Parameters").unwrap().keys().collect();
        for name in [&name, names[known.index(names.len())]] {
            let given = [(name.clone(), value.clone())].into();
            if let Err(error) = template.evaluate(&given, "us-east-1") {
                prop_assert!(names_the_place(&error), "{error}");
            }
        }
    }
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
    let stack = evaluate(&text).unwrap();
    assert_eq!(stack.functions["F"].environment["V"], "yes");
}

#[test]
fn nested_substitutions_take_linear_time() {
    let value = (0..12).fold("''".to_owned(), |inner, _| {
        format!("!Sub [\"{}\", {{a: {inner}}}]", "${a}".repeat(100))
    });
    let stack = evaluate(&with_variable("", &value)).unwrap();
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
