//! Belfry's rules: what happens when a client connects, leaves or sends a
//! frame, and how a broadcast reaches everyone. It knows no AWS and no HTTP;
//! what it needs from outside are the [`ports`].
#![warn(missing_docs)]

mod broadcast;
mod connect;
mod connection;
mod disconnect;
mod origin;
pub mod ports;
mod receive;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use broadcast::{BroadcastError, Broadcaster, Delivered, DeliverySettings};
pub use connect::{Connect, Handshake, Lifetime, Refusal};
pub use connection::{Connection, Recipient};
pub use disconnect::Disconnect;
pub use origin::{AllowedOrigins, InvalidOrigin, OriginPolicy};
pub use receive::{Answer, Outcome, Receive};
pub use time::{UnixMillis, UnixSeconds};
