//! Channels: who may do what in which of them, and which messages are kept.

mod actions;
mod claims;
mod matching;
mod rules;

pub use actions::Actions;
pub use claims::{Claims, ClaimsTooLarge, InvalidClaims, MAX_CLAIMS_BYTES};
pub use rules::{ChannelRules, Decision, History, MAX_AUTO_SUBSCRIPTIONS};
