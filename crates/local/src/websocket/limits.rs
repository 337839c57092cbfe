//! API Gateway's limits for WebSocket APIs. Numbers without a source are from
//! "Amazon API Gateway quotas" in the developer guide.

use std::time::Duration;

use crate::rate_limiter::RateLimiter;

/// The largest frame in either direction, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = 32 * 1024;

/// The largest message in either direction, in bytes, over all its frames.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// The longest URL of a handshake, in characters.
pub(super) const MAX_URL_LENGTH: usize = 4_096;

/// The limits that the command line can change.
pub(crate) struct Limits {
    /// The longest time without a message in either direction.
    pub idle_timeout: Duration,
    /// A connection's maximum lifetime.
    pub max_duration: Duration,
    /// New connections.
    pub connects: RateLimiter,
    /// Messages from clients and calls of the management API together.
    pub requests: RateLimiter,
}
