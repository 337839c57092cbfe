//! The work of a function: its calls, its log lines and its answers. A benchmark
//! compares the work of two functions before it compares their cost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::clock::unix_time;
use crate::function::Function;
use crate::patience::http;

const DYNAMODB: &str = "AWS_ENDPOINT_URL_DYNAMODB";
const MANAGEMENT: &str = "WEBSOCKET_API_ENDPOINT";

/// Members of log lines that measure time.
const DURATIONS: [&str; 3] = ["durationMs", "BroadcastDuration", "PostLatency"];

/// How far apart two functions may be when both read the clock.
const APART_SECONDS: u64 = 60;

/// What a function did with some events.
#[derive(Debug, Clone)]
pub struct Work {
    calls: Vec<Call>,
    lines: Vec<Value>,
    answers: Vec<Value>,
    /// In seconds. Times from then on may differ a little.
    begun: u64,
}

/// A call to DynamoDB or to the management API, and its answer.
#[derive(Debug, Clone)]
struct Call {
    request: Value,
    status: StatusCode,
    content_type: String,
    answer: Bytes,
}

impl Work {
    /// Runs a function on some events, with its environment variables, and
    /// records what it does.
    ///
    /// # Panics
    /// If the function fails, or an API does not answer.
    pub async fn record(
        command: Command,
        variables: &[(&'static str, String)],
        events: &[Value],
    ) -> Self {
        let address = |name| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            variable.expect("an address").1.clone()
        };
        let apis = Apis::Real {
            dynamodb: address(DYNAMODB),
            management: address(MANAGEMENT),
        };
        Self::run(apis, command, variables, events).await
    }

    /// Runs another function on the same events. Its calls get the recorded
    /// answers, in their order, so both functions see the same tables.
    ///
    /// # Panics
    /// If the function fails.
    pub async fn replay(
        &self,
        command: Command,
        variables: &[(&'static str, String)],
        events: &[Value],
    ) -> Self {
        let apis = Apis::Recorded(self.calls.clone().into());
        Self::run(apis, command, variables, events).await
    }

    /// Where the work of another function first differs, except for the times
    /// that it read and for random ids.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let requests = |work: &Self| work.calls.iter().map(|call| call.request.clone()).collect();
        let parts = |work: &Self| {
            let (lines, answers) = (work.lines.clone(), work.answers.clone());
            json!({"calls": Value::Array(requests(work)), "lines": lines, "answers": answers})
        };
        difference("", &parts(self), &parts(other), self.begun)
    }

    async fn run(
        apis: Apis,
        command: Command,
        variables: &[(&'static str, String)],
        events: &[Value],
    ) -> Self {
        let begun = unix_time().as_secs();
        let recorder = Recorder::start(apis).await;
        let mut variables = variables.to_vec();
        for (name, value) in &mut variables {
            match *name {
                DYNAMODB => value.clone_from(&recorder.url),
                MANAGEMENT => *value = format!("{}/dev", recorder.url),
                _ => {}
            }
        }
        let mut function = Function::start_logged(command, &variables).await;
        let mut answers = Vec::new();
        for event in events {
            let answer = function.invoke(event).await;
            let mut answer = answer.unwrap_or_else(|error| json!({"error": error}));
            // The frame that answers another one.
            let frame = answer.get("body").and_then(Value::as_str);
            if let Some(frame) = frame.and_then(|text| serde_json::from_str(text).ok()) {
                answer["body"] = frame;
            }
            answers.push(answer);
        }
        let text = function.stop().await;
        let lines = text.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not a log line: {line}"))
        });
        Self {
            lines: lines.collect(),
            calls: recorder.calls(),
            answers,
            begun,
        }
    }
}

/// Where calls get their answers.
enum Apis {
    Real {
        dynamodb: String,
        management: String,
    },
    Recorded(VecDeque<Call>),
}

/// Records calls to DynamoDB and to the management API, in one order.
struct Recorder {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Recording {
    apis: Arc<Mutex<Apis>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Recorder {
    async fn start(apis: Apis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let router = Router::new().fallback(take).with_state(Recording {
            apis: Arc::new(apis.into()),
            calls: Arc::clone(&calls),
        });
        let serving = tokio::spawn(async { axum::serve(listener, router).await.expect("serves") });
        Self {
            url: format!("http://{address}"),
            calls,
            serving,
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("nobody panics with it").clone()
    }
}

async fn take(State(recording): State<Recording>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a body");
    let target = head.headers.get("x-amz-target").cloned();
    let operation = match &target {
        Some(target) => target.to_str().expect("a text").to_owned(),
        // Not every SDK encodes the same characters.
        None => format!("{} {}", head.method, head.uri.path())
            .replace("%40", "@")
            .replace("%3D", "="),
    };
    let request = json!({
        "operation": operation,
        "body": serde_json::from_slice::<Value>(&body).unwrap_or_default(),
    });
    let source = match &mut *recording.apis.lock().expect("nobody panics with it") {
        Apis::Recorded(calls) => Err(calls.pop_front()),
        Apis::Real { dynamodb, .. } if target.is_some() => Ok(dynamodb.clone()),
        Apis::Real { management, .. } => {
            let path = head.uri.path().strip_prefix("/dev").expect("the stage");
            Ok(format!("{management}{path}"))
        }
    };
    let call = match source {
        Ok(url) => pass(request, &url, head.headers, body).await,
        Err(Some(recorded)) => Call {
            request,
            ..recorded
        },
        // One call too many. A status that no SDK retries ends the event.
        Err(None) => Call {
            request,
            status: StatusCode::BAD_REQUEST,
            content_type: String::new(),
            answer: Bytes::new(),
        },
    };
    let answer = (
        call.status,
        [("content-type", call.content_type.clone())],
        call.answer.clone(),
    );
    let mut calls = recording.calls.lock().expect("nobody panics with it");
    calls.push(call);
    answer.into_response()
}

/// The local APIs do not check signatures, so the headers pass as they are.
async fn pass(request: Value, url: &str, mut headers: HeaderMap, body: Bytes) -> Call {
    headers.remove("host");
    let sent = http().post(url).headers(headers).body(body).send().await;
    let response = sent.expect("the API answers");
    let status = response.status();
    let content_type = response.headers().get("content-type");
    let content_type = content_type.and_then(|name| name.to_str().ok());
    Call {
        request,
        status,
        content_type: content_type.unwrap_or_default().to_owned(),
        answer: response.bytes().await.expect("a body"),
    }
}

/// Where two values first differ, except for times from `begun` on and for
/// random ids.
fn difference(path: &str, own: &Value, other: &Value, begun: u64) -> Option<String> {
    match (own, other) {
        (Value::Object(own), Value::Object(other)) => {
            let mut names = own.keys().chain(other.keys());
            names.find_map(|name| {
                let path = format!("{path}/{name}");
                match (own.get(name), other.get(name)) {
                    (Some(_), Some(_)) if DURATIONS.contains(&name.as_str()) => None,
                    (Some(own), Some(other)) => difference(&path, own, other, begun),
                    (own, other) => Some(differs(&path, &json!(own), &json!(other))),
                }
            })
        }
        (Value::Array(own), Value::Array(other)) if own.len() == other.len() => {
            let pairs = own.iter().zip(other).enumerate();
            let mut pairs = pairs.map(|(index, (own, other))| {
                difference(&format!("{path}/{index}"), own, other, begun)
            });
            pairs.find_map(|found| found)
        }
        _ if own == other || are_times(own, other, begun) || are_alike(own, other) => None,
        _ => Some(differs(path, own, other)),
    }
}

fn differs(path: &str, own: &Value, other: &Value) -> String {
    format!("{path}:\n  {own}\n  {other}")
}

/// Whether both are times that were read from the clock or follow from it.
fn are_times(own: &Value, other: &Value, begun: u64) -> bool {
    let (Some(own), Some(other)) = (seconds(own), seconds(other)) else {
        return false;
    };
    own >= begun && other >= begun && own.abs_diff(other) <= APART_SECONDS
}

/// A time in seconds. It may be given in milliseconds, as a number or as a text.
fn seconds(value: &Value) -> Option<u64> {
    /// In milliseconds this is a time of 1973.
    const LEAST_MILLIS: u64 = 100_000_000_000;
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => match text.parse::<jiff::Timestamp>() {
            Ok(time) => u64::try_from(time.as_millisecond()).ok()?,
            Err(_) => text.parse().ok()?,
        },
        _ => return None,
    };
    Some(if number >= LEAST_MILLIS {
        number / 1_000
    } else {
        number
    })
}

/// Whether both are random ids, or texts that differ only in their spaces.
fn are_alike(own: &Value, other: &Value) -> bool {
    let (Some(own), Some(other)) = (own.as_str(), other.as_str()) else {
        return false;
    };
    let is_random = |text: &str| {
        // A UUID of version 4.
        let hyphens = [8, 13, 18, 23].map(|at| text.as_bytes().get(at) == Some(&b'-'));
        text.len() == 36 && hyphens == [true; 4] && text.as_bytes()[14] == b'4'
    };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    is_random(own) && is_random(other) || words(own) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: u64 = 1_795_608_000;

    fn differ(own: &Value, other: &Value) -> bool {
        difference("", own, other, BEGUN).is_some()
    }

    #[test]
    fn only_times_that_were_read_may_differ() {
        for (own, other) in [
            (json!(BEGUN), json!(BEGUN + 60)),
            (json!(BEGUN * 1_000), json!(BEGUN * 1_000 + 60_999)),
            (json!(BEGUN.to_string()), json!((BEGUN + 1).to_string())),
            (
                json!("2026-11-25T12:00:00.000Z"),
                json!("2026-11-25T12:00:01.500Z"),
            ),
        ] {
            assert!(!differ(&own, &other), "{own} {other}");
        }
        for (own, other) in [
            (json!(BEGUN), json!(BEGUN + 61)),
            // Made from an event.
            (json!(BEGUN - 2), json!(BEGUN - 1)),
            (json!(BEGUN - 1), json!(BEGUN)),
            (json!(1), json!(2)),
            (json!("1"), json!(1)),
            (
                json!("2026-11-25T11:00:00.000Z"),
                json!("2026-11-25T11:00:00.001Z"),
            ),
        ] {
            assert!(differ(&own, &other), "{own} {other}");
        }
    }

    #[test]
    fn random_ids_spaces_and_durations_may_differ() {
        let own = json!({"id": "8b0f33a2-94f5-4a54-8eb5-6f2f4a4d3d0b", "text": "SET  a", "durationMs": 1});
        let other =
            json!({"id": "0d2c9b3e-6c46-4c86-a1f0-7d7b1c6e9a55", "text": "SET a", "durationMs": 2});
        assert!(!differ(&own, &other));
        // It is made of a name: version 5.
        let named = json!({"id": "8b0f33a2-94f5-5a54-8eb5-6f2f4a4d3d0b"});
        let other = json!({"id": "0d2c9b3e-6c46-5c86-a1f0-7d7b1c6e9a55"});
        assert!(differ(&named, &other));
    }

    #[test]
    fn a_member_or_an_element_more_is_a_difference() {
        for (own, other) in [
            (json!({"a": 1}), json!({"a": 1, "b": null})),
            (json!({"durationMs": 1}), json!({})),
            (json!([1]), json!([1, 2])),
            (json!([{"a": [1]}]), json!([{"a": [2]}])),
        ] {
            assert!(differ(&own, &other), "{own} {other}");
            assert!(differ(&other, &own), "{own} {other}");
        }
    }
}
