//! The lines of the report.

use std::time::Duration;

use belfry_loadtest::percentile;

pub(crate) fn line(what: &str, text: &str) {
    println!("{what:<13} {text}");
}

/// Prints the percentiles of some times.
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
