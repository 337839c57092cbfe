//! Property tests: the reader refuses any hostile template and names the place,
//! and never panics.

use proptest::prelude::*;

use super::*;

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = stack(text) {
        prop_assert!(names_the_place(&error), "{error}");
    }
    Ok(())
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
        which in 0..3_usize,
        changes in changes(),
    ) {
        check(&changed(&originals()[which], &changes))?;
    }

    #[test]
    fn any_value_in_a_template_is_read_or_refused(
        which in 0..3_usize,
        steps in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        value in value(),
    ) {
        let mut root = yaml::parse(&originals()[which]).unwrap();
        replace(&mut root, &steps, value);
        let text = root.to_string();
        check(&text)?;
        if let Ok(stack) = stack(&text) {
            // The embedded DynamoDB may refuse a table, too.
            let _ = crate::database::with_tables(&stack.tables);
        }
    }

    #[test]
    fn any_parameter_value_is_accepted_or_refused(
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
