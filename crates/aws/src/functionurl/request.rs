use std::time::Duration;

use aws_lambda_events::http::HeaderMap;
use aws_lambda_events::http::header::{AUTHORIZATION, ORIGIN};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use belfry_core::reader::Credentials;
use belfry_protocol::{Address, BearerToken, ErrorCode, ReadRequest, Refused, Since};
use url::form_urlencoded;

use super::Event;

/// The query parameter that can hold a token: `EventSource` cannot set a
/// header.
const TOKEN_PARAMETER: &str = "token";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A browser asks whether a page may send a request (Fetch standard, "CORS
    /// preflight").
    Preflight,
    /// `GET /events`: a stream.
    Stream(Vec<(Address, Option<Since>)>),
    /// `GET /messages`: a poll, which waits so long. Without channels, it asks
    /// whose token it has.
    Poll(Vec<(Address, Option<Since>)>, Duration),
    /// `POST /messages`: publishes this.
    Publish(String),
}

/// Why a request asks for nothing that is served.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// Nothing is served at this path.
    NotFound,
    /// The path serves only these methods.
    Method(&'static str),
    Refused(Refused),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Reads what a request asks for.
///
/// # Errors
/// [`Problem`].
pub fn operation(event: &Event) -> Result<Operation, Problem> {
    let method = event.request_context.http.method.as_deref();
    let method = method.unwrap_or_default();
    let path = event.raw_path.as_deref().unwrap_or_default();
    let methods = match path {
        "/events" => "GET, OPTIONS",
        "/messages" => "GET, POST, OPTIONS",
        _ => return Err(Problem::NotFound),
    };
    match (method, path) {
        ("OPTIONS", _) => Ok(Operation::Preflight),
        ("GET", "/events") => {
            let request = read_request(event)?.of_channels()?;
            Ok(Operation::Stream(request.channels))
        }
        ("GET", _) => {
            let mut request = read_request(event)?;
            if request.wait_seconds > 0 {
                request = request.of_channels()?;
            }
            let wait = Duration::from_secs(request.wait_seconds.into());
            Ok(Operation::Poll(request.channels, wait))
        }
        ("POST", "/messages") => Ok(Operation::Publish(body(event)?)),
        _ => Err(Problem::Method(methods)),
    }
}

fn read_request(event: &Event) -> Result<ReadRequest, Refused> {
    let last = header(&event.headers, "last-event-id").next();
    ReadRequest::parse(query(event), last)
}

/// Who asks, as the request says.
#[must_use]
pub fn credentials(event: &Event) -> Credentials {
    let authorization = header(&event.headers, AUTHORIZATION.as_str());
    // Another scheme counts as a token that no verifier accepts.
    let authorization = authorization.map(|value| match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim().to_owned(),
        _ => String::new(),
    });
    let query = query(event)
        .filter(|(name, _)| name == TOKEN_PARAMETER)
        .map(|(_, token)| token.into_owned());
    let origins: Vec<_> = header(&event.headers, ORIGIN.as_str()).collect();
    Credentials {
        origin: (!origins.is_empty()).then(|| origins.join(", ")),
        tokens: authorization
            .chain(query)
            .map(|token| BearerToken::from(token.as_str()))
            .collect(),
    }
}

/// All values of a header. One that is not text is present but empty, and so
/// never valid.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).into_iter();
    values.map(|value| value.to_str().unwrap_or_default())
}

/// The decoded parameters in their order. The event's own map joins those of
/// the same name by commas, which a channel's name may have.
fn query(event: &Event) -> form_urlencoded::Parse<'_> {
    let query = event.raw_query_string.as_deref().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
}

fn body(event: &Event) -> Result<String, Refused> {
    let body = event.body.as_deref().unwrap_or_default();
    if !event.is_base64_encoded {
        return Ok(body.to_owned());
    }
    let bytes = BASE64_STANDARD.decode(body).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Refused::new(ErrorCode::InvalidMessage, "the body must be UTF-8 text"))
}
