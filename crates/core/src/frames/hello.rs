use std::time::Duration;

use belfry_protocol::{Envelope, FrameId, Limits, ServerFrame, Subscribed, Version, Welcome};

use crate::connections::Connection;
use crate::time::UnixMillis;

/// `hello`: answered with what the client should know about its connection.
pub(super) fn reply(
    frame_id: Option<FrameId>,
    connection: &Connection,
    limits: Limits,
    subscribed: Option<Subscribed>,
    connection_lifetime: Duration,
    now: UnixMillis,
) -> ServerFrame {
    let connection_ends = connection.connected_at.plus(connection_lifetime);
    ServerFrame::Welcome(Envelope {
        version: Version,
        id: None,
        timestamp: Some(now.to_timestamp()),
        data: Welcome {
            connection_id: connection.id.clone(),
            user_id: connection.user_id.clone(),
            connected_at: connection.connected_at.to_timestamp(),
            token_expires_at: connection.token_expires_at.to_millis().to_timestamp(),
            connection_expires_at: connection_ends.to_timestamp(),
            limits,
            subscribed,
        },
        correlation_id: frame_id,
    })
}
