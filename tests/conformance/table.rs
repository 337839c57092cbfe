//! The tables in docs/GATEWAY.md name existing tests, and every test of this
//! suite.

use std::collections::BTreeSet;

use belfry_tests::repository;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the tests in a file.
fn tests_in(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let attributes = text.split("#[tokio::test]").skip(1);
    let names = attributes.filter_map(|rest| {
        let (_, rest) = rest.split_once("async fn ")?;
        Some(rest.split_once('(')?.0.to_owned())
    });
    names.collect()
}

/// Suite, module and name of each test that a document names between
/// backquotes, like `system keys::a_test`. Without a suite it is this one.
fn named(document: &str) -> Vec<(&str, &str, &str)> {
    let quoted = document.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|text| {
            let (suite, path) = text.split_once(' ').unwrap_or(("conformance", text));
            let (module, name) = path.rsplit_once("::")?;
            Some((suite, module, name))
        })
        .collect()
}

#[test]
fn every_row_has_its_test_and_every_test_its_row() {
    let document = read("docs/GATEWAY.md");
    let rows = named(&document);
    assert!(rows.len() >= 60, "only {} rows", rows.len());
    for (suite, module, name) in &rows {
        let tests = tests_in(&format!("tests/{suite}/{}.rs", module.replace("::", "/")));
        assert!(
            tests.contains(*name),
            "{suite} {module}::{name} does not exist"
        );
    }
    for module in ["events", "handshake", "limits", "management", "routing"] {
        for test in tests_in(&format!("tests/conformance/{module}.rs")) {
            let row = ("conformance", module, test.as_str());
            assert!(rows.contains(&row), "{module}::{test} has no row");
        }
    }
}
