//! Mutates valid texts: by nodes if they are JSON, and by characters.

use belfry_tests::repository;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// The texts to mutate, and the members and values that occur in them.
#[derive(Debug, Clone)]
pub(crate) struct Corpus {
    pub(crate) texts: Vec<String>,
    members: Vec<(String, Value)>,
    values: Vec<Value>,
}

impl Corpus {
    pub(crate) fn new(texts: Vec<String>) -> Self {
        let (mut members, mut values) = (vec![("__proto__".into(), json!({}))], Vec::new());
        for value in texts
            .iter()
            .filter_map(|text| serde_json::from_str::<Value>(text).ok())
        {
            for pointer in pointers(&value) {
                let found = value.pointer(&pointer).expect("a node").clone();
                let name = pointer.rsplit('/').next().unwrap_or_default().to_owned();
                if !values.contains(&found) {
                    members.push((name, found.clone()));
                    values.push(found);
                }
            }
        }
        Self {
            texts,
            members,
            values,
        }
    }

    /// The texts of a file in `schemas/cases/`.
    pub(crate) fn of_cases(file: &str) -> Self {
        let cases: Value = serde_json::from_str(&read("schemas/cases", file)).expect("JSON");
        let text = |case: &Value| case["text"].as_str().expect("a text").to_owned();
        Self::new(cases.as_array().expect("a list").iter().map(text).collect())
    }

    /// The files of `events/` whose names start with this.
    pub(crate) fn of_events(start: &str) -> Self {
        let files = std::fs::read_dir(repository().join("events")).expect("events/");
        let names = files.map(|file| file.expect("a file").file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        names.retain(|name| name.starts_with(start));
        Self::new(names.iter().map(|name| read("events", name)).collect())
    }
}

fn read(folder: &str, file: &str) -> String {
    std::fs::read_to_string(repository().join(folder).join(file)).expect("a text file")
}

/// Values at the edges of what parsers accept.
fn odd_values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0.5),
        json!(5.0),
        json!(1e300),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!([[null]]),
    ];
    let deep = (0..40).fold(json!(1), |inside, _| json!([inside]));
    values.push(deep);
    let texts = [
        "",
        " ",
        "null",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "1.00001",
        "2.0",
        "2026-02-29T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    values.extend(texts.map(Value::from));
    for piece in ["x", "ü", "😀", "\"", "\n"] {
        values.extend([64, 65, 128, 129, 300].map(|times| json!(piece.repeat(times))));
    }
    values
}

/// The JSON pointer of each node, the root first.
fn pointers(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(k, v)| (escaped(k), v)).collect(),
        Value::Array(list) => (0..).map(|i: usize| i.to_string()).zip(list).collect(),
        _ => Vec::new(),
    };
    let mut all = vec![String::new()];
    for (name, value) in inside {
        all.extend(pointers(value).iter().map(|rest| format!("/{name}{rest}")));
    }
    all
}

/// Escapes a name for a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// One change of one node.
#[derive(Debug, Clone)]
pub(crate) struct Change(Index, What);

#[derive(Debug, Clone)]
enum What {
    Replace(Value),
    Remove,
    Add(String, Value),
    /// Changes some characters of a text.
    Cut(Vec<Cut>),
    /// Makes the node the only item of a list.
    Wrap,
}

impl Change {
    fn apply(&self, value: &mut Value) {
        let pointers = pointers(value);
        let pointer = self.0.get(&pointers);
        if let What::Remove = self.1 {
            return remove(value, pointer);
        }
        let node = value.pointer_mut(pointer).expect("a node");
        match (&self.1, node) {
            (What::Replace(new), node) => *node = new.clone(),
            (What::Add(name, new), Value::Object(object)) => {
                object.insert(name.clone(), new.clone());
            }
            (What::Add(_, new), Value::Array(list)) => list.push(new.clone()),
            (What::Cut(cuts), Value::String(text)) => *text = cut(text.clone(), cuts),
            (_, node) => *node = json!([node.take()]),
        }
    }
}

fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return;
    };
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(list)) => {
            list.remove(name.parse().expect("a position"));
        }
        _ => unreachable!("other values have no nodes inside"),
    }
}

/// Up to three changes.
pub(crate) fn changes(corpus: &Corpus) -> impl Strategy<Value = Vec<Change>> + use<> {
    let member = select(corpus.members.clone());
    let value = prop_oneof![
        select(odd_values()),
        select(corpus.values.clone()),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    let what = prop_oneof![
        3 => value.clone().prop_map(What::Replace),
        2 => cuts().prop_map(What::Cut),
        2 => Just(What::Remove),
        1 => member.clone().prop_map(|(name, value)| What::Add(name, value)),
        1 => (member, value).prop_map(|((name, _), value)| What::Add(name, value)),
        1 => Just(What::Wrap),
    ];
    let change = (any::<Index>(), what).prop_map(|(at, what)| Change(at, what));
    vec(change, 0..4)
}

pub(crate) fn changed(mut value: Value, changes: &[Change]) -> Value {
    for change in changes {
        change.apply(&mut value);
    }
    value
}

/// Replaces some characters by others.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    at: Index,
    length: usize,
    piece: String,
}

pub(crate) fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let piece = prop_oneof![
        Just(String::new()),
        r#"[\[\]{}",:.=\\ 0-9a-zA-Z+/_@#?%*\-\x00-\x1f]{1,3}"#,
        "\\PC{1,4}",
        // A duplicate name.
        "type|data|\\PC{60,70}|😀{64}".prop_map(|name| format!("{{{0}:1,{0}:2,", json!(name))),
    ];
    let cut = (any::<Index>(), 0..3_usize, piece);
    let cut = cut.prop_map(|(at, length, piece)| Cut { at, length, piece });
    vec(cut, 1..3)
}

pub(crate) fn cut(mut text: String, cuts: &[Cut]) -> String {
    for Cut { at, length, piece } in cuts {
        let starts: Vec<_> = text.char_indices().map(|(byte, _)| byte).collect();
        let byte = |index: usize| starts.get(index).copied().unwrap_or(text.len());
        let from = at.index(starts.len() + 1);
        text.replace_range(byte(from)..byte(from + length), piece);
    }
    text
}

/// A text of the corpus with changed nodes, and sometimes changed characters.
pub(crate) fn mutated(corpus: &Corpus) -> impl Strategy<Value = String> + use<> {
    let cuts = prop_oneof![3 => Just(Vec::new()), 1 => cuts()];
    let parts = (select(corpus.texts.clone()), changes(corpus), cuts);
    parts.prop_map(|(text, changes, cuts)| {
        let text = match serde_json::from_str(&text) {
            Ok(value) => changed(value, &changes).to_string(),
            Err(_) => text,
        };
        cut(text, &cuts)
    })
}
