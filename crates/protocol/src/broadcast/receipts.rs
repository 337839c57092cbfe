//! Who has read up to where.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Address, ChannelName, Epoch, InvalidRequest, UserId, request, shape};

/// A request for the users who have acknowledged a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptsRequest {
    /// The history that the message is in.
    pub history: ReceiptsHistory,
    /// The number of the message.
    pub seq: NonZeroU64,
    /// The epoch of the message. The default is the history's present one.
    pub epoch: Option<Epoch>,
    /// The list begins after this user.
    pub after: Option<UserId>,
}

/// A history whose messages are acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptsHistory {
    /// That of a channel.
    Channel(ChannelName),
    /// That of everyone.
    All,
    /// That of one user.
    User(UserId),
}

/// A request for the users who have acknowledged a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ReceiptsRequest")]
#[schemars(extend("oneOf" = [
    {"required": ["channel"], "properties": {"channel": {"type": "string", "not": {"pattern": "^@me$"}}, "userId": {"type": "null"}}},
    {"required": ["userId"], "properties": {"userId": {"type": "string"}, "channel": {"type": "null"}}},
]))]
pub(crate) struct ReceiptsFields {
    /// What to do.
    #[serde(rename = "action", deserialize_with = "shape::variant")]
    _action: ReceiptsAction,
    /// The channel, or `@all`. For messages to one user, give `userId` instead.
    #[serde(default)]
    channel: Option<Address>,
    /// The user whose own messages are meant.
    #[serde(default)]
    user_id: Option<UserId>,
    /// The number of the message.
    seq: NonZeroU64,
    /// The epoch of the message. The default is the history's present one.
    #[serde(default)]
    epoch: Option<Epoch>,
    /// The `next` of an earlier answer: the list continues there.
    #[serde(default)]
    after: Option<UserId>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum ReceiptsAction {
    /// Return who has acknowledged a message.
    Receipts,
}

impl ReceiptsRequest {
    pub(super) fn read(object: Map<String, Value>) -> Result<Self, InvalidRequest> {
        let fields: ReceiptsFields = request::read(object, &[])?;
        let history = match (fields.channel, fields.user_id) {
            (Some(Address::Channel(name)), None) => ReceiptsHistory::Channel(name),
            (Some(Address::All), None) => ReceiptsHistory::All,
            (None, Some(user)) => ReceiptsHistory::User(user),
            (Some(Address::Me), None) => {
                return Err(InvalidRequest::new(
                    "channel: name the user in userId, not @me",
                ));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(InvalidRequest::new("give either channel or userId"));
            }
        };
        Ok(Self {
            history,
            seq: fields.seq,
            epoch: fields.epoch,
            after: fields.after,
        })
    }
}

/// The users who have acknowledged a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptsReport {
    /// The channel, `@me` or `@all`.
    pub channel: Address,
    /// The epoch that was asked about. Absent if the history has no messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// How many users have acknowledged the message. Only in the answer to a
    /// request without `after`, and only if at most 100,000 users have
    /// acknowledged anything there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Up to 100 of them.
    pub users: Vec<Receipt>,
    /// More users may follow: send this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}

/// A user who has acknowledged messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The user.
    pub user_id: UserId,
    /// The number of the last message that the user has acknowledged.
    pub seq: u64,
}
