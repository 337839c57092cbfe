//! Belfry's rules: what happens when a client connects, leaves or sends a
//! frame, and how a broadcast reaches everyone.
//!
//! This crate knows no AWS and no HTTP. What it needs from outside are the
//! [`ports`].

pub mod broadcast;
pub mod channels;
pub mod connections;
mod fitting;
pub mod frames;
pub mod hooks;
pub mod liveness;
pub mod locks;
pub mod log;
pub mod operator;
pub mod ports;
pub mod presence;
pub mod reader;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use time::{UnixMillis, UnixSeconds};
