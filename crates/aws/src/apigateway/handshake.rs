use aws_lambda_events::http::header::{
    AUTHORIZATION, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
};
use belfry_core::UnixMillis;
use belfry_core::connections::{Handshake, TokenSource};
use belfry_protocol::{BearerToken, ConnectionId};

use super::{Event, MalformedEvent, connection_id};

/// The subprotocol that Belfry speaks.
pub(super) const SUBPROTOCOL: &str = "belfry.v1";

/// Prefix of a token among the subprotocols that a browser offers: a page can
/// set no other header of a handshake.
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// The query parameter that can hold a token.
const TOKEN_PARAMETER: &str = "token";

/// The query parameter that names the client's other connection.
const REPLACES_PARAMETER: &str = "replaces";

/// Reads the handshake of a `$connect` event.
///
/// # Errors
/// [`MalformedEvent`] for an event of another kind.
pub fn handshake(event: &Event) -> Result<Handshake, MalformedEvent> {
    let context = &event.request_context;
    let connected_at =
        u64::try_from(context.connected_at).map_err(|_| MalformedEvent("connectedAt"))?;
    Ok(Handshake {
        connection_id: connection_id(event)?,
        connected_at: UnixMillis(connected_at),
        host: context.domain_name.clone(),
        origin: origin(event),
        only_unknown_subprotocols: only_unknown_subprotocols(event),
        tokens: tokens(event),
        source_ip: context.identity.source_ip.clone().unwrap_or_default(),
        user_agent: context.identity.user_agent.clone(),
        replaces: parameter(event, REPLACES_PARAMETER)
            .last()
            .and_then(|id| ConnectionId::parse(id).ok()),
    })
}

/// All values of a header.
fn header(event: &Event, name: HeaderName) -> impl Iterator<Item = &str> {
    let headers: &HeaderMap = if event.multi_value_headers.is_empty() {
        &event.headers
    } else {
        &event.multi_value_headers
    };
    // A value that is not text is present but empty, and so never valid.
    headers
        .get_all(name)
        .into_iter()
        .map(|value| value.to_str().unwrap_or_default())
}

fn origin(event: &Event) -> Option<String> {
    let all: Vec<_> = header(event, ORIGIN).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

pub(super) fn offered_subprotocols(event: &Event) -> impl Iterator<Item = &str> {
    header(event, SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|offer| !offer.is_empty())
}

fn only_unknown_subprotocols(event: &Event) -> bool {
    let mut offers = offered_subprotocols(event).peekable();
    offers.peek().is_some() && !offers.any(|offer| offer == SUBPROTOCOL)
}

/// The token from each source that holds one. An `Authorization` with another
/// scheme counts as a token that no verifier accepts.
fn tokens(event: &Event) -> Vec<(TokenSource, BearerToken)> {
    let authorization = header(event, AUTHORIZATION).map(|value| match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    });
    let subprotocol =
        offered_subprotocols(event).filter_map(|offer| offer.strip_prefix(BEARER_SUBPROTOCOL));
    let query = parameter(event, TOKEN_PARAMETER);
    let from = |source| move |token: &str| (source, token.into());
    authorization
        .map(from(TokenSource::Authorization))
        .chain(subprotocol.map(from(TokenSource::Subprotocol)))
        .chain(query.map(from(TokenSource::Query)))
        .collect()
}

/// All values of a query parameter.
fn parameter<'a>(event: &'a Event, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let several = &event.multi_value_query_string_parameters;
    let parameters = if several.is_empty() {
        &event.query_string_parameters
    } else {
        several
    };
    parameters.all(name).unwrap_or_default().into_iter()
}
