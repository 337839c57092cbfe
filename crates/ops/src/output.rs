//! What people and programs see.

use std::io::{self, IsTerminal, Write};

use belfry_protocol::Timestamp;
use serde_json::Value;

use crate::error::OpsError;

/// Standard output for results, standard error for everything else.
pub(crate) struct Output {
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether a line of progress may replace the one before.
    live: bool,
    /// Whether such a line stands on the terminal.
    unfinished: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            live: io::stderr().is_terminal(),
            unfinished: false,
        }
    }

    /// Prints a result: the report as it is, or a text for people.
    pub(crate) fn result(
        &mut self,
        report: &Value,
        text: impl FnOnce() -> Result<String, OpsError>,
    ) -> Result<(), OpsError> {
        let text = if self.json {
            format!("{report}\n")
        } else {
            printable(&text()?)
        };
        self.end_progress();
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // A reader like `head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Tells the person something. A closed terminal is no reason to stop.
    pub(crate) fn say(&mut self, text: &str) {
        self.end_progress();
        let _ = writeln!(io::stderr(), "{}", printable(text));
    }

    /// Shows how far work is: one line that changes on a terminal, otherwise a
    /// line for each change.
    pub(crate) fn progress(&mut self, text: &str) {
        let text = printable(text);
        let _ = if self.live {
            self.unfinished = true;
            let mut err = io::stderr();
            write!(err, "\r\u{1b}[K{text}").and_then(|()| err.flush())
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }

    fn end_progress(&mut self) {
        if std::mem::take(&mut self.unfinished) {
            let _ = writeln!(io::stderr());
        }
    }
}

/// A text without the characters that would command the terminal: part of it
/// comes from clients or a server.
#[must_use]
pub fn printable(text: &str) -> String {
    let command = |c: char| c.is_control() && c != '\n';
    text.replace(command, "\u{fffd}")
}

/// Rows under a header, in columns. No row, no table.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned))
        .chain(rows)
        .map(|row| row.map(|cell| one_line(&cell)))
        .collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    });
    lines.collect()
}

fn one_line(text: &str) -> String {
    printable(&text.replace('\n', "\u{fffd}"))
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 connection`, `2 connections`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// The current time.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

const OVER: &str = "over";

/// How long it is until a moment, or that it is over.
pub(crate) fn until(now: jiff::Timestamp, moment: Timestamp) -> String {
    left(now, moment).unwrap_or_else(|| OVER.into())
}

/// The same in a sentence.
pub(crate) fn within(now: jiff::Timestamp, moment: Timestamp) -> String {
    left(now, moment).map_or_else(|| OVER.into(), |time| format!("in {time}"))
}

/// `None` if the moment is over.
fn left(now: jiff::Timestamp, moment: Timestamp) -> Option<String> {
    let parsed: Option<jiff::Timestamp> = moment.to_string().parse().ok();
    let is_over = parsed.is_some_and(|moment| moment <= now);
    (!is_over).then(|| between(now, moment))
}

/// How long ago a moment was, or how long it is until then.
pub(crate) fn between(now: jiff::Timestamp, moment: Timestamp) -> String {
    let moment: Option<jiff::Timestamp> = moment.to_string().parse().ok();
    let seconds = moment.map(|moment| (moment.as_second() - now.as_second()).unsigned_abs());
    seconds.map_or_else(|| "?".into(), duration)
}

/// The two largest units of a time.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_and_obeys_nobody() {
        let rows = vec![
            ["c1".into(), "alice".into()],
            ["connection-2".into(), "evil\u{1b}[2J\nbob".into()],
        ];
        insta::assert_snapshot!(table(["CONNECTION", "USER"], rows), @"
        CONNECTION    USER
        c1            alice
        connection-2  evil�[2J�bob
        ");
        assert_eq!(table(["CONNECTION"], Vec::new()), "");
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(12_345), "12,345");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(counted(1, "connection"), "1 connection");
        assert_eq!(counted(2, "connection"), "2 connections");
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (3_661, "1h01m"),
            (90_000, "1d01h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        let moment = |text| Timestamp::parse(text).unwrap();
        assert_eq!(between(now, moment("2026-11-26T11:58:30Z")), "1m30s");
        assert_eq!(between(now, moment("2026-11-26T12:00:10.5Z")), "10s");
        assert_eq!(until(now, moment("2026-11-26T12:00:10.5Z")), "10s");
        assert_eq!(until(now, moment("1970-01-01T00:00:00Z")), "over");
    }

    #[test]
    fn nobody_commands_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{9b}c\r\nd"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\nd"
        );
        assert_eq!(printable("…/dev ü"), "…/dev ü");
    }
}
