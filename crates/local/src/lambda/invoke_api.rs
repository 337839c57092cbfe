//! Lambda's `Invoke`, as every AWS SDK calls it.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Invocation, Lambda, NotInvoked, trace};
use crate::ids;

/// Lambda's limit for a synchronous request, in bytes.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;

/// Lambda's limit for an asynchronous one, in bytes. AWS has raised it since;
/// this much is certain everywhere.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// How much of a request is read: a refusal before the end of what a client
/// sends would reach it as a reset.
const MAX_READ_BYTES: usize = 16 * 1024 * 1024;

/// The routes of Lambda's API.
pub(crate) fn router(lambda: Lambda) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .layer(DefaultBodyLimit::max(MAX_READ_BYTES))
        .with_state(lambda)
}

/// Why a call is refused.
enum Refusal {
    NotInvoked(NotInvoked),
    /// For this type of invocation, which has this limit.
    TooLarge(&'static str, usize),
    NoJson,
    WrongType(String),
    Recursive,
}

async fn invoke(
    State(lambda): State<Lambda>,
    Path(name): Path<String>,
    headers: HeaderMap,
    payload: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    match try_invoke(&lambda, &name, &headers, payload).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn try_invoke(
    lambda: &Lambda,
    name: &str,
    headers: &HeaderMap,
    payload: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, Refusal> {
    lambda.find(name).map_err(Refusal::NotInvoked)?;
    let too_large = || Refusal::TooLarge("RequestResponse", MAX_REQUEST_BYTES);
    let payload = payload.map_err(|_| too_large())?;
    if payload.len() > MAX_REQUEST_BYTES {
        return Err(too_large());
    }
    let payload = json_payload(payload)?;
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let trace = trace::next(text("X-Amzn-Trace-Id")).map_err(|_| Refusal::Recursive)?;
    let request_id = ids::uuid();
    let invocation = Invocation {
        request_id: request_id.clone(),
        trace,
        payload,
    };
    match text("X-Amz-Invocation-Type") {
        None | Some("RequestResponse") => {
            let outcome = lambda.invoke(name, invocation).await;
            let outcome = outcome.map_err(Refusal::NotInvoked)?;
            let mut response = respond(StatusCode::OK, &request_id, outcome.payload);
            let answer = response.headers_mut();
            if outcome.is_error {
                answer.insert(
                    "X-Amz-Function-Error",
                    HeaderValue::from_static("Unhandled"),
                );
            }
            if text("X-Amz-Log-Type") == Some("Tail") {
                let log = HeaderValue::try_from(STANDARD.encode(outcome.log));
                answer.extend(
                    log.map(|log| (http::HeaderName::from_static("x-amz-log-result"), log)),
                );
            }
            Ok(response)
        }
        Some("Event") => {
            if invocation.payload.len() > MAX_EVENT_BYTES {
                return Err(Refusal::TooLarge("Event", MAX_EVENT_BYTES));
            }
            let taken = lambda.invoke_later(name, invocation);
            taken.map_err(Refusal::NotInvoked)?;
            Ok(respond(StatusCode::ACCEPTED, &request_id, Bytes::new()))
        }
        Some("DryRun") => Ok(respond(StatusCode::NO_CONTENT, &request_id, Bytes::new())),
        Some(other) => Err(Refusal::WrongType(other.to_owned())),
    }
}

/// The payload, which must be JSON. None at all stands for an empty object.
fn json_payload(payload: Bytes) -> Result<Bytes, Refusal> {
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let text = std::str::from_utf8(&payload).map_err(|_| Refusal::NoJson)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| Refusal::NoJson)?;
    Ok(payload)
}

fn respond(status: StatusCode, request_id: &str, payload: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(payload));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("Content-Type", HeaderValue::from_static("application/json"));
    headers.insert(
        "X-Amz-Executed-Version",
        HeaderValue::from_static("$LATEST"),
    );
    headers.extend(
        HeaderValue::try_from(request_id)
            .map(|id| (http::HeaderName::from_static("x-amzn-requestid"), id)),
    );
    response
}

impl Refusal {
    /// The status, `errortype` and body that Lambda's API has for it.
    fn response(self) -> Response<Body> {
        let user = |message: String| json!({"Type": "User", "Message": message});
        let (status, kind, body): (_, _, Value) = match self {
            Self::NotInvoked(unknown @ NotInvoked::Unknown(_)) => (
                StatusCode::NOT_FOUND,
                "ResourceNotFoundException",
                user(unknown.to_string()),
            ),
            Self::NotInvoked(throttled @ NotInvoked::Throttled { reserved }) => {
                let reason = if reserved {
                    "ReservedFunctionConcurrentInvocationLimitExceeded"
                } else {
                    "ConcurrentInvocationLimitExceeded"
                };
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    "TooManyRequestsException",
                    json!({"Reason": reason, "Type": "User", "message": throttled.to_string()}),
                )
            }
            Self::NotInvoked(stopping @ NotInvoked::Stopping) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceException",
                json!({"Type": "Service", "Message": stopping.to_string()}),
            ),
            Self::TooLarge(invocation, limit) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                user(format!(
                    "the payload is too large for the {invocation} invocation type (limit {limit} bytes)"
                )),
            ),
            Self::NoJson => (
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                user("Could not parse request body into json".into()),
            ),
            Self::WrongType(given) => (
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                user(format!(
                    "invocation type {given:?} is not one of RequestResponse, Event, DryRun"
                )),
            ),
            Self::Recursive => (
                StatusCode::BAD_REQUEST,
                "RecursiveInvocationException",
                user("functions have invoked each other too many times in a chain".into()),
            ),
        };
        let mut response = respond(status, &ids::uuid(), body.to_string().into());
        response
            .headers_mut()
            .insert("X-Amzn-ErrorType", HeaderValue::from_static(kind));
        response
    }
}
