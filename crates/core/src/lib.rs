//! Belfry's rules: what happens when a client connects, leaves or sends a
//! frame, and how a broadcast reaches everyone. It knows no AWS and no HTTP;
//! what it needs from outside are the [`ports`].
#![warn(missing_docs)]

mod broadcast;
mod budget;
mod connect;
mod connection;
mod disconnect;
mod last_words;
mod origin;
pub mod ports;
mod receive;
mod schedule;
mod spread;
mod sweep;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use broadcast::{
    BroadcastError, Broadcaster, Call, Delivered, DeliverySettings, FanoutSettings,
};
pub use budget::{Bucket, Budget};
pub use connect::{Connect, Handshake, Lifetime, MAX_KEPT_BYTES, Refusal};
pub use connection::{Connection, Recipient, Watch};
pub use disconnect::Disconnect;
pub use origin::{AllowedOrigins, InvalidOrigin, OriginPolicy};
pub use receive::{Answer, Outcome, Receive};
pub use schedule::Schedule;
pub use spread::part_of;
pub use sweep::Sweeper;
pub use time::{UnixMillis, UnixSeconds};
