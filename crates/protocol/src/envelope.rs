//! The fields that all frames share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FrameId, Timestamp, Version};

/// The fields of a frame besides `type`, for types that require `data`.
///
/// Unknown fields are ignored, because a later `1.x` may add some. An optional
/// field that is `null` counts as absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<D> {
    /// The protocol version that the sender used.
    pub version: Version,
    /// The sender's id for this frame. A reply repeats it as `correlationId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// When the sender made the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The content of the frame. Its fields depend on `type`.
    pub data: D,
    /// The `id` of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<FrameId>,
}

/// The fields of a frame besides `type`, for types without content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bare {
    /// The protocol version that the sender used.
    pub version: Version,
    /// The sender's id for this frame. A reply repeats it as `correlationId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// When the sender made the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Ignored. It may be any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// The `id` of the frame that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<FrameId>,
}
