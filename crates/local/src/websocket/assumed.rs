//! What is not established about API Gateway: each assumption is one constant,
//! conservative, and a row of docs/GATEWAY.md that is marked as assumed.
//! Whoever finds out changes it here.

use axum::http::StatusCode;

/// A handshake with a stage that does not exist. For the management API the
/// same is documented.
pub(super) const NO_SUCH_STAGE: StatusCode = StatusCode::FORBIDDEN;

/// A handshake whose function takes longer than API Gateway waits.
pub(super) const CONNECT_TIMED_OUT: StatusCode = StatusCode::GATEWAY_TIMEOUT;

/// A handshake whose function Lambda throttles.
pub(super) const CONNECT_NOT_INVOKED: StatusCode = StatusCode::BAD_GATEWAY;

/// A handshake whose URL is too long. That it is refused is documented.
pub(super) const URL_TOO_LONG: StatusCode = StatusCode::URI_TOO_LONG;

/// What a client is told, in the form of API Gateway's other error frames,
/// whose message is above the rate.
pub(super) const THROTTLED: &str = "Too Many Requests";

/// What a client is told whose reply is too large for a message.
pub(super) const REPLY_TOO_LARGE: &str = "Internal server error";

/// Whether a control ping keeps the idle timeout away.
pub(super) const PING_IS_ACTIVITY: bool = false;

/// How a connection ends that was open for too long. For the idle timeout the
/// same is seen on AWS.
pub(super) const OPEN_TOO_LONG: (u16, &str) = (1001, "Going away");

/// What `$disconnect` is told of a connection that was lost.
pub(super) const LOST: (u16, &str) = (1006, "Connection Closed Abnormally");

/// The reasons that go with close codes. The codes 1003 and 1009 are
/// documented, 1002 and 1007 are RFC 6455's.
pub(super) const BINARY: (u16, &str) = (1003, "Binary is not supported");
pub(super) const TOO_LARGE: (u16, &str) = (1009, "Message too large");
pub(super) const PROTOCOL_ERROR: (u16, &str) = (1002, "Protocol error");
pub(super) const NOT_UTF8: (u16, &str) = (1007, "Invalid UTF-8");
