//! The formats that cross Belfry's edge: each has a JSON Schema in `schemas/`,
//! a parser or a serializer, and cases in `schemas/cases/` on which they agree.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use belfry_protocol::{
    BroadcastReport, BroadcastRequest, BroadcasterRequest, ChannelsFile, ClientFrame, HookEvent,
    InvalidRequest, MAX_FRAME_BYTES, OperatorReport, OperatorRequest, PresentInChannel,
    ReceiptsReport, ServerFrame, SweepReport, SweepRequest, schemas,
};
use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod advice;
mod hostile;
mod patterns;
mod schemas_and_cases;

/// A format with its schema, its cases and what Belfry does with a text.
#[derive(Debug)]
struct Format {
    schema: &'static str,
    cases: &'static str,
    /// The member that selects the type of a message.
    tag: Option<&'static str>,
    read: fn(&str) -> Outcome,
}

/// What Belfry does with a text.
enum Outcome {
    /// `accepted`, or the type of the frame.
    Accepted(&'static str),
    /// An error code and a message.
    Refused(&'static str, String),
}

const FORMATS: [Format; 15] = [
    Format {
        schema: "client-frame.json",
        cases: "client-frames.json",
        tag: Some("type"),
        read: client_frame,
    },
    Format {
        schema: "server-frame.json",
        cases: "server-frames.json",
        tag: Some("type"),
        read: server_frame,
    },
    Format {
        schema: "broadcast-request.json",
        cases: "broadcast-requests.json",
        tag: None,
        read: |text| request(BroadcastRequest::parse(text)),
    },
    Format {
        schema: "broadcast-inquiry.json",
        cases: "broadcast-inquiries.json",
        tag: Some("action"),
        read: |text| request(BroadcasterRequest::parse(text)),
    },
    Format {
        schema: "broadcast-report.json",
        cases: "broadcast-reports.json",
        tag: None,
        read: |text| written(text, |report: BroadcastReport| report),
    },
    Format {
        schema: "receipts-request.json",
        cases: "receipts-requests.json",
        tag: None,
        read: |text| request(BroadcasterRequest::parse(text)),
    },
    Format {
        schema: "receipts-report.json",
        cases: "receipts-reports.json",
        tag: None,
        read: |text| written(text, |report: ReceiptsReport| report),
    },
    Format {
        schema: "presence-request.json",
        cases: "presence-requests.json",
        tag: None,
        read: |text| request(BroadcasterRequest::parse(text)),
    },
    Format {
        schema: "presence-report.json",
        cases: "presence-reports.json",
        tag: None,
        read: |text| written(text, |report: PresentInChannel| report),
    },
    Format {
        schema: "sweep-request.json",
        cases: "sweep-requests.json",
        tag: Some("action"),
        read: |text| request(SweepRequest::parse(text)),
    },
    Format {
        schema: "sweep-report.json",
        cases: "sweep-reports.json",
        tag: None,
        read: |text| written(text, |report: SweepReport| report),
    },
    Format {
        schema: "operator-request.json",
        cases: "operator-requests.json",
        tag: Some("action"),
        read: |text| request(OperatorRequest::parse(text)),
    },
    Format {
        schema: "operator-report.json",
        cases: "operator-reports.json",
        tag: None,
        read: |text| written(text, |report: OperatorReport| report),
    },
    Format {
        schema: "hook-event.json",
        cases: "hook-events.json",
        tag: Some("type"),
        read: hook_event,
    },
    Format {
        schema: "channels.json",
        cases: "channels.json",
        tag: None,
        read: channels_file,
    },
];

fn client_frame(text: &str) -> Outcome {
    match ClientFrame::parse(text, MAX_FRAME_BYTES) {
        Ok(frame) => Outcome::Accepted(frame.type_name()),
        Err(refused) => Outcome::Refused(refused.code.as_str(), refused.message),
    }
}

fn server_frame(text: &str) -> Outcome {
    let outcome = written(text, |frame: ServerFrame| frame);
    if let (Ok(frame), Outcome::Accepted(_)) = (serde_json::from_str::<ServerFrame>(text), &outcome)
    {
        assert_eq!(frame.to_json(), text);
    }
    outcome
}

fn hook_event(text: &str) -> Outcome {
    let outcome = written(text, |event: HookEvent| event);
    if let (Ok(event), Outcome::Accepted(_)) = (serde_json::from_str::<HookEvent>(text), &outcome) {
        assert_eq!(event.to_json(), text);
    }
    outcome
}

fn channels_file(text: &str) -> Outcome {
    match ChannelsFile::parse(text) {
        Ok(file) => {
            let again = ChannelsFile::parse(&file.minified()).map(|file| file.minified());
            assert_eq!(again, Ok(file.minified()));
            Outcome::Accepted("accepted")
        }
        Err(error) => Outcome::Refused("InvalidChannelRules", error.to_string()),
    }
}

fn request<T>(parsed: Result<T, InvalidRequest>) -> Outcome {
    match parsed {
        Ok(_) => Outcome::Accepted("accepted"),
        Err(error) => Outcome::Refused("InvalidRequest", error.to_string()),
    }
}

/// Accepts a text if it is exactly the text that Belfry writes for some value.
fn written<T: DeserializeOwned, W: Serialize>(text: &str, wrap: impl FnOnce(T) -> W) -> Outcome {
    let refused = |why: &dyn Display| Outcome::Refused("refused", why.to_string());
    match serde_json::from_str(text) {
        Ok(value) => match serde_json::to_string(&wrap(value)) {
            Ok(written) if written == text => Outcome::Accepted("accepted"),
            other => refused(&format_args!("Belfry writes {other:?}")),
        },
        Err(error) => refused(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    /// `accepted` or the type of the frame; `refused` or an error code.
    expect: String,
    /// What the error message must contain.
    names: Option<String>,
    /// `cannot tell` if no schema can express the rule.
    schema: Option<String>,
    /// `false` if readers must accept the text although Belfry never writes it.
    written: Option<bool>,
}

impl Format {
    fn cases(&self) -> Vec<Case> {
        let path = folder().join("cases").join(self.cases);
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn validator(&self) -> Validator {
        jsonschema::validator_for(&self.schema()).unwrap()
    }

    fn schema(&self) -> Value {
        let mut all = schemas::all().into_iter();
        let (_, schema) = all.find(|(name, _)| *name == self.schema).unwrap();
        schema
    }
}

impl Case {
    /// The text without its byte-order mark, for parsers that know none.
    fn json(&self) -> &str {
        self.text.strip_prefix('\u{feff}').unwrap_or(&self.text)
    }

    fn is_refused(&self) -> bool {
        self.expect == "refused" || self.expect.starts_with(|c: char| c.is_ascii_uppercase())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}
