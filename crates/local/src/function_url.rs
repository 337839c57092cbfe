//! Function URLs: each function with a `FunctionUrlConfig` has an HTTP address of
//! its own.

mod assumed;
mod cors;
mod event;
mod response;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::ids;
use crate::lambda::{Invocation, Lambda, NotInvoked, Outcome, ResponseStream, StreamCut, Streamed};
use crate::rate_limiter::RateLimiter;
use crate::server::ClientInfo;
use crate::template::{FunctionSpec, FunctionUrlSpec, InvokeMode, UrlAuth};
use event::Arrival;
use response::{Malformed, Prelude};

/// Lambda's limit for an event, in bytes.
const MAX_EVENT_BYTES: usize = 6 * 1024 * 1024;

/// The most that is read of a request. A refusal before the end of the request
/// would reach the client as a connection reset.
const MAX_READ_BYTES: usize = 16 * 1024 * 1024;

/// Requests a second for each reserved concurrent execution ("Throttling function
/// URLs" in the Lambda developer guide).
const RATE_PER_EXECUTION: usize = 10;

/// Lambda's name for that limit.
const RATE_LIMIT: &str = "ReservedFunctionInvocationRateLimitExceeded";

/// The content type of a streamed response that begins with a prelude.
const INTEGRATION_RESPONSE: &str = "application/vnd.awslambda.http-integration-response";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

struct FunctionUrl {
    lambda: Lambda,
    /// The function's name.
    function: String,
    spec: FunctionUrlSpec,
    rate: RateLimiter,
    address: SocketAddr,
}

/// Why a request gets no response of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlError {
    Unsigned,
    TooLarge,
    /// With Lambda's name for the limit.
    Throttled(&'static str),
    /// The function failed, or its output is no response.
    Failed,
    Malformed,
    Stopping,
}

/// Serves a function at this address.
pub(crate) fn router(
    lambda: Lambda,
    function: &FunctionSpec,
    spec: FunctionUrlSpec,
    address: SocketAddr,
) -> Router {
    let rate = function.reserved_concurrency.unwrap_or_default() * RATE_PER_EXECUTION;
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    let url = FunctionUrl {
        lambda,
        function: function.name.clone(),
        spec,
        rate: RateLimiter::new(rate, rate),
        address,
    };
    Router::new().fallback(handle).with_state(Arc::new(url))
}

async fn handle(State(url): State<Arc<FunctionUrl>>, request: Request) -> Response<Body> {
    let (request, body) = request.into_parts();
    let cors = url.spec.cors.as_ref();
    if let Some(cors) = cors
        && cors::is_preflight(&request.method, &request.headers)
    {
        return cors::preflight(cors, &request.headers);
    }
    let request_id = ids::uuid();
    let response = url.respond(&request, body, &request_id).await;
    let mut response = response.unwrap_or_else(UrlError::response);
    let headers = response.headers_mut();
    headers.extend(HeaderValue::try_from(request_id).map(|id| (REQUEST_ID, id)));
    if let Some(cors) = cors {
        cors::add(cors, &request.headers, headers);
    }
    response
}

impl FunctionUrl {
    async fn respond(
        &self,
        request: &Parts,
        body: Body,
        request_id: &str,
    ) -> Result<Response<Body>, UrlError> {
        // Read even if the request is refused.
        let body = to_bytes(body, MAX_READ_BYTES).await;
        if self.spec.auth == UrlAuth::Iam && !is_signed(request) {
            return Err(UrlError::Unsigned);
        }
        let body = body.map_err(|_| UrlError::TooLarge)?;
        let invocation = self.invocation(request, &body, request_id);
        if invocation.payload().len() > MAX_EVENT_BYTES {
            return Err(UrlError::TooLarge);
        }
        if !self.rate.allows() {
            return Err(UrlError::Throttled(RATE_LIMIT));
        }
        if let Some(limit) = self.lambda.busy_environments(&self.function) {
            tracing::warn!(
                function = self.function,
                "a request waits: all {limit} processes are busy; on AWS more would start, and here with --environments"
            );
        }
        match self.spec.invoke_mode {
            InvokeMode::Buffered => {
                let outcome = self.lambda.invoke(&self.function, invocation).await?;
                response::complete(&output(outcome)?).map_err(|malformed| self.malformed(malformed))
            }
            InvokeMode::ResponseStream => {
                match self.lambda.stream(&self.function, invocation).await? {
                    Streamed::Complete(outcome) => Ok(response::unstreamed(output(outcome)?)),
                    Streamed::Stream(stream) => self.streamed(stream).await,
                }
            }
        }
    }

    fn invocation(&self, request: &Parts, body: &Bytes, request_id: &str) -> Invocation {
        let client = request.extensions.get::<ClientInfo>();
        let trace = ids::trace();
        let arrival = Arrival {
            address: self.address,
            client: client.map_or(self.address, |client| client.address).ip(),
            request_id,
            trace: &trace,
        };
        let event = event::event(request, body, &arrival).to_string();
        Invocation::identified(request_id.to_owned(), trace, event.into())
    }

    /// The response whose head a function has begun to stream.
    async fn streamed(&self, mut stream: ResponseStream) -> Result<Response<Body>, UrlError> {
        let content_type = stream.content_type.take();
        let has_prelude = content_type
            .as_ref()
            .is_some_and(|value| value == INTEGRATION_RESPONSE);
        let (head, rest) = if has_prelude {
            let mut prelude = Prelude::default();
            loop {
                let Some(Ok(chunk)) = stream.next().await else {
                    return Err(UrlError::Failed);
                };
                let found = prelude.add(chunk);
                if let Some(found) = found.map_err(|malformed| self.malformed(malformed))? {
                    break found;
                }
            }
        } else {
            let first = stream.next().await.unwrap_or_else(|| Ok(Bytes::new()));
            let first = first.map_err(|_| UrlError::Failed)?;
            (response::bare_head(content_type), first)
        };
        let body = StreamedBody {
            function: self.function.clone(),
            rest,
            stream,
            is_empty: true,
        };
        let chunks = stream::unfold(body, StreamedBody::next);
        Ok(head.map(|()| Body::from_stream(chunks)))
    }

    fn malformed(&self, malformed: Malformed) -> UrlError {
        tracing::warn!(function = self.function, reason = %malformed, "the function's output is no HTTP response");
        UrlError::Malformed
    }
}

/// The body of a streamed response.
struct StreamedBody {
    /// The function's name.
    function: String,
    /// What arrived together with the head.
    rest: Bytes,
    stream: ResponseStream,
    is_empty: bool,
}

impl StreamedBody {
    async fn next(mut self) -> Option<(Result<Bytes, StreamCut>, Self)> {
        let rest = std::mem::take(&mut self.rest);
        let chunk = if rest.is_empty() {
            self.stream.next().await
        } else {
            Some(Ok(rest))
        };
        match &chunk {
            Some(Ok(_)) => self.is_empty = false,
            Some(Err(cut)) => {
                // The HTTP library drops what it has not sent when a body fails, and
                // sends when a body has to wait.
                tokio::task::yield_now().await;
                tracing::warn!(function = self.function, reason = %cut, "a streamed response was cut");
            }
            None if self.is_empty => {
                tracing::warn!(
                    function = self.function,
                    "a streamed response without a body: on AWS, clients have waited for its end for minutes; send at least one byte"
                );
            }
            None => {}
        }
        chunk.map(|chunk| (chunk, self))
    }
}

/// The local stack checks no signature; it only tells signed requests from others.
fn is_signed(request: &Parts) -> bool {
    let authorization = request.headers.get(AUTHORIZATION);
    let in_header =
        authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256 "));
    let query = request.uri.query().unwrap_or_default();
    in_header
        || query
            .split('&')
            .any(|parameter| parameter.starts_with("X-Amz-Signature="))
}

/// A function's output if it succeeded.
fn output(outcome: Outcome) -> Result<Bytes, UrlError> {
    if outcome.is_error {
        Err(UrlError::Failed)
    } else {
        Ok(outcome.payload)
    }
}

impl From<NotInvoked> for UrlError {
    fn from(error: NotInvoked) -> Self {
        match error {
            NotInvoked::Throttled { reserved } => {
                Self::Throttled(NotInvoked::throttle_reason(reserved))
            }
            NotInvoked::Stopping => Self::Stopping,
            // A URL belongs to a function of the stack.
            NotInvoked::Unknown(_) => Self::Failed,
        }
    }
}

impl UrlError {
    /// Lambda's status, error type and body.
    fn response(self) -> Response<Body> {
        let (status, kind, body): (_, &'static str, Value) = match self {
            Self::Unsigned => (
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                json!({"Message": "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}),
            ),
            Self::TooLarge => (
                assumed::TOO_LARGE,
                "RequestTooLargeException",
                json!({"Message": format!("Request must be smaller than {MAX_EVENT_BYTES} bytes for the InvokeFunction operation")}),
            ),
            Self::Throttled(reason) => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequestsException",
                json!({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}),
            ),
            Self::Failed => return Self::failed(StatusCode::BAD_GATEWAY),
            Self::Malformed => return Self::failed(assumed::MALFORMED),
            Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceException",
                json!({"Message": NotInvoked::Stopping.to_string()}),
            ),
        };
        let mut response = Self::json(status, body.to_string());
        let headers = response.headers_mut();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// The text is not JSON, although its type says so.
    fn failed(status: StatusCode) -> Response<Body> {
        Self::json(status, "Internal Server Error".to_owned())
    }

    fn json(status: StatusCode, body: String) -> Response<Body> {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}
