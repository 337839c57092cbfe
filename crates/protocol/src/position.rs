//! Positions in a channel's history.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Epoch;

/// A position in a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// The history that the number belongs to.
    pub epoch: Epoch,
    /// The message's number: 1 for the first one, and no number is left out.
    /// Zero is the position before the first.
    pub seq: u64,
}
