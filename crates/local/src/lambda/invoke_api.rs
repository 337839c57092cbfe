//! Lambda's `Invoke` API, for AWS SDKs.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client_context::{ClientContext, InvalidContext};
use super::function_name::UnresolvedName;
use super::{Invocation, Lambda, NotInvoked, trace};
use crate::ids;

/// Lambda's limit for a synchronous payload, in bytes.
const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;

/// Lambda's limit for an asynchronous payload, in bytes. AWS has since raised
/// it, but this much works everywhere.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The most that is read of a request. A refusal before the end of the request
/// would reach the client as a connection reset.
const MAX_READ_BYTES: usize = 16 * 1024 * 1024;

const NOT_FOUND: &str = "ResourceNotFoundException";

pub(crate) fn router(lambda: Lambda) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .layer(DefaultBodyLimit::max(MAX_READ_BYTES))
        .with_state(lambda)
}

#[derive(Deserialize)]
struct InvokeQuery {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

enum InvokeError {
    Unresolved(UnresolvedName),
    NotInvoked(NotInvoked),
    TooLarge {
        invocation_type: &'static str,
        limit: usize,
    },
    InvalidJson,
    InvalidType(String),
    InvalidContext(InvalidContext),
    Recursive,
}

async fn invoke(
    State(lambda): State<Lambda>,
    Path(function_name): Path<String>,
    Query(query): Query<InvokeQuery>,
    headers: HeaderMap,
    payload: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    let name = lambda.resolve(&function_name, query.qualifier.as_deref());
    match try_invoke(&lambda, name, &headers, payload).await {
        Ok(response) => response,
        Err(error) => error.response(),
    }
}

async fn try_invoke(
    lambda: &Lambda,
    name: Result<&str, UnresolvedName>,
    headers: &HeaderMap,
    payload: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, InvokeError> {
    let name = name.map_err(InvokeError::Unresolved)?;
    let too_large = || InvokeError::TooLarge {
        invocation_type: "RequestResponse",
        limit: MAX_REQUEST_BYTES,
    };
    let payload = payload.map_err(|_| too_large())?;
    if payload.len() > MAX_REQUEST_BYTES {
        return Err(too_large());
    }
    let payload = json_payload(payload)?;
    let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let trace = trace::next(header("X-Amzn-Trace-Id")).map_err(|_| InvokeError::Recursive)?;
    let request_id = ids::uuid();
    let client_context = header("X-Amz-Client-Context")
        .map(ClientContext::parse)
        .transpose()
        .map_err(InvokeError::InvalidContext)?;
    let invocation = Invocation {
        client_context,
        ..Invocation::identified(request_id.clone(), trace, payload)
    };
    match header("X-Amz-Invocation-Type") {
        None | Some("RequestResponse") => {
            let outcome = lambda.invoke(name, invocation).await;
            let outcome = outcome.map_err(InvokeError::NotInvoked)?;
            let mut response = respond(StatusCode::OK, &request_id, outcome.payload);
            let headers = response.headers_mut();
            if outcome.is_error {
                headers.insert(
                    "X-Amz-Function-Error",
                    HeaderValue::from_static("Unhandled"),
                );
            }
            if header("X-Amz-Log-Type") == Some("Tail") {
                let log = HeaderValue::try_from(STANDARD.encode(outcome.log_tail));
                headers.extend(
                    log.map(|log| (http::HeaderName::from_static("x-amz-log-result"), log)),
                );
            }
            Ok(response)
        }
        Some("Event") => {
            let invocation = Invocation {
                // Lambda passes it on in synchronous invocations only.
                client_context: None,
                ..invocation
            };
            if invocation.payload.len() > MAX_EVENT_BYTES {
                return Err(InvokeError::TooLarge {
                    invocation_type: "Event",
                    limit: MAX_EVENT_BYTES,
                });
            }
            let accepted = lambda.invoke_later(name, invocation);
            accepted.map_err(InvokeError::NotInvoked)?;
            Ok(respond(StatusCode::ACCEPTED, &request_id, Bytes::new()))
        }
        Some("DryRun") => Ok(respond(StatusCode::NO_CONTENT, &request_id, Bytes::new())),
        Some(other) => Err(InvokeError::InvalidType(other.to_owned())),
    }
}

/// Checks that the payload is JSON. An empty payload means `{}`.
fn json_payload(payload: Bytes) -> Result<Bytes, InvokeError> {
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let text = std::str::from_utf8(&payload).map_err(|_| InvokeError::InvalidJson)?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| InvokeError::InvalidJson)?;
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

impl InvokeError {
    /// Lambda's status, error type and body.
    fn response(self) -> Response<Body> {
        let user_error = |message: String| json!({"Type": "User", "Message": message});
        let (status, kind, body): (_, _, Value) = match self {
            Self::Unresolved(mismatch @ UnresolvedName::OtherQualifier) => (
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                user_error(mismatch.to_string()),
            ),
            Self::Unresolved(unknown) => (
                StatusCode::NOT_FOUND,
                NOT_FOUND,
                user_error(unknown.to_string()),
            ),
            Self::NotInvoked(unknown @ NotInvoked::Unknown(_)) => (
                StatusCode::NOT_FOUND,
                NOT_FOUND,
                user_error(unknown.to_string()),
            ),
            Self::NotInvoked(throttled @ NotInvoked::Throttled { reserved }) => {
                let reason = NotInvoked::throttle_reason(reserved);
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
            Self::TooLarge {
                invocation_type,
                limit,
            } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                user_error(format!(
                    "the payload is too large for the {invocation_type} invocation type (limit {limit} bytes)"
                )),
            ),
            Self::InvalidJson => (
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                user_error("Could not parse request body into json".into()),
            ),
            Self::InvalidType(given) => (
                StatusCode::BAD_REQUEST,
                "InvalidParameterValueException",
                user_error(format!(
                    "invocation type {given:?} is not one of RequestResponse, Event, DryRun"
                )),
            ),
            Self::InvalidContext(invalid) => (
                StatusCode::BAD_REQUEST,
                "InvalidRequestContentException",
                user_error(invalid.to_string()),
            ),
            Self::Recursive => (
                StatusCode::BAD_REQUEST,
                "RecursiveInvocationException",
                user_error("too many functions invoked each other in a chain".into()),
            ),
        };
        let mut response = respond(status, &ids::uuid(), body.to_string().into());
        response
            .headers_mut()
            .insert("X-Amzn-ErrorType", HeaderValue::from_static(kind));
        response
    }
}
