//! Frames that clients send.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Ack, Bare, BearerToken, Call, Envelope, ErrorCode, FrameId, List, Lock, Publish, ReadHistory,
    ReadPresence, Refused, Subscribe, Sync, Timestamp, Unlock, Unsubscribe, Version, VersionError,
    json, shape,
};

/// A frame from a client. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ClientFrame {
    /// Asks whether the server responds. The reply is `pong`.
    Ping(Bare),
    /// Asks about the connection and its limits. The reply is `welcome`.
    Hello(Hello),
    /// Answers a `ping` of the server. It gets no reply.
    Pong(Bare),
    /// Asks for a reply with the same `data`, which can be any JSON value. The
    /// reply is `echo`.
    Echo(Envelope<Value>),
    /// Extends the session with a newer token of the same user. The reply is
    /// `auth.refreshed`.
    #[serde(rename = "auth.refresh")]
    AuthRefresh(Envelope<AuthRefresh>),
    /// Subscribes to channels, and recovers messages that were missed. The
    /// reply is `subscribed`.
    Subscribe(Envelope<Subscribe>),
    /// Ends subscriptions. The reply is `unsubscribed`.
    Unsubscribe(Envelope<Unsubscribe>),
    /// Publishes a message to a channel. The reply is `published`.
    Publish(Envelope<Publish>),
    /// Asks for messages of a channel's history. The reply is `history`.
    History(Envelope<ReadHistory>),
    /// Asks for the newest positions of channels. The reply is `synced`.
    Sync(Envelope<Sync>),
    /// Asks who is present in a channel. The reply is `presence`.
    Presence(Envelope<ReadPresence>),
    /// Has a function of the application do something. The reply is `result`.
    Call(Envelope<Call>),
    /// Acknowledges every message of a channel up to a position. The reply is
    /// `acked`.
    Ack(Envelope<Ack>),
    /// Locks something in a channel, or renews a lock. The reply is `locked`.
    Lock(Envelope<Lock>),
    /// Releases a lock. The reply is `unlocked`.
    Unlock(Envelope<Unlock>),
}

/// A `hello` frame, which may have `data` or not.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The protocol version that the sender used.
    pub version: Version,
    /// The sender's id for this frame. A reply repeats it as `correlationId`.
    #[serde(default)]
    pub id: Option<FrameId>,
    /// When the sender made the frame.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// What the client wants besides the answer.
    #[serde(default)]
    pub data: Option<HelloData>,
    /// Ignored.
    #[serde(default)]
    pub correlation_id: Option<FrameId>,
}

/// The `data` of a `hello` frame.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, JsonSchema)]
pub struct HelloData {
    /// Subscribes as a `subscribe` frame does. `welcome` has the result.
    #[serde(default, deserialize_with = "shape::optional_object")]
    pub subscribe: Option<Subscribe>,
    /// Frame types that the client understands and that the server sends to no
    /// others: `batch`. Unknown ones are ignored. It holds until the connection
    /// ends.
    #[serde(default)]
    pub accepts: Option<List<String, 0, 16>>,
}

impl HelloData {
    /// Whether the client accepts `batch` frames.
    #[must_use]
    pub fn accepts_batch(&self) -> bool {
        let mut accepted = self.accepts.iter().flat_map(List::as_slice);
        accepted.any(|one| one == "batch")
    }
}

/// The `data` of an `auth.refresh` frame.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, JsonSchema)]
pub struct AuthRefresh {
    /// The new token. It must belong to the user who opened the connection.
    pub token: BearerToken,
}

impl ClientFrame {
    /// Parses a frame of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`Refused`] with the code for the first rule that the text breaks, in
    /// this order: size, JSON, object, `type` and `version` present, major
    /// version, known type, fields of the type. It contains the frame's `id`
    /// if that is valid.
    pub fn parse(text: &str, max_bytes: usize) -> Result<Self, Refused> {
        if text.len() > max_bytes {
            return Err(Refused::new(
                ErrorCode::MessageTooLarge,
                format!(
                    "a frame must have at most {max_bytes} bytes; this one has {}",
                    text.len()
                ),
            ));
        }
        let object = match json::parse(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(invalid("a frame must be a JSON object")),
            Err(error) => return Err(invalid(error.to_string())),
        };
        let correlation_id = object
            .get("id")
            .and_then(Value::as_str)
            .and_then(|id| FrameId::parse(id).ok());
        Self::from_object(object).map_err(|refused| Refused {
            correlation_id,
            ..refused
        })
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Refused> {
        let text = |field: &str| match object.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(invalid(format!("{field} must be a string"))),
            None => Err(invalid(format!("missing field `{field}`"))),
        };
        let frame_type = text("type")?;
        Version::parse(text("version")?).map_err(|error| match error {
            VersionError::Malformed => invalid(error.to_string()),
            VersionError::Unsupported => {
                Refused::new(ErrorCode::UnsupportedVersion, error.to_string())
            }
        })?;
        match frame_type {
            "ping" => read_with_object(object).map(Self::Ping),
            "hello" => read_with_object(object).map(Self::Hello),
            "subscribe" => read_with_object(object).map(Self::Subscribe),
            "unsubscribe" => read_with_object(object).map(Self::Unsubscribe),
            "publish" => read_with_object(object).map(Self::Publish),
            "history" => read_with_object(object).map(Self::History),
            "sync" => read_with_object(object).map(Self::Sync),
            "presence" => read_with_object(object).map(Self::Presence),
            "call" => read_with_object(object).map(Self::Call),
            "ack" => read_with_object(object).map(Self::Ack),
            "lock" => read_with_object(object).map(Self::Lock),
            "unlock" => read_with_object(object).map(Self::Unlock),
            "pong" => read_with_object(object).map(Self::Pong),
            "echo" => shape::read(object).map(Self::Echo).map_err(invalid),
            "auth.refresh" => read_with_object(object).map(Self::AuthRefresh),
            _ => Err(Refused::new(
                ErrorCode::UnknownType,
                "type must be one of ping, pong, hello, echo, auth.refresh, subscribe, unsubscribe, publish, history, sync, presence, lock, unlock, ack, call",
            )),
        }
    }

    /// The `id` that the client gave the frame, which the reply repeats as
    /// `correlationId`.
    #[must_use]
    pub fn id(&self) -> Option<&FrameId> {
        match self {
            Self::Ping(frame) | Self::Pong(frame) => frame.id.as_ref(),
            Self::Hello(frame) => frame.id.as_ref(),
            Self::Echo(frame) => frame.id.as_ref(),
            Self::AuthRefresh(frame) => frame.id.as_ref(),
            Self::Subscribe(frame) => frame.id.as_ref(),
            Self::Unsubscribe(frame) => frame.id.as_ref(),
            Self::Publish(frame) => frame.id.as_ref(),
            Self::History(frame) => frame.id.as_ref(),
            Self::Sync(frame) => frame.id.as_ref(),
            Self::Presence(frame) => frame.id.as_ref(),
            Self::Call(frame) => frame.id.as_ref(),
            Self::Ack(frame) => frame.id.as_ref(),
            Self::Lock(frame) => frame.id.as_ref(),
            Self::Unlock(frame) => frame.id.as_ref(),
        }
    }

    /// The value of `type`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Hello(_) => "hello",
            Self::Pong(_) => "pong",
            Self::Echo(_) => "echo",
            Self::AuthRefresh(_) => "auth.refresh",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::History(_) => "history",
            Self::Sync(_) => "sync",
            Self::Presence(_) => "presence",
            Self::Call(_) => "call",
            Self::Ack(_) => "ack",
            Self::Lock(_) => "lock",
            Self::Unlock(_) => "unlock",
        }
    }
}

/// Reads a frame whose `data` is an object or absent.
///
/// Given anything else, serde would accept an array of the fields.
fn read_with_object<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Refused> {
    match object.get("data") {
        None | Some(Value::Null | Value::Object(_)) => shape::read(object).map_err(invalid),
        Some(_) => Err(invalid("data must be a JSON object")),
    }
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidMessage, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const MAX: usize = 1024;

    #[test]
    fn parses_each_type() {
        let ping = ClientFrame::parse(r#"{"type":"ping","version":"1.0","id":"a"}"#, MAX).unwrap();
        assert!(matches!(ping, ClientFrame::Ping(Bare { id: Some(id), .. }) if id.as_str() == "a"));
        let echo = r#"{"type":"echo","version":"1.7","data":[1,null],"future":true}"#;
        let Ok(ClientFrame::Echo(echo)) = ClientFrame::parse(echo, MAX) else {
            panic!("not an echo")
        };
        assert_eq!(echo.data, json!([1, null]));
    }

    #[test]
    fn debug_output_does_not_show_the_token() {
        let text = r#"{"type":"auth.refresh","version":"1.0","id":"r","data":{"token":"secret"}}"#;
        let frame = ClientFrame::parse(text, MAX).unwrap();
        assert!(matches!(&frame, ClientFrame::AuthRefresh(_)));
        assert!(!format!("{frame:?}").contains("secret"));
    }

    #[test]
    fn an_error_does_not_quote_a_token_in_the_wrong_place() {
        for data in [
            json!("secret"),
            json!(["secret"]),
            json!({"token": ["secret"]}),
        ] {
            let frame = json!({"type": "auth.refresh", "version": "1.0", "data": data});
            let refused = ClientFrame::parse(&frame.to_string(), MAX).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidMessage);
            assert!(refused.message.contains("data"), "{refused}");
            assert!(!refused.message.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_refusal_carries_the_frames_id() {
        let refused =
            ClientFrame::parse(r#"{"type":"nope","version":"1.0","id":"x1"}"#, MAX).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownType);
        assert_eq!(refused.correlation_id.unwrap().as_str(), "x1");
        let refused =
            ClientFrame::parse(r#"{"type":"ping","version":"1.0","id":7}"#, MAX).unwrap_err();
        assert_eq!(refused.correlation_id, None);
        assert!(refused.message.starts_with("id: "), "{refused}");
    }

    #[test]
    fn a_refusal_is_short_whatever_was_sent() {
        let data = "\u{7f}".repeat(32_000);
        let frame = json!({"type": "ping", "version": "1.0", "data": data}).to_string();
        let refused = ClientFrame::parse(&frame, 128 * 1024).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidMessage);
        assert!(refused.message.len() <= 300, "{}", refused.message.len());
    }

    #[test]
    fn the_size_limit_counts_bytes() {
        let frame = r#"{"type":"ping","version":"1.0","id":"ü"}"#;
        assert!(ClientFrame::parse(frame, frame.len()).is_ok());
        let refused = ClientFrame::parse(frame, frame.len() - 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::MessageTooLarge);
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused(text in ".{0,200}") {
            let _ = ClientFrame::parse(&text, MAX);
        }

        #[test]
        fn any_field_value_is_accepted_or_refused(
            field in "type|version|id|timestamp|correlationId|data",
            value in r#"null|true|-1|1e9|"[a-z.0-9]{0,5}"|\[\]|\{\}|\[\{\}\]"#,
        ) {
            let mut frame = json!({"type": "echo", "version": "1.0", "data": 1});
            frame[&field] = serde_json::from_str(&value).unwrap();
            let _ = ClientFrame::parse(&frame.to_string(), MAX);
        }
    }
}
