//! The latest frames, connections and invocations, while somebody looks.
//!
//! There is one bounded list for all pages. Each page reads it at its own speed
//! and is told if it was too slow, so a slow page holds nothing back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::redact::{redact_frame, redact_text};
use crate::clock;
use crate::lambda::{NotInvoked, Outcome, is_metrics};

/// With texts of at most 4 KB each, some megabytes.
const MAX_RECORDS: usize = 1_000;

/// Bytes that are kept of a frame, a log or an error.
const MAX_TEXT_BYTES: usize = 4 * 1024;

/// The largest output in which a status is looked for.
const MAX_PARSED_BYTES: usize = 64 * 1024;

/// Each page costs a stream, and a list of the connections four times a second.
const MAX_WATCHES: usize = 16;

#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Checked first: without a page, no caller waits for the lock.
    watches: AtomicUsize,
    records: Mutex<Records>,
    /// The newest record's number.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Records {
    list: VecDeque<Arc<Record>>,
    /// The newest record's number; the first one is 1.
    newest: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) number: u64,
    #[serde(rename = "atMs")]
    at_ms: u64,
    #[serde(flatten)]
    event: Event,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From the client.
    In,
    /// To the client.
    Out,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
enum Event {
    Connected {
        connection: String,
    },
    Disconnected {
        connection: String,
        code: u16,
        reason: String,
    },
    /// A handshake that `$connect` or a limit refused.
    Refused {
        connection: String,
        status: u16,
    },
    Frame {
        connection: String,
        direction: Direction,
        text: String,
        /// The size of the whole frame.
        bytes: usize,
    },
    #[serde(rename_all = "camelCase")]
    Invocation {
        function: String,
        request_id: String,
        duration_ms: f64,
        result: InvocationResult,
        log: String,
    },
    /// An event that Lambda refused.
    Throttled {
        function: String,
        reason: String,
    },
    /// No page was open, and nothing was recorded.
    Gap,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum InvocationResult {
    /// With the HTTP status that the function returned, if it did.
    Returned {
        status: Option<u64>,
    },
    Failed {
        error: String,
    },
}

impl Recorder {
    fn is_on(&self) -> bool {
        self.0.watches.load(Ordering::Relaxed) > 0
    }

    /// The time, if invocations are recorded now.
    pub(crate) fn started(&self) -> Option<tokio::time::Instant> {
        self.is_on().then(tokio::time::Instant::now)
    }

    pub(crate) fn connected(&self, connection: &str) {
        self.record(|| Event::Connected {
            connection: connection.to_owned(),
        });
    }

    pub(crate) fn disconnected(&self, connection: &str, code: u16, reason: &str) {
        self.record(|| Event::Disconnected {
            connection: connection.to_owned(),
            code,
            reason: kept(reason),
        });
    }

    pub(crate) fn refused(&self, connection: &str, status: u16) {
        self.record(|| Event::Refused {
            connection: connection.to_owned(),
            status,
        });
    }

    pub(crate) fn frame(&self, connection: &str, direction: Direction, text: &str) {
        self.record(|| Event::Frame {
            connection: connection.to_owned(),
            direction,
            text: kept(&redact_frame(text)),
            bytes: text.len(),
        });
    }

    pub(crate) fn invoked(
        &self,
        function: &str,
        request_id: &str,
        duration: Duration,
        outcome: &Outcome,
    ) {
        self.record(|| Event::Invocation {
            function: function.to_owned(),
            request_id: request_id.to_owned(),
            duration_ms: duration.as_secs_f64() * 1_000.0,
            result: result(outcome),
            log: log(&outcome.log_tail),
        });
    }

    pub(crate) fn not_invoked(&self, function: &str, cause: &NotInvoked) {
        self.record(|| Event::Throttled {
            function: function.to_owned(),
            reason: cause.to_string(),
        });
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if self.is_on() {
            self.add(event());
        }
    }

    fn add(&self, event: Event) {
        let mut records = self.records();
        records.newest += 1;
        let number = records.newest;
        if records.list.len() == MAX_RECORDS {
            records.list.pop_front();
        }
        records.list.push_back(Arc::new(Record {
            number,
            at_ms: clock::now_ms(),
            event,
        }));
        // Inside the lock, so that the numbers come in order.
        self.0.newest.send_replace(number);
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        let records = self.0.records.lock();
        records.expect("no code panics while holding the lock")
    }

    /// Records until the watch is dropped. `None` if too many pages are open.
    pub(super) fn watch(&self) -> Option<Watch> {
        let more = |watches| (watches < MAX_WATCHES).then_some(watches + 1);
        let watches = &self.0.watches;
        let before = watches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let has_gap = before.ok()? == 0 && self.records().newest > 0;
        if has_gap {
            self.add(Event::Gap);
        }
        Some(Watch {
            newest: self.0.newest.subscribe(),
            recorder: self.clone(),
        })
    }
}

/// An open page.
pub(super) struct Watch {
    recorder: Recorder,
    newest: watch::Receiver<u64>,
}

/// Records in order.
#[derive(Debug)]
pub(super) struct Batch {
    /// Records after the cursor that are no longer kept.
    missed: u64,
    pub(super) records: Vec<Arc<Record>>,
}

impl Batch {
    pub(super) fn to_json(&self) -> Value {
        let records = self.records.iter().map(|record| json!(**record));
        json!({"missed": self.missed, "records": records.collect::<Vec<_>>()})
    }
}

impl Watch {
    /// The number before the oldest record.
    pub(super) fn beginning(&self) -> u64 {
        let records = self.recorder.records();
        records.newest - records.list.len() as u64
    }

    /// The records after this one, as soon as there are any. Cancelling this
    /// loses nothing.
    pub(super) async fn after(&mut self, number: u64) -> Batch {
        // This fails only without a sender, and the recorder holds the sender.
        let _ = self.newest.wait_for(|newest| *newest > number).await;
        let records = self.recorder.records();
        let oldest = records.newest - records.list.len() as u64;
        let skipped = number.saturating_sub(oldest);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        Batch {
            missed: oldest.saturating_sub(number),
            records: records.list.iter().skip(skipped).cloned().collect(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.recorder.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As much of a text as is kept.
pub(super) fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

fn result(outcome: &Outcome) -> InvocationResult {
    let payload: Value = if outcome.payload.len() <= MAX_PARSED_BYTES {
        serde_json::from_slice(&outcome.payload).unwrap_or_default()
    } else {
        Value::Null
    };
    if !outcome.is_error {
        let status = payload.get("statusCode").and_then(Value::as_u64);
        return InvocationResult::Returned { status };
    }
    let field = |name| payload.get(name).and_then(Value::as_str);
    let kind = field("errorType").unwrap_or("Error");
    let message = field("errorMessage").unwrap_or_default();
    InvocationResult::Failed {
        error: kept(&redact_text(&format!("{kind}: {message}"))),
    }
}

/// A log without its metrics, which nobody reads.
fn log(tail: &[u8]) -> String {
    let lines = tail.split_inclusive(|byte| *byte == b'\n');
    let lines: Vec<_> = lines.filter(|line| !is_metrics(line)).collect();
    kept(&redact_text(&String::from_utf8_lossy(&lines.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.number).collect()
    }

    #[tokio::test]
    async fn nothing_is_recorded_while_no_page_is_open() {
        let recorder = Recorder::default();
        recorder.connected("a");
        let mut page = recorder.watch().unwrap();
        assert_eq!(page.beginning(), 0);
        recorder.connected("b");
        assert_eq!(numbers(&page.after(0).await), [1]);
        drop(page);
        recorder.connected("c");
        let mut page = recorder.watch().unwrap();
        let batch = page.after(0).await;
        assert_eq!(numbers(&batch), [1, 2]);
        assert!(matches!(batch.records[1].event, Event::Gap));
    }

    #[tokio::test]
    async fn a_slow_page_is_told_what_it_missed() {
        let recorder = Recorder::default();
        let mut page = recorder.watch().unwrap();
        for _ in 0..MAX_RECORDS + 7 {
            recorder.connected("a");
        }
        let batch = page.after(3).await;
        assert_eq!(batch.missed, 4);
        assert_eq!(batch.records.len(), MAX_RECORDS);
        assert_eq!(batch.records[0].number, 8);
        let batch = page.after(1_005).await;
        assert_eq!((batch.missed, numbers(&batch)), (0, vec![1_006, 1_007]));
    }

    #[test]
    fn pages_are_bounded() {
        let recorder = Recorder::default();
        let pages: Vec<_> = (0..MAX_WATCHES).map(|_| recorder.watch()).collect();
        assert!(pages.iter().all(Option::is_some));
        assert!(recorder.watch().is_none());
        drop(pages);
        assert!(recorder.watch().is_some());
    }

    #[tokio::test]
    async fn a_text_is_cut_after_its_tokens_are_removed() {
        let recorder = Recorder::default();
        let mut page = recorder.watch().unwrap();
        let token = format!("eyJ{}.eyJ{}.sig", "a".repeat(3_000), "b".repeat(3_000));
        let text = format!("{}{token}é", "x".repeat(4_000));
        recorder.frame("a", Direction::In, &text);
        let batch = page.after(0).await;
        let Event::Frame {
            text: kept, bytes, ..
        } = &batch.records[0].event
        else {
            panic!("not a frame")
        };
        assert!(!kept.contains("aaa"), "{kept}");
        assert_eq!(*bytes, text.len());
        assert_eq!(super::kept(&"é".repeat(4_000)).len(), MAX_TEXT_BYTES);
        assert_eq!(
            super::kept(&format!("x{}", "é".repeat(4_000))).len(),
            MAX_TEXT_BYTES - 1
        );
    }

    #[test]
    fn a_log_has_no_metrics_and_no_token() {
        let tail =
            b"START\n{\"_aws\":{},\"N\":1}\nsaid eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln\nEND\n";
        assert_eq!(log(tail), "START\nsaid (token)\nEND\n");
    }

    #[test]
    fn a_result_is_a_status_or_an_error() {
        let outcome = |payload: &'static str, is_error| Outcome {
            payload: payload.into(),
            is_error,
            log_tail: bytes::Bytes::new(),
        };
        let json = |outcome| serde_json::to_value(result(&outcome)).unwrap();
        let returned = json(outcome(r#"{"statusCode":401}"#, false));
        assert_eq!(
            returned,
            serde_json::json!({"kind": "returned", "status": 401})
        );
        let failed = json(outcome(r#"{"errorType":"T","errorMessage":"m"}"#, true));
        assert_eq!(
            failed,
            serde_json::json!({"kind": "failed", "error": "T: m"})
        );
        let odd = json(outcome("[", true));
        assert_eq!(
            odd,
            serde_json::json!({"kind": "failed", "error": "Error: "})
        );
    }
}
