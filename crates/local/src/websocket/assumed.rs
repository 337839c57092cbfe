//! Assumptions about API Gateway that are not established. Each is one
//! conservative constant and one row of docs/GATEWAY.md, marked as assumed. If AWS
//! turns out to behave differently, change the constant.

use axum::http::StatusCode;

/// The response to a handshake whose function exceeds the integration timeout.
pub(super) const CONNECT_TIMED_OUT: StatusCode = StatusCode::GATEWAY_TIMEOUT;

/// The response to a handshake whose function Lambda throttles.
pub(super) const CONNECT_NOT_INVOKED: StatusCode = StatusCode::BAD_GATEWAY;

/// The response to a handshake whose URL is too long. AWS documents the limit but
/// not the status.
pub(super) const URL_TOO_LONG: StatusCode = StatusCode::URI_TOO_LONG;

/// The error frame's message for a frame above the request rate.
pub(super) const THROTTLED: &str = "Too Many Requests";

/// The error frame's message for a reply that is too large.
pub(super) const REPLY_TOO_LARGE: &str = "Internal server error";

/// Whether a control ping restarts the idle timeout.
pub(super) const PING_IS_ACTIVITY: bool = false;

/// The close status at the maximum lifetime. It has been seen on AWS for the idle
/// timeout.
pub(super) const MAX_DURATION_REACHED: (u16, &str) = (1001, "Going away");

/// The close status that `$disconnect` gets for a lost connection.
pub(super) const LOST: (u16, &str) = (1006, "Connection Closed Abnormally");

/// The reasons for these close codes. AWS documents the codes 1003 and 1009; 1002
/// and 1007 are RFC 6455's.
pub(super) const BINARY: (u16, &str) = (1003, "Binary is not supported");
pub(super) const TOO_LARGE: (u16, &str) = (1009, "Message too large");
pub(super) const PROTOCOL_ERROR: (u16, &str) = (1002, "Protocol error");
pub(super) const NOT_UTF8: (u16, &str) = (1007, "Invalid UTF-8");
