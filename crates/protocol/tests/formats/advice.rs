//! The tables of docs/PROTOCOL.md give the advice that [`Advice`] gives.

use std::collections::BTreeSet;
use std::path::Path;

use belfry_protocol::{Advice, ErrorCode};
use schemars::schema_for;
use serde_json::Value;

/// The words in backticks at the start of a cell.
fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.split('`').next()
}

/// The first and the last cell of every row, one list for each table whose
/// last column is called `advice`.
fn tables() -> Vec<Vec<(String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PROTOCOL.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut tables = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if cells(line).is_none_or(|(_, last)| last != "advice") {
            continue;
        }
        let rows = lines.by_ref().skip(1).map_while(cells);
        tables.push(rows.collect());
    }
    tables
}

fn cells(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix('|')?.strip_suffix('|')?;
    let (first, rest) = line.split_once('|')?;
    let last = rest.rsplit('|').next()?;
    Some((first.trim().into(), last.trim().into()))
}

/// Fails unless the cell begins with the advice.
fn begins_with(row: &str, cell: &str, advice: Advice) {
    assert_eq!(quoted(cell), Some(advice.as_str()), "{row}: {cell}");
}

fn numbers(cell: &str) -> Vec<u16> {
    let words = cell.split([' ', ',']);
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn every_row_begins_with_an_advice() {
    let words = Advice::ALL.map(Advice::as_str);
    assert_eq!(tables().len(), 3);
    for (row, cell) in tables().concat() {
        let word = quoted(&cell);
        assert!(
            word.is_some_and(|word| words.contains(&word)),
            "{row}: {cell}"
        );
    }
}

#[test]
fn every_advice_is_defined_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PROTOCOL.md");
    let page = std::fs::read_to_string(path).unwrap();
    for advice in Advice::ALL {
        let row = format!("\n| `{advice}` | ");
        assert_eq!(page.matches(&row).count(), 1, "{advice}");
    }
}

#[test]
fn every_status_has_its_advice() {
    let [statuses, ..] = &tables()[..] else {
        panic!("no table of statuses")
    };
    let mut seen = BTreeSet::new();
    for (row, cell) in statuses {
        for status in numbers(row) {
            begins_with(row, cell, Advice::after_status(status));
            seen.insert(status);
        }
    }
    assert_eq!(seen, BTreeSet::from([400, 401, 403, 429, 502, 503, 504]));
}

#[test]
fn every_error_and_close_has_its_advice() {
    let [_, rows, _] = &tables()[..] else {
        panic!("no table of errors and closes")
    };
    let (mut codes, mut closes) = (BTreeSet::new(), BTreeSet::new());
    for (row, cell) in rows {
        if row.starts_with("close") {
            for code in numbers(row) {
                begins_with(row, cell, Advice::after_close(code));
                closes.insert(code);
            }
        } else if let Ok(code) = serde_json::from_value::<ErrorCode>(quoted(row).into()) {
            begins_with(row, cell, code.advice());
            codes.insert(code.as_str().to_owned());
        } else {
            let others = ["reconnect", "{\"message\": \"Internal server error\", "];
            let other = others
                .iter()
                .any(|other| quoted(row).unwrap().starts_with(other));
            assert!(other, "{row} is no error code");
        }
    }
    let schema = schema_for!(ErrorCode);
    let variants = schema.get("oneOf").and_then(Value::as_array).unwrap();
    let all: BTreeSet<_> = variants
        .iter()
        .map(|variant| variant["const"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes, all);
    let all = [1000, 1001, 1002, 1003, 1006, 1007, 1009];
    assert_eq!(closes, BTreeSet::from(all));
}

#[test]
fn every_function_error_has_its_advice() {
    let [.., errors] = &tables()[..] else {
        panic!("no table of function errors")
    };
    let mut seen = BTreeSet::new();
    for (row, cell) in errors {
        let error_type = quoted(row).unwrap();
        begins_with(row, cell, Advice::after_function_error(error_type));
        seen.insert(error_type);
    }
    let all = [
        "ChannelBusy",
        "InvalidRequest",
        "PayloadTooLarge",
        "RateLimited",
        "Timeout",
        "Unavailable",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}
