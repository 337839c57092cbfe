//! Which function a message goes to, and what comes back.

use serde_json::{Value, json};

use super::WebSocketApi;
use super::assumed::{REPLY_TOO_LARGE, THROTTLED};
use super::connection::Connection;
use super::event::{self, Event, Place};
use super::limits::MAX_MESSAGE_BYTES;
use crate::lambda::{Invocation, Outcome};

/// The routes of a connection's life, which no message can choose.
pub(super) const CONNECT: &str = "$connect";
pub(super) const DISCONNECT: &str = "$disconnect";

/// Where messages go whose key names no route.
const DEFAULT: &str = "$default";

/// What a Lambda proxy integration came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Integration {
    /// The function answered in the form that API Gateway expects.
    Answered(Answer),
    /// The function failed, or answered something else.
    Failed,
    /// Lambda did not run it.
    NotInvoked,
    /// The function took longer than API Gateway waits.
    TimedOut,
}

/// The answer of a function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl WebSocketApi {
    /// Runs the function of a route. `None` where there is no such route.
    pub(super) async fn integrate(&self, route_key: &str, event: &Event) -> Option<Integration> {
        let route = self.inner.api.routes.get(route_key)?;
        let invocation = Invocation::new(event.payload.clone());
        let invoked = self.inner.lambda.invoke(&route.function, invocation);
        Some(match tokio::time::timeout(route.timeout, invoked).await {
            Ok(Ok(outcome)) => read(&outcome),
            Ok(Err(refusal)) => {
                tracing::warn!(route = route_key, reason = %refusal, "the function was not invoked");
                Integration::NotInvoked
            }
            Err(_) => Integration::TimedOut,
        })
    }

    /// Handles a client's message and sends it what there is to send.
    pub(super) async fn dispatch(&self, connection: &Connection, place: &Place, body: &str) {
        let route_key = self.route_key(body);
        let event = Event::from(event::message(&connection.peer, place, &route_key, body));
        let error = |message| Some(error_frame(message, &connection.peer.id, &event.request_id));
        let reply = if self.inner.limits.requests.allows() {
            match self.integrate(&route_key, &event).await {
                None => error("Forbidden"),
                Some(Integration::Failed | Integration::NotInvoked) => {
                    error("Internal server error")
                }
                Some(Integration::TimedOut) => error("Endpoint request timed out"),
                Some(Integration::Answered(answer)) if self.answers(&route_key) => {
                    match answer.body {
                        Some(body) if body.len() > MAX_MESSAGE_BYTES => error(REPLY_TOO_LARGE),
                        body => body,
                    }
                }
                Some(Integration::Answered(_)) => None,
            }
        } else {
            error(THROTTLED)
        };
        if let Some(reply) = reply {
            connection.send(reply).await;
        }
    }

    fn answers(&self, route_key: &str) -> bool {
        self.inner
            .api
            .routes
            .get(route_key)
            .is_some_and(|route| route.answers)
    }

    /// The value at the selection expression where it names a route, else
    /// `$default`.
    fn route_key(&self, body: &str) -> String {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let selected = self
            .inner
            .api
            .selection
            .iter()
            .try_fold(&body, |value, name| value.get(name));
        let key = match selected {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => DEFAULT.into(),
        };
        let reachable =
            key != CONNECT && key != DISCONNECT && self.inner.api.routes.contains_key(&key);
        if reachable { key } else { DEFAULT.into() }
    }
}

/// Reads a function's answer: an object with a `statusCode`, or it is malformed.
fn read(outcome: &Outcome) -> Integration {
    if outcome.is_error {
        return Integration::Failed;
    }
    let value: Value = serde_json::from_slice(&outcome.payload).unwrap_or_default();
    let status = value.get("statusCode").and_then(|status| match status {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let Some(status) = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|s| (100..600).contains(s))
    else {
        return Integration::Failed;
    };
    let body = match value.get("body") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Integration::Failed,
    };
    let headers = value
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let headers =
        headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Integration::Answered(Answer {
        status,
        headers: headers.collect(),
        body,
    })
}

/// API Gateway's own error frame, to the space.
fn error_frame(message: &str, connection_id: &str, request_id: &str) -> String {
    format!(
        r#"{{"message": {}, "connectionId":{}, "requestId":{}}}"#,
        json!(message),
        json!(connection_id),
        json!(request_id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(payload: &str) -> Outcome {
        Outcome {
            payload: payload.to_owned().into(),
            is_error: false,
            log: bytes::Bytes::new(),
        }
    }

    #[test]
    fn only_the_form_of_a_proxy_integration_is_an_answer() {
        for malformed in [
            "",
            "null",
            "7",
            "\"x\"",
            "[1,2]",
            "{}",
            r#"{"statusCode":"x"}"#,
            r#"{"statusCode":99}"#,
            r#"{"statusCode":200,"body":{}}"#,
        ] {
            assert_eq!(
                read(&outcome(malformed)),
                Integration::Failed,
                "{malformed}"
            );
        }
        let Integration::Answered(answer) = read(&outcome(
            r#"{"statusCode":200,"headers":{"A":"b"},"body":"x"}"#,
        )) else {
            panic!("not an answer")
        };
        assert_eq!(
            answer,
            Answer {
                status: 200,
                headers: vec![("A".into(), "b".into())],
                body: Some("x".into())
            }
        );
        let failed = Outcome {
            is_error: true,
            ..outcome(r#"{"statusCode":200}"#)
        };
        assert_eq!(read(&failed), Integration::Failed);
    }

    #[test]
    fn the_error_frame_has_the_spacing_of_aws() {
        let frame = error_frame("Forbidden", "c=", "r=");
        assert_eq!(
            frame,
            r#"{"message": "Forbidden", "connectionId":"c=", "requestId":"r="}"#
        );
    }
}
