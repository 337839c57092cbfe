//! Routes: which function handles a message, and which reply the client gets.

use std::time::Duration;

use futures_util::future::OptionFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::WebSocketApi;
use super::assumed::{REPLY_TOO_LARGE, THROTTLED};
use super::connection::Connection;
use super::event::{self, ApiEndpoint, GatewayEvent};
use super::limits::MAX_MESSAGE_BYTES;
use crate::lambda::{Invocation, Outcome};

/// The routes that no message can select.
pub(super) const CONNECT: &str = "$connect";
pub(super) const DISCONNECT: &str = "$disconnect";

/// The route for messages that select no other.
const DEFAULT: &str = "$default";

/// How long a handshake or a message may wait for an environment. AWS has many
/// more of them, and refuses at once what is beyond its limits. If all waited for
/// longer than their clients do, whatever is done would be for nothing.
const QUEUED: Duration = Duration::from_secs(5);

/// The result of a Lambda proxy integration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IntegrationResult {
    Response(ProxyResponse),
    /// The function failed, or its response is malformed.
    Failed,
    NotInvoked,
    /// The function exceeded the integration timeout.
    TimedOut,
}

/// A function's response in the form that API Gateway expects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyResponse {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl WebSocketApi {
    /// Runs a route's function. `None` if there is no such route. Of the events
    /// that share a queue, only one at a time waits among everybody's.
    pub(super) async fn invoke_route(
        &self,
        route_key: &str,
        event: &GatewayEvent,
        queue: Option<&Mutex<()>>,
    ) -> Option<IntegrationResult> {
        let route = self.inner.api.routes.get(route_key)?;
        let not_invoked = |reason: &str| {
            tracing::warn!(route = route_key, reason, "the function was not invoked");
            Some(IntegrationResult::NotInvoked)
        };
        let now = Instant::now();
        let end = now + route.timeout;
        let end_of_queue = match route_key {
            DISCONNECT => end,
            _ => end.min(now + QUEUED),
        };
        let turn = async {
            let _first = OptionFuture::from(queue.map(Mutex::lock)).await;
            self.inner.lambda.turn(&route.function).await
        };
        let turn = match timeout_at(end_of_queue, turn).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(error)) => return not_invoked(&error.to_string()),
            Err(_) if end_of_queue == end => return Some(IntegrationResult::TimedOut),
            Err(_) => {
                return not_invoked("all its environments are busy; --environments allows more");
            }
        };
        let invocation = Invocation::new(event.payload.clone());
        match timeout_at(end, turn.invoke(invocation)).await {
            Ok(Ok(outcome)) => Some(parse(&outcome)),
            Ok(Err(error)) => not_invoked(&error.to_string()),
            Err(_) => Some(IntegrationResult::TimedOut),
        }
    }

    /// Handles a client's message and sends the reply, if any.
    pub(super) async fn dispatch(
        &self,
        connection: &Connection,
        endpoint: &ApiEndpoint,
        body: &str,
    ) {
        let route_key = self.route_key(body);
        let event =
            GatewayEvent::from(event::message(&connection.peer, endpoint, &route_key, body));
        let error = |message| Some(error_frame(message, &connection.peer.id, &event.request_id));
        let reply = if self.inner.limits.requests.allows() {
            match self
                .invoke_route(&route_key, &event, Some(&connection.queue))
                .await
            {
                None => error("Forbidden"),
                Some(IntegrationResult::Failed | IntegrationResult::NotInvoked) => {
                    error("Internal server error")
                }
                Some(IntegrationResult::TimedOut) => error("Endpoint request timed out"),
                Some(IntegrationResult::Response(response)) if self.is_two_way(&route_key) => {
                    match response.body {
                        Some(body) if body.len() > MAX_MESSAGE_BYTES => error(REPLY_TOO_LARGE),
                        body => body,
                    }
                }
                Some(IntegrationResult::Response(_)) => None,
            }
        } else {
            error(THROTTLED)
        };
        if let Some(reply) = reply {
            connection.send(reply).await;
        }
    }

    fn is_two_way(&self, route_key: &str) -> bool {
        self.inner
            .api
            .routes
            .get(route_key)
            .is_some_and(|route| route.two_way)
    }

    /// The value at the selection expression if it names a route, else `$default`.
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
        let selectable =
            key != CONNECT && key != DISCONNECT && self.inner.api.routes.contains_key(&key);
        if selectable { key } else { DEFAULT.into() }
    }
}

/// Parses a function's response. Without a `statusCode` it is malformed.
fn parse(outcome: &Outcome) -> IntegrationResult {
    if outcome.is_error {
        return IntegrationResult::Failed;
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
        return IntegrationResult::Failed;
    };
    let body = match value.get("body") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return IntegrationResult::Failed,
    };
    let headers = value
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let headers =
        headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    IntegrationResult::Response(ProxyResponse {
        status,
        headers: headers.collect(),
        body,
    })
}

/// API Gateway's own error frame, with its exact spacing.
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
            log_tail: bytes::Bytes::new(),
        }
    }

    #[test]
    fn a_response_must_have_the_form_of_a_proxy_integration() {
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
                parse(&outcome(malformed)),
                IntegrationResult::Failed,
                "{malformed}"
            );
        }
        let IntegrationResult::Response(response) = parse(&outcome(
            r#"{"statusCode":200,"headers":{"A":"b"},"body":"x"}"#,
        )) else {
            panic!("not a response")
        };
        assert_eq!(
            response,
            ProxyResponse {
                status: 200,
                headers: vec![("A".into(), "b".into())],
                body: Some("x".into())
            }
        );
        let failed = Outcome {
            is_error: true,
            ..outcome(r#"{"statusCode":200}"#)
        };
        assert_eq!(parse(&failed), IntegrationResult::Failed);
    }

    #[test]
    fn an_error_frame_has_awss_spacing() {
        let frame = error_frame("Forbidden", "c=", "r=");
        assert_eq!(
            frame,
            r#"{"message": "Forbidden", "connectionId":"c=", "requestId":"r="}"#
        );
    }
}
