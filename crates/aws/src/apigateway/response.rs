use std::collections::BTreeMap;

use belfry_core::connections::Refusal;
use belfry_core::frames::Answer;
use belfry_core::ports::VerifyError;
use serde::Serialize;

use super::Event;
use super::handshake::{SUBPROTOCOL, offered_subprotocols};

/// The response of a WebSocket route.
///
/// The events crate's own type would write header names in lower case, but AWS
/// documents `Sec-WebSocket-Protocol` with capitals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// For a handshake, the client's status if it is not 2xx.
    pub status_code: u16,
    /// Headers of the handshake's response.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<&'static str, &'static str>,
    /// The frame to send to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Accepts the connection. API Gateway does not echo a subprotocol by itself,
/// and a browser drops a connection whose response has none of its offers.
#[must_use]
pub fn accepted(event: &Event) -> Response {
    let mut response = status(200);
    if offered_subprotocols(event).any(|offer| offer == SUBPROTOCOL) {
        response
            .headers
            .insert("Sec-WebSocket-Protocol", SUBPROTOCOL);
    }
    response
}

/// Refuses the connection with the status in docs/PROTOCOL.md.
#[must_use]
pub fn refused(refusal: &Refusal) -> Response {
    status(match refusal {
        Refusal::Subprotocol | Refusal::SeveralTokens => 400,
        Refusal::NoToken | Refusal::Token(VerifyError::Rejected(_)) | Refusal::SignedOut => 401,
        Refusal::Origin => 403,
        Refusal::UserAtCapacity => 429,
        Refusal::Token(VerifyError::KeysUnavailable(_))
        | Refusal::Store(_)
        | Refusal::IdTaken
        | Refusal::Ended
        | Refusal::AtCapacity => 503,
    })
}

/// Answers a frame through the route response.
#[must_use]
pub fn answered(answer: Answer) -> Response {
    let mut response = status(200);
    response.body = answer.frame;
    response
}

/// A response without a body.
#[must_use]
pub fn status(code: u16) -> Response {
    Response {
        status_code: code,
        headers: BTreeMap::new(),
        body: None,
    }
}
