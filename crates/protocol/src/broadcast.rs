//! What callers of the broadcaster send, and what they get back.

use std::borrow::Cow;
use std::ops::Add;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ConnectionId, Envelope, FrameId, InvalidRequest, List, MessageId, NotificationData,
    ServerFrame, Timestamp, UserId, Version, request,
};

/// The largest message that API Gateway carries, in bytes (AWS: "WebSocket
/// message payload size, 128 KB").
pub const MAX_FRAME_BYTES: usize = 128 * 1024;

/// The longest that a caller may ask to wait for the end of a broadcast, in
/// seconds: well below the 60 after which AWS's SDKs give a call up.
pub const MAX_WAIT_SECONDS: u8 = 20;

/// How long to wait for the end of a broadcast, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct WaitSeconds(pub u8);

impl JsonSchema for WaitSeconds {
    fn schema_name() -> Cow<'static, str> {
        "WaitSeconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS})
    }
}

impl TryFrom<u64> for WaitSeconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        match u8::try_from(seconds) {
            Ok(seconds @ ..=MAX_WAIT_SECONDS) => Ok(Self(seconds)),
            _ => Err(format!("at most {MAX_WAIT_SECONDS} seconds")),
        }
    }
}

/// What callers ask of the broadcaster.
#[derive(Debug, Clone, PartialEq)]
pub enum BroadcasterRequest {
    /// To send a message.
    Send(Box<BroadcastRequest>),
    /// How a broadcast stands, or to go on with one.
    Inquire(BroadcastInquiry),
}

/// A question about a broadcast that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum BroadcastInquiry {
    /// How it stands.
    Report {
        /// The broadcast.
        message_id: MessageId,
        /// How long to wait for its end; not at all where absent.
        #[serde(default)]
        wait_seconds: WaitSeconds,
    },
    /// To go on with what was not attempted, if nobody is at it.
    Resume {
        /// The broadcast.
        message_id: MessageId,
        /// How long to wait for its end; not at all where absent.
        #[serde(default)]
        wait_seconds: WaitSeconds,
    },
}

/// A request to send one message to some connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BroadcastRequest {
    /// The idempotency key; the invocation's request id where absent.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// Who is to receive it.
    pub target: Target,
    /// What they receive.
    pub message: Notice,
    /// Connections that are left out, for example the sender's own.
    #[serde(default)]
    pub exclude: Option<List<ConnectionId, 0, 1_000>>,
    /// How long to wait for the end, where the broadcast is large; not at all
    /// where absent.
    #[serde(default)]
    pub wait_seconds: WaitSeconds,
}

/// Who receives a broadcast.
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
        /// The user.
        user_id: UserId,
    },
    /// Every connection of some users.
    Users {
        /// The users; naming one twice changes nothing.
        user_ids: List<UserId, 1, 1_000>,
    },
    /// These connections. One without a live row counts as gone.
    Connections {
        /// The connections; naming one twice changes nothing.
        connection_ids: List<ConnectionId, 1, 10_000>,
    },
    /// Every connection there is.
    All {},
}

/// The message of a broadcast. Belfry adds the `id` and, where it is absent,
/// the `timestamp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// Callers may send notifications and nothing else.
    #[serde(rename = "type")]
    pub notice_type: NoticeType,
    /// The protocol version that the caller wrote the message for.
    #[serde(default)]
    pub version: Option<Version>,
    /// When what the message tells happened; the time of the broadcast where absent.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// The `id` of a client's frame that this message is an answer to.
    #[serde(default)]
    pub correlation_id: Option<FrameId>,
    /// What the notification says.
    pub data: NotificationData,
}

/// The frame types that callers may send: the others are Belfry's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NoticeType {
    /// A notification.
    Notification,
}

impl Notice {
    /// The frame that each recipient gets.
    #[must_use]
    pub fn into_frame(self, id: &MessageId, now: Timestamp) -> ServerFrame {
        ServerFrame::Notification(Envelope {
            version: Version,
            // A message id is a frame id: the same length, fewer characters.
            id: FrameId::parse(id.as_str()).ok(),
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
        request::parse(text, &["target", "message"])
    }

    /// The request as it is remembered and compared: what is asked for, not
    /// what it is called or how long the caller waits. [`Self::parse`] reads it.
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
    /// Parses a request: one with an `action` is an inquiry.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let value: Result<Value, _> = serde_json::from_str(text);
        if value.is_ok_and(|value| value.get("action").is_some()) {
            return request::parse(text, &[]).map(Self::Inquire);
        }
        BroadcastRequest::parse(text).map(|request| Self::Send(Box::new(request)))
    }
}

/// What became of a broadcast. `success + failure` is the number of
/// recipients found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastReport {
    /// The idempotency key, and the `id` of the frames.
    pub message_id: MessageId,
    /// How far it is.
    pub status: BroadcastStatus,
    /// Posts that API Gateway accepted.
    pub success: u64,
    /// Everything else: the sum of `failures`.
    pub failure: u64,
    /// Why posts failed.
    pub failures: Failures,
    /// Present and `false` where not every recipient is counted yet: ask again
    /// while `status` is `running`; `resume` it where it is `stopped`.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub complete: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_true(complete: &bool) -> bool {
    *complete
}

/// How far a broadcast is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BroadcastStatus {
    /// Every recipient is counted.
    Done,
    /// Somebody is at it.
    Running,
    /// Whoever was at it has died; `resume` goes on.
    Stopped,
}

/// Recipients that were not reached, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// The connection no longer exists.
    pub gone: u64,
    /// API Gateway refused for load, also after retries.
    pub throttled: u64,
    /// API Gateway refused the size.
    pub too_large: u64,
    /// The post timed out or failed otherwise; it may have arrived.
    pub failed: u64,
    /// Time ran out before the post.
    pub not_attempted: u64,
}

impl Add for Failures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            gone: self.gone + other.gone,
            throttled: self.throttled + other.throttled,
            too_large: self.too_large + other.too_large,
            failed: self.failed + other.failed,
            not_attempted: self.not_attempted + other.not_attempted,
        }
    }
}

impl Failures {
    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.gone + self.throttled + self.too_large + self.failed + self.not_attempted
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
        let frame = request.message.into_frame(
            &MessageId::parse("m-1").unwrap(),
            Timestamp::from_millis(1_770_660_703_822),
        );
        insta::assert_snapshot!(frame.to_json(), @r#"{"type":"notification","version":"1.0","id":"m-1","timestamp":"2026-02-09T18:11:43.822Z","data":{"kind":"k"}}"#);
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
    fn the_report_has_the_documented_form() {
        let failures = Failures {
            gone: 1,
            ..Failures::default()
        };
        let report = BroadcastReport {
            message_id: MessageId::parse("m").unwrap(),
            status: BroadcastStatus::Done,
            success: 2,
            failure: failures.total(),
            failures,
            complete: true,
        };
        insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"messageId":"m","status":"done","success":2,"failure":1,"failures":{"gone":1,"throttled":0,"tooLarge":0,"failed":0,"notAttempted":0}}"#);
    }

    #[test]
    fn an_action_makes_an_inquiry() {
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
            (r#"{"action":"dance","messageId":"m"}"#, "dance"),
            (
                r#"{"action":"report","messageId":"m","waitSeconds":21}"#,
                "at most 20",
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
        fn any_text_is_answered(text in "\\PC{0,200}") {
            let _ = BroadcastRequest::parse(&text);
        }

        // Whatever stands in a field, the answer is a request or a short
        // explanation.
        #[test]
        fn any_field_value_is_answered(
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
                Some(place) => *place = value,
                None => request["surprise"] = value,
            }
            if let Err(error) = BroadcastRequest::parse(&request.to_string()) {
                prop_assert!(error.to_string().len() <= 400, "{}", error);
            }
        }
    }
}
