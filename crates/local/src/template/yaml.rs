//! YAML into JSON, with CloudFormation's short intrinsics in their long form.
//!
//! Nesting and the expansion of aliases are bounded, so that everything after
//! this may recurse over the result.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Marker, Parser, Tag};
use serde_json::{Map, Value, json};

/// The deepest nesting of mappings, lists and tags. Templates in the field
/// stay below 30.
const MAX_DEPTH: usize = 64;

/// The most that anchors and aliases may copy: bytes of strings, and one for
/// each value.
const MAX_COPIED: usize = 4 * 1024 * 1024;

/// Parses one YAML document. `!Ref x` becomes `{"Ref": "x"}` and any other
/// `!Name x` becomes `{"Fn::Name": x}`.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    let mut documents = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| format!("not valid YAML: {error}"))?;
        documents += usize::from(matches!(event, Event::DocumentStart(_)));
        if documents > 1 {
            let line = span.start.line();
            return Err(format!(
                "line {line}: a template must be a single YAML document"
            ));
        }
        builder.add(event, span.start)?;
    }
    builder
        .root
        .ok_or_else(|| "the template is empty".to_owned())
}

#[derive(Clone)]
struct Node {
    value: Value,
    /// Levels of nesting below this value.
    height: usize,
    /// The bytes of its strings, and one for each value.
    size: usize,
}

/// A list or mapping whose end has not come yet.
struct Open<'input> {
    content: Content,
    height: usize,
    size: usize,
    anchor: usize,
    tag: Option<Tagged<'input>>,
}

type Tagged<'input> = std::borrow::Cow<'input, Tag>;

enum Content {
    List(Vec<Value>),
    Mapping {
        entries: Map<String, Value>,
        key: Option<String>,
    },
}

#[derive(Default)]
struct Builder<'input> {
    open: Vec<Open<'input>>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    root: Option<Value>,
}

impl<'input> Builder<'input> {
    fn add(&mut self, event: Event<'input>, at: Marker) -> Result<(), String> {
        match event {
            Event::SequenceStart(anchor, tag) => {
                self.start(Content::List(Vec::new()), anchor, tag, at)
            }
            Event::MappingStart(anchor, tag) => {
                let entries = Map::new();
                self.start(Content::Mapping { entries, key: None }, anchor, tag, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Scalar(text, style, anchor, tag) => {
                let (core, own) = match tag {
                    Some(tag) if !tag.is_yaml_core_schema() => (None, Some(tag)),
                    core => (core, None),
                };
                let scalar = Scalar::parse_from_cow_and_metadata(text, style, core.as_ref());
                let value = scalar.and_then(scalar_value);
                let value = value.ok_or_else(|| error(at, "this value cannot be read"))?;
                let size = 1 + value.as_str().map_or(0, str::len);
                let node = Node {
                    value,
                    height: 0,
                    size,
                };
                self.complete(node, anchor, own, at)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor);
                let node =
                    node.ok_or_else(|| error(at, "this alias is inside the value that it names"))?;
                let node = node.clone();
                self.count_copy(node.size, at)?;
                self.insert(node, at)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn start(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<Tagged<'input>>,
        at: Marker,
    ) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open {
            content,
            height: 0,
            size: 1,
            anchor,
            tag: tag.filter(|tag| !tag.is_yaml_core_schema()),
        });
        Ok(())
    }

    fn end(&mut self, at: Marker) -> Result<(), String> {
        let Some(open) = self.open.pop() else {
            return Err(error(at, "a list or mapping ends that never began"));
        };
        let value = match open.content {
            Content::List(items) => Value::Array(items),
            Content::Mapping { entries, .. } => Value::Object(entries),
        };
        let node = Node {
            value,
            height: open.height,
            size: open.size,
        };
        self.complete(node, open.anchor, open.tag, at)
    }

    fn complete(
        &mut self,
        mut node: Node,
        anchor: usize,
        tag: Option<Tagged<'input>>,
        at: Marker,
    ) -> Result<(), String> {
        if let Some(tag) = tag {
            let name = match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => name.to_owned(),
                name => format!("Fn::{name}"),
            };
            node.size += 1 + name.len();
            node.height += 1;
            node.value = json!({name: node.value});
        }
        if anchor > 0 {
            self.count_copy(node.size, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.insert(node, at)
    }

    fn insert(&mut self, node: Node, at: Marker) -> Result<(), String> {
        if self.open.len() + node.height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node.value);
            return Ok(());
        };
        parent.height = parent.height.max(node.height + 1);
        parent.size += node.size;
        match &mut parent.content {
            Content::List(items) => items.push(node.value),
            Content::Mapping { entries, key } => match key.take() {
                None => *key = Some(key_text(node.value, entries, at)?),
                Some(key) => {
                    entries.insert(key, node.value);
                }
            },
        }
        Ok(())
    }

    fn count_copy(&mut self, size: usize, at: Marker) -> Result<(), String> {
        self.copied += size;
        if self.copied > MAX_COPIED {
            return Err(error(at, "anchors and aliases expand to more than 4 MB"));
        }
        Ok(())
    }
}

/// A key that a mapping does not have yet.
fn key_text(key: Value, entries: &Map<String, Value>, at: Marker) -> Result<String, String> {
    let key = match key {
        Value::String(key) => key,
        Value::Array(_) | Value::Object(_) => return Err(error(at, "a key must be a string")),
        other => other.to_string(),
    };
    if key == "<<" {
        return Err(error(at, "merge keys (<<) are not supported"));
    }
    if entries.contains_key(&key) {
        return Err(error(at, &format!("duplicate key {key:?}")));
    }
    Ok(key)
}

/// `None` for a number that JSON does not have, like `.nan`.
fn scalar_value(scalar: Scalar<'_>) -> Option<Value> {
    match scalar {
        Scalar::Null => Some(Value::Null),
        Scalar::Boolean(value) => Some(value.into()),
        Scalar::Integer(value) => Some(value.into()),
        Scalar::FloatingPoint(value) => {
            serde_json::Number::from_f64(value.into_inner()).map(Value::Number)
        }
        Scalar::String(value) => Some(value.into_owned().into()),
    }
}

fn error(at: Marker, problem: &str) -> String {
    format!("line {}: {problem}", at.line())
}

fn too_deep(at: Marker) -> String {
    error(
        at,
        &format!("values are nested more than {MAX_DEPTH} levels deep"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_long_ones() {
        let text = "a: !Ref X\nb: !If [C, !GetAtt D.Arn, !Sub \"${E}\"]\nc: !Not [!Condition F]\nd: {Ref: G}\n1: 'true'\n";
        let expected = json!({
            "a": {"Ref": "X"},
            "b": {"Fn::If": ["C", {"Fn::GetAtt": "D.Arn"}, {"Fn::Sub": "${E}"}]},
            "c": {"Fn::Not": [{"Condition": "F"}]},
            "d": {"Ref": "G"},
            "1": "true",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn scalars_keep_their_types() {
        let text = "a: 1\nb: 1.5\nc: yes\nd: true\ne:\nf: !!str 7\ng: \"7\"\nh: 2012-10-17\n";
        let expected = json!({
            "a": 1, "b": 1.5, "c": "yes", "d": true, "e": null, "f": "7", "g": "7",
            "h": "2012-10-17",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn aliases_copy_what_they_name() {
        let text = "a: &x {b: [!Ref Y, 1]}\nc: *x\nd: [*x]\n";
        let x = json!({"b": [{"Ref": "Y"}, 1]});
        assert_eq!(parse(text).unwrap(), json!({"a": x, "c": x, "d": [x]}));
    }

    #[test]
    fn errors_name_the_line() {
        let deep = format!("a:\n  {}", "[".repeat(MAX_DEPTH));
        let deep_by_aliases: String = (1..100)
            .map(|n| format!("k{n}: &a{n} [*a{}]\n", n - 1))
            .collect();
        let deep_by_aliases = format!("k0: &a0 []\n{deep_by_aliases}");
        let laughs: String = (1..30)
            .map(|n| format!("k{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1))
            .collect();
        let laughs = format!("k0: &a0 {}\n{laughs}", "x".repeat(1_000));
        for (text, expected) in [
            ("a: 1\na: 2\n", "line 2: duplicate key \"a\""),
            ("a: 1\n'a': 2\n", "line 2: duplicate key \"a\""),
            ("1: 1\n'1': 2\n", "line 2: duplicate key \"1\""),
            ("a: 1\n<<: {b: 2}\n", "line 2: merge keys (<<)"),
            ("a: 1\n? [b]\n: 2\n", "line 2: a key must be a string"),
            ("a: 1\nb: .nan\n", "line 2: this value cannot be read"),
            ("a: 1\nb: !!int x\n", "line 2: this value cannot be read"),
            ("a: &x\n  - *x\n", "line 2: this alias is inside"),
            ("a: 1\n--- \nb: 2\n", "line 2: a template must be a single"),
            (&deep, "line 2: values are nested more than 64 levels"),
            (&deep_by_aliases, "line 65: values are nested more than 64"),
            (&laughs, "line 8: anchors and aliases expand to more"),
            ("", "the template is empty"),
            ("# only a comment\n", "the template is empty"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{expected}: {error}");
        }
        for text in ["a: *b\n", "a: [", "a: 'b", "{", "a\n  b: c\nd"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(" line "), "{text}: {error}");
        }
    }
}
