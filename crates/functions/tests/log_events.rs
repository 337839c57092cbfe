//! Holds the log events of the code and the table in docs/ARCHITECTURE.md to
//! each other. Runbooks filter on these names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests log whatever they like.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code.split("#[cfg(test)]\npub(crate) mod tests {").next();
            let code = code.unwrap().to_owned();
            found.push((path, code));
        }
    }
}

fn code() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for name in ["core", "aws", "functions"] {
        sources(&root().join("crates").join(name).join("src"), &mut found);
    }
    found
}

/// The texts in quotes that follow `before`.
fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let after = text.split(before).skip(1);
    after
        .filter_map(|rest| rest.strip_prefix('"')?.split('"').next())
        .collect()
}

#[test]
fn every_event_is_documented_and_every_documented_event_exists() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (_, table) = page.split_once("| event | function |").unwrap();
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let documented: BTreeSet<&str> = rows
        .map(|row| row.split('`').nth(1).expect("an event in backticks"))
        .collect();
    let code = code();
    let logged: BTreeSet<&str> = code
        .iter()
        .flat_map(|(_, text)| {
            ["event = ", "refused: ", "failed: "].map(|before| quoted(text, before))
        })
        .flatten()
        .collect();
    assert_eq!(logged, documented);
}

#[test]
fn every_log_line_has_an_event() {
    for (path, text) in code() {
        for macro_name in ["error", "warn", "info", "debug", "trace"] {
            for call in text.split(&format!("tracing::{macro_name}!(")).skip(1) {
                let begins = call.trim_start().starts_with("event = ");
                assert!(begins, "{}: {:.60}", path.display(), call.trim_start());
            }
        }
    }
}
