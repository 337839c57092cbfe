//! Lambda's `Invoke`, as every AWS SDK calls it.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde_json::json;

use super::Lambda;
use crate::ids;

/// Lambda's limit for a request, in bytes.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;

/// The routes of Lambda's API.
pub(crate) fn router(lambda: Lambda) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(lambda)
}

async fn invoke(
    State(lambda): State<Lambda>,
    Path(name): Path<String>,
    headers: HeaderMap,
    payload: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    let Some(function) = lambda.find(&name) else {
        let known: Vec<_> = lambda.functions.keys().map(String::as_str).collect();
        let message = format!(
            "Function not found: {name} (this stack has {})",
            known.join(", ")
        );
        return refusal(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    };
    let Ok(payload) = payload else {
        let message = format!(
            "Request must be smaller than {MAX_REQUEST_BYTES} bytes for the InvokeFunction operation"
        );
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeException",
            &message,
        );
    };
    // Lambda takes no payload for an empty object.
    let payload = if payload.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        payload
    };
    let text = std::str::from_utf8(&payload).ok();
    if text.is_none_or(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()) {
        let message = "Could not parse request body into json";
        return refusal(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            message,
        );
    }
    let name = function.spec.name.clone();
    match headers
        .get("X-Amz-Invocation-Type")
        .map(|value| value.to_str().unwrap_or_default())
    {
        None | Some("RequestResponse") => {
            let outcome = lambda.invoke(&name, payload).await;
            let mut response = respond(StatusCode::OK, outcome.payload);
            if outcome.is_error {
                response.headers_mut().insert(
                    "X-Amz-Function-Error",
                    http::HeaderValue::from_static("Unhandled"),
                );
            }
            response
        }
        Some("Event") => {
            tokio::spawn(async move {
                let outcome = lambda.invoke(&name, payload).await;
                if outcome.is_error {
                    tracing::error!(function = name, "an asynchronous invocation failed");
                }
            });
            respond(StatusCode::ACCEPTED, Bytes::new())
        }
        Some(other) => {
            let message = format!("invocation type {other:?} is not one of RequestResponse, Event");
            refusal(
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                &message,
            )
        }
    }
}

fn respond(status: StatusCode, payload: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(payload));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        "Content-Type",
        http::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        "X-Amz-Executed-Version",
        http::HeaderValue::from_static("$LATEST"),
    );
    if let Ok(id) = ids::uuid().parse() {
        headers.insert("X-Amzn-RequestId", id);
    }
    response
}

fn refusal(status: StatusCode, error_type: &'static str, message: &str) -> Response<Body> {
    let mut response = respond(
        status,
        json!({"Type": "User", "Message": message})
            .to_string()
            .into(),
    );
    response.headers_mut().insert(
        "X-Amzn-ErrorType",
        http::HeaderValue::from_static(error_type),
    );
    response
}
