//! Hostile input for every parser: good inputs made wrong in a few places,
//! and what must hold whatever came.
//!
//! The inputs start from `schemas/cases/` and `events/`, and every run tries
//! others: two thousand for each property, or as many as `PROPTEST_CASES`
//! says. A long run:
//!
//! ```text
//! PROPTEST_CASES=200000 cargo test --workspace --test fuzz
//! ```
//!
//! What fails is made small and kept in `tests/proptest-regressions/`, to be
//! tried first from then on; commit it with the fix.

use proptest::test_runner::Config;

mod events;
mod frames;
mod mutate;
mod origins;
mod requests;
mod schema;
mod tokens;

/// How much is tried.
fn config() -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2_000;
    }
    config
}
