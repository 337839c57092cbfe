//! Hostile input for every parser: valid inputs, mutated in a few places, and
//! properties that must hold for any of them.
//!
//! The inputs start from `schemas/cases/` and `events/`. Every run tries new
//! ones: two thousand for each property, or `PROPTEST_CASES`. A long run:
//!
//! ```text
//! PROPTEST_CASES=200000 cargo test --workspace --test fuzz
//! ```
//!
//! A failing input is minimized and saved in `tests/proptest-regressions/`. Later
//! runs try it first. Commit it with the fix.

use proptest::test_runner::Config;

mod channels;
mod events;
mod frames;
mod mutate;
mod origins;
mod readers;
mod requests;
mod schema;
mod tokens;

fn config() -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2_000;
    }
    config
}
