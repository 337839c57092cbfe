//! What is recorded of a frame, a connection or an invocation, as the page gets
//! it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::redact::{redact_frame, redact_text};
use crate::lambda::{Outcome, is_metrics};

/// Bytes that are kept of a frame, a log or an error.
const MAX_TEXT_BYTES: usize = 4 * 1024;

/// The largest output in which a status is looked for.
const MAX_PARSED_BYTES: usize = 64 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) number: u64,
    #[serde(rename = "atMs")]
    pub(super) at_ms: u64,
    #[serde(flatten)]
    pub(super) event: Event,
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
pub(super) enum Event {
    Connected {
        connection: String,
    },
    Disconnected {
        connection: String,
        code: u16,
        reason: String,
    },
    /// A handshake that `$connect` refused.
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
        /// What the label of a frame is made of whose text is cut.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<Value>,
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
pub(super) enum InvocationResult {
    /// With the HTTP status that the function returned, if it did.
    Returned {
        status: Option<u64>,
    },
    Failed {
        error: String,
    },
}

impl Event {
    pub(super) fn disconnected(connection: &str, code: u16, reason: &str) -> Self {
        Self::Disconnected {
            connection: connection.to_owned(),
            code,
            reason: kept(&redact_text(reason)),
        }
    }

    pub(super) fn frame(connection: &str, direction: Direction, text: &str) -> Self {
        Self::Frame {
            connection: connection.to_owned(),
            direction,
            text: kept(&redact_frame(text)),
            bytes: text.len(),
            label: (text.len() > MAX_TEXT_BYTES).then(|| label(text)).flatten(),
        }
    }

    pub(super) fn invocation(
        function: &str,
        request_id: &str,
        duration: Duration,
        outcome: &Outcome,
    ) -> Self {
        Self::Invocation {
            function: function.to_owned(),
            request_id: request_id.to_owned(),
            duration_ms: duration.as_secs_f64() * 1_000.0,
            result: result(outcome),
            log: log(&outcome.log_tail),
        }
    }
}

/// The parts of a frame that tell what it is. `None` if it is not JSON.
fn label(text: &str) -> Option<Value> {
    let frame: Value = serde_json::from_str(&redact_frame(text)).ok()?;
    let part = |pointer| Some(kept(frame.pointer(pointer)?.as_str()?));
    Some(json!({"type": part("/type"), "data": {"kind": part("/data/kind")}}))
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

/// A log without its metrics, which nobody reads, and without a line whose
/// beginning is missing: it might have the end of a token.
fn log(tail: &[u8]) -> String {
    let is_whole = tail.starts_with(b"START ");
    let lines = tail.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.skip(usize::from(!is_whole));
    let lines: Vec<_> = lines.filter(|line| !is_metrics(line)).collect();
    kept(&redact_text(&String::from_utf8_lossy(&lines.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_after_its_tokens_are_removed() {
        let token = format!("eyJ{}.eyJ{}.sig", "a".repeat(3_000), "b".repeat(3_000));
        let text = format!("{}{token}é", "x".repeat(4_000));
        let Event::Frame {
            text: shown, bytes, ..
        } = Event::frame("a", Direction::In, &text)
        else {
            panic!("not a frame")
        };
        assert!(!shown.contains("aaa"), "{shown}");
        assert_eq!(bytes, text.len());
        assert_eq!(kept(&"é".repeat(4_000)).len(), MAX_TEXT_BYTES);
        let odd = format!("x{}", "é".repeat(4_000));
        assert_eq!(kept(&odd).len(), MAX_TEXT_BYTES - 1);
    }

    #[test]
    fn a_frame_that_is_cut_has_a_label() {
        let frame = |length: usize| {
            let text = json!({
                "type": "message",
                "channel": "room:7",
                "data": {"kind": "chat", "data": {"text": "x".repeat(length)}},
            });
            let event = Event::frame("a", Direction::Out, &text.to_string());
            serde_json::to_value(event).unwrap()
        };
        assert_eq!(frame(100).get("label"), None, "the page reads it");
        let label = json!({"type": "message", "data": {"kind": "chat"}});
        assert_eq!(frame(5_000)["label"], label);
    }

    #[test]
    fn a_log_has_no_metrics_and_no_token() {
        let tail =
            b"START 1\n{\"_aws\":{},\"N\":1}\nsaid eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln\nEND\n";
        assert_eq!(log(tail), "START 1\nsaid (token)\nEND\n");
        let cut = &tail[tail.len() - 20..];
        assert_eq!(log(cut), "END\n", "not the end of the token");
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
        assert_eq!(returned, json!({"kind": "returned", "status": 401}));
        let failed = json(outcome(r#"{"errorType":"T","errorMessage":"m"}"#, true));
        assert_eq!(failed, json!({"kind": "failed", "error": "T: m"}));
        let odd = json(outcome("[", true));
        assert_eq!(odd, json!({"kind": "failed", "error": "Error: "}));
    }
}
