//! Who is present in a channel, for servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, shape};

/// A request for the users who are present in a channel. The answer is a
/// [`PresentInChannel`](crate::PresentInChannel).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresenceRequest {
    /// What to do.
    #[serde(rename = "action", deserialize_with = "shape::variant")]
    _action: PresenceAction,
    /// The channel.
    pub channel: ChannelName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum PresenceAction {
    /// Return who is present.
    Presence,
}
