//! API Gateway's limits for WebSocket APIs. Where a number is given without a
//! source it is from "Amazon API Gateway quotas" in the developer guide.

use std::time::Duration;

use crate::rate::Rate;

/// The most that one frame may hold in either direction, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = 32 * 1024;

/// The most that a message may hold in either direction, in bytes, however
/// many frames it has.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// The longest URL of a handshake, in characters.
pub(super) const MAX_URL_LENGTH: usize = 4_096;

/// The limits that the command line can change.
pub(crate) struct Limits {
    /// How long a connection may be without a message in either direction.
    pub idle_timeout: Duration,
    /// How long a connection may live at all.
    pub max_duration: Duration,
    /// New connections.
    pub connects: Rate,
    /// Messages from clients and calls of the management API, together.
    pub requests: Rate,
}
