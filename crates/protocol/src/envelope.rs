//! The fields that every frame shares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FrameId, Timestamp, Version};

/// A frame's fields beside its `type`, where `data` is required.
///
/// Unknown fields are ignored: a later `1.x` may add some. An optional field
/// that is `null` counts as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<D> {
    /// The protocol version, `1.x`.
    pub version: Version,
    /// The sender's name for this frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// When the frame was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// What the frame is about; its shape depends on the type.
    pub data: D,
    /// The `id` of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<FrameId>,
}

/// A frame's fields beside its `type`, for types that need no `data`.
///
/// `data` may still be there, as an object, and is ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bare {
    /// The protocol version, `1.x`.
    pub version: Version,
    /// The sender's name for this frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// When the frame was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Not used by this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// The `id` of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<FrameId>,
}
