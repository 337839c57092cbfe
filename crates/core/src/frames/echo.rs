use belfry_protocol::{Envelope, ServerFrame, Version};
use serde_json::Value;

use crate::time::UnixMillis;

/// `echo`: answered with the same data.
pub(super) fn reply(echo: Envelope<Value>, now: UnixMillis) -> ServerFrame {
    ServerFrame::Echo(Envelope {
        version: Version,
        id: None,
        timestamp: Some(now.to_timestamp()),
        data: echo.data,
        correlation_id: echo.id,
    })
}
