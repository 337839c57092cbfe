//! API Gateway: the events that it sends, the responses that it expects, and
//! its management API.

mod handshake;
mod management;
mod response;
#[cfg(test)]
mod tests;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use belfry_protocol::ConnectionId;

pub use handshake::handshake;
pub use management::ManagementOutbox;
pub use response::{Response, accepted, answered, refused, status};

/// The event of a WebSocket route.
pub type Event = ApiGatewayWebsocketProxyRequest;

/// An event lacks a field that every event of a WebSocket API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event has no usable requestContext.{0}; is this function behind a WebSocket API?")]
pub struct MalformedEvent(&'static str);

/// The connection that an event is about.
///
/// # Errors
/// [`MalformedEvent`] if it names no connection.
pub fn connection_id(event: &Event) -> Result<ConnectionId, MalformedEvent> {
    let id = event
        .request_context
        .connection_id
        .as_deref()
        .unwrap_or_default();
    ConnectionId::parse(id).map_err(|_| MalformedEvent("connectionId"))
}

/// The text of a message event; `None` if the message is binary.
#[must_use]
pub fn message_body(event: &Event) -> Option<&str> {
    if event.is_base64_encoded {
        return None;
    }
    Some(event.body.as_deref().unwrap_or_default())
}
