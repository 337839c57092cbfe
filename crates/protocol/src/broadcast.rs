//! What callers of the broadcaster send, and the reports they get.

mod batch;
mod presence;
mod receipts;
mod report;
mod wait_seconds;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use batch::BatchedNotice;
pub use presence::PresenceRequest;
pub(crate) use receipts::ReceiptsFields;
pub use receipts::{Receipt, ReceiptsHistory, ReceiptsReport, ReceiptsRequest};
pub use report::{BroadcastReport, BroadcastStatus, Failures};
pub use wait_seconds::{MAX_WAIT_SECONDS, WaitSeconds};

use crate::{
    Address, ChannelName, ConnectionId, FrameId, InvalidRequest, List, Message, MessageId,
    NotificationData, Position, ServerFrame, Timestamp, UserId, Version, request, shape,
};

/// The largest message that API Gateway carries, in bytes (AWS: "WebSocket
/// message payload size, 128 KB").
pub const MAX_FRAME_BYTES: usize = 128 * 1024;

/// The largest message that a channel's history keeps, in bytes. A page of a
/// history must fit into a message.
pub const MAX_STORED_FRAME_BYTES: usize = 96 * 1024;

/// A request to the broadcaster.
#[derive(Debug, Clone, PartialEq)]
pub enum BroadcasterRequest {
    /// Send a message.
    Send(Box<BroadcastRequest>),
    /// Report on an earlier broadcast, or resume it.
    Inquire(BroadcastInquiry),
    /// Say who has acknowledged a message.
    Receipts(ReceiptsRequest),
    /// Say who is present in a channel.
    Presence(PresenceRequest),
}

/// A request about an earlier broadcast. `action` selects what to do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum BroadcastInquiry {
    /// Return the report of a broadcast.
    Report {
        /// The `messageId` of the broadcast.
        message_id: MessageId,
        /// How long to wait for the broadcast to finish, in seconds. The
        /// default is 0: do not wait.
        #[serde(default)]
        wait_seconds: WaitSeconds,
    },
    /// Continue a broadcast that has stopped, then return its report. Has no
    /// effect on one that is running or done.
    Resume {
        /// The `messageId` of the broadcast.
        message_id: MessageId,
        /// How long to wait for the broadcast to finish, in seconds. The
        /// default is 0: do not wait.
        #[serde(default)]
        wait_seconds: WaitSeconds,
    },
}

/// Every `action`, for the check and its error message.
const ACTIONS: &[&str] = &["report", "resume", RECEIPTS, PRESENCE];

const RECEIPTS: &str = "receipts";

const PRESENCE: &str = "presence";

/// A request to send one message to the connections of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["message"], "properties": {"message": {"type": "object"}}},
    {"required": ["messages"], "properties": {"messages": {"type": "array"}}},
]))]
pub struct BroadcastRequest {
    /// The idempotency key. The default is the request id of the invocation.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// The recipients.
    pub target: Target,
    /// The message that each recipient gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Notice>,
    /// Several messages that each recipient gets, in this order, instead of
    /// `message`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "shape::optional_objects"
    )]
    pub messages: Option<List<BatchedNotice, 1, 50>>,
    /// Connections to leave out, for example the sender's own.
    #[serde(default)]
    pub exclude: Option<List<ConnectionId, 0, 1_000>>,
    /// `false` keeps the message out of the target's history. The default is
    /// `true`. Has no effect if no history is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// `true` counts the users who have acknowledged the message: later reports
    /// have `acknowledged`. Only for a message that is kept, to a user, several
    /// users or a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<bool>,
    /// How long to wait for a large broadcast to finish, in seconds. The
    /// default is 0: do not wait.
    #[serde(default)]
    pub wait_seconds: WaitSeconds,
}

/// The recipients of a broadcast. `type` selects how they are named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Target {
    /// Every connection of one user.
    User {
        /// The user whose connections receive the message.
        user_id: UserId,
    },
    /// Every connection of several users.
    Users {
        /// The users whose connections receive the message. Duplicates are
        /// ignored.
        user_ids: List<UserId, 1, 1_000>,
    },
    /// Connections by id. One that does not exist counts as `gone`.
    Connections {
        /// The connections that receive the message. Duplicates are ignored.
        connection_ids: List<ConnectionId, 1, 10_000>,
    },
    /// Every subscriber of a channel.
    Channel {
        /// The channel whose subscribers receive the message.
        channel: ChannelName,
    },
    /// Every connection of the stack.
    All {},
}

/// The message of a broadcast. Belfry adds the `id`, and the `timestamp` if it
/// is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// The frame type. Callers may send only notifications.
    #[serde(rename = "type", deserialize_with = "shape::variant")]
    pub notice_type: NoticeType,
    /// The protocol version that the message was written for.
    #[serde(default)]
    pub version: Option<Version>,
    /// When the event that the message reports happened. The default is the
    /// time of the broadcast.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// The `id` of the client's frame that this message answers.
    #[serde(default)]
    pub correlation_id: Option<FrameId>,
    /// The content of the notification.
    pub data: NotificationData,
}

/// The frame types that callers may send. Belfry sends the others itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NoticeType {
    /// A notification.
    Notification,
}

impl Notice {
    /// The frame that recipients get. `channel` and `position` say where a
    /// history keeps it.
    #[must_use]
    pub fn into_frame(
        self,
        id: FrameId,
        now: Timestamp,
        channel: Option<Address>,
        position: Option<Position>,
    ) -> ServerFrame {
        ServerFrame::Notification(Message {
            channel,
            position,
            from: None,
            version: Version,
            id: Some(id),
            timestamp: Some(self.timestamp.unwrap_or(now)),
            data: self.data,
            correlation_id: self.correlation_id,
        })
    }
}

impl BroadcastRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        Self::read(request::object(text)?)
    }

    fn read(object: Map<String, Value>) -> Result<Self, InvalidRequest> {
        let message = object.get("message");
        if message.is_some_and(|message| !message.is_null() && !message.is_object()) {
            return Err(InvalidRequest::new("message must be a JSON object"));
        }
        let request: Self = request::read(object, &["target"])?;
        match (&request.message, &request.messages) {
            (Some(_), None) => {}
            (None, Some(messages)) => {
                batch::check_ids(request.message_id.as_ref(), messages.as_slice())?;
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(InvalidRequest::new("give either message or messages"));
            }
        }
        Ok(request)
    }

    /// The messages, each with the `id` of its frame. `id` is that of the
    /// broadcast.
    #[must_use]
    pub fn notices(&self, id: &MessageId) -> Vec<(FrameId, Notice)> {
        let single = self.message.iter().filter_map(|notice| {
            // Every message id is a frame id: it is as long at most, and uses
            // fewer characters.
            Some((FrameId::parse(id.as_str()).ok()?, notice.clone()))
        });
        let batched = self.messages.iter().flat_map(List::as_slice);
        let batched = (1..).zip(batched);
        let batched =
            batched.filter_map(|(number, one)| Some((one.frame_id(id, number)?, one.notice())));
        single.chain(batched).collect()
    }

    /// The request in the form that is stored and compared with retries: what
    /// to send and to whom, without the `messageId` and the time to wait.
    /// [`Self::parse`] reads it.
    #[must_use]
    pub fn canonical(&self) -> String {
        let compared = Self {
            message_id: None,
            wait_seconds: WaitSeconds::default(),
            ..self.clone()
        };
        serde_json::to_string(&compared).unwrap_or_default()
    }
}

impl BroadcasterRequest {
    /// Parses a request. One with an `action` is an inquiry.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let object = request::object(text)?;
        if let Some(action) = object.get("action") {
            if action == RECEIPTS {
                return ReceiptsRequest::read(object).map(Self::Receipts);
            }
            if action == PRESENCE {
                return request::read(object, &[]).map(Self::Presence);
            }
            return request::read_action(object, ACTIONS).map(Self::Inquire);
        }
        BroadcastRequest::read(object).map(|request| Self::Send(Box::new(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use serde_json::json;

    const MINIMAL: &str =
        r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"k"}}}"#;

    #[test]
    fn the_frame_carries_message_id_version_and_time() {
        let request = BroadcastRequest::parse(MINIMAL).unwrap();
        let mut notices = request.notices(&MessageId::parse("m-1").unwrap());
        let (id, notice) = notices.remove(0);
        let frame = notice.into_frame(id, Timestamp::from_millis(1_770_660_703_822), None, None);
        insta::assert_snapshot!(frame.to_json(), @r#"{"type":"notification","version":"1.0","id":"m-1","timestamp":"2026-02-09T18:11:43.822Z","data":{"kind":"k"}}"#);
    }

    #[test]
    fn a_request_without_receipts_equals_its_older_record() {
        let older = r#"{"messageId":null,"target":{"type":"all"},"message":{"type":"notification","version":null,"timestamp":null,"correlationId":null,"data":{"kind":"k"}},"exclude":null,"waitSeconds":0}"#;
        let request = BroadcastRequest::parse(MINIMAL).unwrap();
        assert_eq!(request.canonical(), older);
        let with = BroadcastRequest {
            receipts: Some(true),
            ..request
        };
        assert_ne!(with.canonical(), older);
        let read = BroadcastRequest::parse(&with.canonical()).unwrap();
        assert_eq!(read.receipts, Some(true));
    }

    #[test]
    fn errors_name_the_field() {
        for (text, field) in [
            (
                r#"{"message":{"type":"notification","data":{"kind":"k"}}}"#,
                "target",
            ),
            (
                r#"{"target":{"type":"user"},"message":{"type":"notification","data":{"kind":"k"}}}"#,
                "userId",
            ),
            (
                r#"{"target":{"type":"user","userId":5},"message":{"type":"notification","data":{"kind":"k"}}}"#,
                "userId",
            ),
            (
                r#"{"target":{"type":"users","userIds":"a"},"message":{"type":"notification","data":{"kind":"k"}}}"#,
                "userIds",
            ),
            (
                r#"{"target":{"type":"all"},"message":{"type":"error","data":{"kind":"k"}}}"#,
                "message.type",
            ),
            (
                r#"{"target":{"type":"all"},"message":{"type":"notification","data":{}}}"#,
                "message.data: missing field `kind`",
            ),
            (
                r#"{"target":{"type":"all"},"message":{"type":"notification","data":{"kind":"set.created"}}}"#,
                "setId",
            ),
            (
                r#"{"target":{"type":"all"},"excludes":[],"message":{"type":"notification","data":{"kind":"k"}}}"#,
                "excludes",
            ),
        ] {
            let error = BroadcastRequest::parse(text).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_request_with_an_action_is_an_inquiry() {
        let message_id = MessageId::parse("m").unwrap();
        let report =
            BroadcasterRequest::parse(r#"{"action":"report","messageId":"m","waitSeconds":20}"#);
        let expected = BroadcastInquiry::Report {
            message_id,
            wait_seconds: WaitSeconds(20),
        };
        assert_eq!(report, Ok(BroadcasterRequest::Inquire(expected)));
        for (wrong, names) in [
            (r#"{"action":"report"}"#, "messageId"),
            (
                r#"{"action":"dance","messageId":"m"}"#,
                "action must be one of report, resume",
            ),
            (
                r#"{"action":"report","messageId":"m","waitSeconds":21}"#,
                "waitSeconds to be an integer from 0 to 20",
            ),
            (
                r#"{"action":"report","messageId":"m","target":{"type":"all"}}"#,
                "target",
            ),
            (
                r#"{"action":"report","action":"report","messageId":"m"}"#,
                "action",
            ),
        ] {
            let error = BroadcasterRequest::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(names), "{wrong}: {error}");
        }
        assert!(matches!(
            BroadcasterRequest::parse(MINIMAL),
            Ok(BroadcasterRequest::Send(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused(text in "\\PC{0,200}") {
            let _ = BroadcastRequest::parse(&text);
        }

        #[test]
        fn a_refusal_is_short_whatever_a_field_holds(
            field in "/(messageId|target|exclude|message)?(/(type|userId|userIds|connectionIds|data|id))?",
            value in r#"null|true|-1|1e300|"\PC{0,300}"|\[\]|\[null\]|\{\}|\{"type":"users"\}|\[\["a"\]\]"#,
        ) {
            let mut request = json!({
                "messageId": "m",
                "target": {"type": "users", "userIds": ["a"]},
                "message": {"type": "notification", "data": {"kind": "k"}},
                "exclude": [],
            });
            let value = serde_json::from_str(&value).unwrap_or_default();
            match request.pointer_mut(&field) {
                Some(node) => *node = value,
                None => request["surprise"] = value,
            }
            if let Err(error) = BroadcastRequest::parse(&request.to_string()) {
                prop_assert!(error.to_string().len() <= 400, "{}", error);
            }
        }
    }
}
