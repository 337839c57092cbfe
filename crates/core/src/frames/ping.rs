use belfry_protocol::{Bare, ServerFrame};

use crate::time::UnixMillis;

/// `ping`: answered with `pong`.
pub(super) fn reply(ping: Bare, now: UnixMillis) -> ServerFrame {
    ServerFrame::Pong(Bare {
        timestamp: Some(now.to_timestamp()),
        correlation_id: ping.id,
        ..Bare::default()
    })
}
