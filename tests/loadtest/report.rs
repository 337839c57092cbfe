//! What is printed.

use std::time::Duration;

use belfry_tests::percentile;

/// A line of the report.
pub(crate) fn line(what: &str, text: &str) {
    println!("{what:<13} {text}");
}

/// How long many things took.
pub(crate) fn took(what: &str, times: &mut [Duration]) {
    if times.is_empty() {
        return line(what, "none");
    }
    times.sort_unstable();
    let ms = |percent| percentile(times, percent);
    line(
        what,
        &format!(
            "{}: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms",
            times.len(),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        ),
    );
}
