//! Connections: how they are let in, remembered and forgotten.

mod close_with_reason;
mod connect;
mod connection;
mod disconnect;
mod limits;
mod origin;
mod shard;

pub(crate) use close_with_reason::{
    CloseReason, Closed, SIGNED_OUT, TOKEN_EXPIRED, close_with_reason,
};
pub use connect::{Connect, Handshake, MAX_KEPT_BYTES, Refusal, TokenSource};
pub(crate) use connection::confirm_after;
pub use connection::{Connection, END_BY_SIGN_OUT, Recipient};
pub use disconnect::Disconnect;
pub use limits::ConnectionLimits;
pub use origin::{AllowedOrigins, InvalidOrigin, OriginPolicy};
pub use shard::shard_of;
