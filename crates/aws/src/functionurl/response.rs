use aws_lambda_events::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
    HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use aws_lambda_events::http::{HeaderMap, StatusCode};
use belfry_core::UnixMillis;
use belfry_core::reader::Refusal;
use belfry_protocol::{ErrorCode, Refused};
use serde::Serialize;

use super::Problem;

/// How long a browser remembers that a page may send requests.
const PREFLIGHT_SECONDS: &str = "600";

/// How long a caller waits before it tries again, unless something says more.
const RETRY_SECONDS: u64 = 1;

/// The status and the headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Head {
    fn new(status: StatusCode, content_type: &'static str) -> Self {
        let headers = [
            (CONTENT_TYPE, content_type),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        Self {
            status,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, HeaderValue::from_static(value)))
                .collect(),
        }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }
}

/// Lets pages of an origin that is allowed read the answer, and says that the
/// answer depends on the origin.
pub fn cors(head: &mut Head, origin: Option<&str>) {
    head.headers
        .insert(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin).ok()) else {
        return;
    };
    head.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static("Retry-After");
    head.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// The answer to a preflight. It has a body since an empty one after the head
/// of a stream has hung on AWS.
#[must_use]
pub fn preflight() -> (Head, String) {
    let head = Head::new(StatusCode::OK, "text/plain")
        .with(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST")
        .with(
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Last-Event-ID",
        )
        .with(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    (head, "\n".into())
}

/// The head of a stream of Server-Sent Events (HTML standard, 9.2). No proxy
/// may hold it back or change it.
#[must_use]
pub fn streaming() -> Head {
    Head::new(StatusCode::OK, "text/event-stream")
        .with(CACHE_CONTROL, "no-store, no-transform")
        .with(HeaderName::from_static("x-accel-buffering"), "no")
}

/// An answer with this content.
#[must_use]
pub fn to_json(content: &impl Serialize) -> (Head, String) {
    let head = Head::new(StatusCode::OK, "application/json");
    let body = serde_json::to_string(content).unwrap_or_default();
    (head, body)
}

/// The answer to a request that asks for nothing that is served.
#[must_use]
pub fn problem(problem: Problem, now: UnixMillis) -> (Head, String) {
    let not_served = |status, message: &str| {
        let refused = Refused::new(ErrorCode::InvalidMessage, message);
        error(status, refused, now)
    };
    match problem {
        Problem::Refused(refused) => refused_with(refused, now),
        Problem::NotFound => not_served(
            StatusCode::NOT_FOUND,
            "GET /events, GET /messages and POST /messages are served here",
        ),
        Problem::Method(methods) => {
            let (head, body) = not_served(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not serve this method; Allow says which",
            );
            (head.with(ALLOW, methods), body)
        }
    }
}

/// The answer to a request that is refused.
#[must_use]
pub fn refused(refusal: Refusal, now: UnixMillis) -> (Head, String) {
    refused_with(refusal.into_refused(), now)
}

fn refused_with(refused: Refused, now: UnixMillis) -> (Head, String) {
    error(status(refused.code), refused, now)
}

/// The status that stands for a code.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidMessage
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UnknownType
        | ErrorCode::TooManyChannels
        | ErrorCode::TooManyLocks => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired | ErrorCode::SignedOut => {
            StatusCode::UNAUTHORIZED
        }
        ErrorCode::Forbidden | ErrorCode::ClosedByOperator => StatusCode::FORBIDDEN,
        ErrorCode::Locked => StatusCode::CONFLICT,
        ErrorCode::UnknownConnection => StatusCode::GONE,
        ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::CallFailed => StatusCode::BAD_GATEWAY,
        ErrorCode::ChannelBusy | ErrorCode::Reconnect | ErrorCode::Internal => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn error(status: StatusCode, refused: Refused, now: UnixMillis) -> (Head, String) {
    let mut head = Head::new(status, "application/json");
    if status == StatusCode::UNAUTHORIZED {
        // RFC 6750, section 3.
        head = head.with(WWW_AUTHENTICATE, "Bearer");
    }
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        let seconds = refused
            .retry_after_ms
            .map_or(RETRY_SECONDS, |ms| ms.div_ceil(1_000));
        head.headers.insert(RETRY_AFTER, seconds.into());
    }
    (head, refused.into_frame(now.to_timestamp()).to_json())
}
