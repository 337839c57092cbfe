//! The tables of docs/PROTOCOL.md give the advice that [`Advice`] gives.

use std::collections::BTreeSet;
use std::path::Path;

use belfry_protocol::{Advice, ErrorCode, schemas};
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
    let mut closing = BTreeSet::new();
    for (row, cell) in rows {
        if row.starts_with("close") {
            for code in numbers(row) {
                begins_with(row, cell, Advice::after_close(code));
                closes.insert(code);
            }
        } else if let Ok(code) = serde_json::from_value::<ErrorCode>(quoted(row).into()) {
            begins_with(row, cell, code.advice());
            codes.insert(code.as_str().to_owned());
            if row.contains("then close") {
                closing.insert(code.as_str());
            }
        } else if row.starts_with("`{\"message\": \"Internal server error\", ") {
            begins_with(row, cell, Advice::AFTER_GATEWAY_ERROR);
        } else {
            assert_eq!(quoted(row), Some("reconnect"), "{row} is no error code");
        }
    }
    let all = every_code();
    assert_eq!(codes, all.iter().map(|code| code.as_str().into()).collect());
    let may_close = all.iter().filter(|code| code.may_close());
    assert_eq!(closing, may_close.map(|code| code.as_str()).collect());
    assert_eq!(closes, BTreeSet::from(Advice::CLOSE_CODES));
}

#[test]
fn the_schema_of_server_frames_carries_the_advice() {
    let mut schemas = schemas::all().into_iter();
    let (_, schema) = schemas
        .find(|(name, _)| *name == "server-frame.json")
        .unwrap();
    let variants = schema["$defs"]["ErrorCode"]["oneOf"].as_array().unwrap();
    assert_eq!(variants.len(), every_code().len());
    for (variant, code) in variants.iter().zip(every_code()) {
        assert_eq!(variant["const"], code.as_str());
        assert_eq!(variant["x-advice"], code.advice().as_str(), "{code}");
        assert_eq!(variant["x-mayClose"], code.may_close(), "{code}");
    }
    let closes = schema["x-closeAdvice"].as_object().unwrap();
    assert_eq!(closes.len(), Advice::CLOSE_CODES.len());
    for code in Advice::CLOSE_CODES {
        let advice = Advice::after_close(code).as_str();
        assert_eq!(closes[&code.to_string()], advice, "{code}");
    }
    let gateway = Advice::AFTER_GATEWAY_ERROR.as_str();
    assert_eq!(schema["x-gatewayErrorAdvice"], gateway);
}

/// Every code, in the order of its schema.
fn every_code() -> Vec<ErrorCode> {
    let schema = schema_for!(ErrorCode);
    let variants = schema.get("oneOf").and_then(Value::as_array).unwrap();
    let codes = variants.iter().map(|variant| variant["const"].clone());
    codes
        .map(|code| serde_json::from_value(code).unwrap())
        .collect()
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
