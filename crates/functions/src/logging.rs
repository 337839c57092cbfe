//! Structured logs: one JSON object a line, with known fields only.
//!
//! A field whose name is not on the list below is dropped, and so is every line
//! of another crate. So there is no field for a token, a query string or a
//! message body.

use std::fmt::Debug;
use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The fields that a log line may have beside `timestamp`, `level` and `message`.
const FIELDS: [&str; 53] = [
    "action",
    "by",
    "channel",
    "closed",
    "code",
    "complete",
    "connectionId",
    "connections",
    "count",
    "deleted",
    "durationMs",
    "errorType",
    "event",
    "eventId",
    "expired",
    "failed",
    "failedSample",
    "failure",
    "givenUp",
    "gone",
    "kept",
    "locks",
    "messageId",
    "name",
    "notAttempted",
    "notEnded",
    "origin",
    "outlived",
    "pauseMs",
    "percent",
    "pinged",
    "reason",
    "reconnectSent",
    "released",
    "replaced",
    "requestId",
    "rows",
    "rowsKept",
    "segment",
    "shard",
    "silent",
    "sourceIp",
    "status",
    "statusCode",
    "subscriptions",
    "success",
    "target",
    "throttled",
    "told",
    "tooLarge",
    "type",
    "userId",
    "withinSeconds",
];

/// The longest text of a field, in bytes: some texts come from outside.
const MAX_TEXT_BYTES: usize = 512;

/// Writes logs to standard output from now on.
pub(crate) fn init(level: Level) {
    tracing_subscriber::registry()
        .with(JsonLines {
            level,
            out: std::io::stdout,
        })
        .init();
}

struct JsonLines<W> {
    level: Level,
    out: W,
}

impl<S: Subscriber, W: Fn() -> O + 'static, O: Write> Layer<S> for JsonLines<W> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("belfry_")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line {
            timestamp: format!("{:.3}", jiff::Timestamp::now()),
            level: event.metadata().level().as_str(),
            fields: fields.0,
        };
        let Ok(line) = serde_json::to_string(&line) else {
            return;
        };
        // There is nowhere to report that standard output cannot be written.
        let _ = writeln!((self.out)(), "{line}");
    }
}

#[derive(Serialize)]
struct Line {
    timestamp: String,
    level: &'static str,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        if field.name() == "message" || FIELDS.contains(&field.name()) {
            self.0.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(
            field,
            value[..value.floor_char_boundary(MAX_TEXT_BYTES)].into(),
        );
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A field that is not on the list would be dropped without a word.
    #[test]
    fn every_field_that_the_documentation_promises_is_written() {
        let page = include_str!("../../../docs/ARCHITECTURE.md");
        let (_, section) = page.split_once("\n## Logs\n").unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let mut promised = 0;
        for row in rows {
            let fields = row.rsplit('|').nth(1).unwrap();
            let fields = fields.split('`').skip(1).step_by(2);
            // Reasons begin with a capital letter.
            for field in fields.filter(|field| field.starts_with(char::is_lowercase)) {
                assert!(FIELDS.contains(&field), "{field} of {row}");
                promised += 1;
            }
        }
        assert!(promised > 100, "{promised}");
    }

    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let out = lines.clone();
        let layer = JsonLines {
            level: Level::INFO,
            out: move || out.clone(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_is_json_with_the_allowed_fields() {
        let lines =
            logged(|| tracing::info!(userId = %"alice", success = 3_u64, "connected\nnext"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "connected\nnext");
        assert_eq!(lines[0]["userId"], "alice");
        assert_eq!(lines[0]["success"], 3);
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn other_fields_and_other_crates_are_dropped() {
        let lines = logged(|| {
            tracing::info!(token = "secret", body = ?"secret", "kept");
            tracing::error!(target: "hyper::client", reason = "secret", "secret");
            tracing::debug!("secret");
        });
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].to_string().contains("secret"), "{}", lines[0]);
    }

    #[test]
    fn long_texts_are_truncated() {
        let origin = "ü".repeat(10_000);
        let lines = logged(|| tracing::warn!(origin = %origin, "refused"));
        assert_eq!(lines[0]["origin"].as_str().unwrap().len(), MAX_TEXT_BYTES);
    }
}
