//! Frames that clients send.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Bare, BearerToken, Envelope, ErrorCode, FrameId, Refused, Version, VersionError, json, shape,
};

/// A frame from a client, checked.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ClientFrame {
    /// Are you there? Answered with `pong`.
    Ping(Bare),
    /// Who am I here? Answered with `welcome`.
    Hello(Bare),
    /// I am here: answers the server's `ping`, and is not answered itself.
    Pong(Bare),
    /// Say it back. `data` is any JSON value; answered with the same.
    Echo(Envelope<Value>),
    /// Here is a newer token of the same user. Answered with `auth.refreshed`.
    #[serde(rename = "auth.refresh")]
    AuthRefresh(Envelope<AuthRefresh>),
}

/// The `data` of an `auth.refresh` frame.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, JsonSchema)]
pub struct AuthRefresh {
    /// The new token.
    pub token: BearerToken,
}

impl ClientFrame {
    /// Parses a frame of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`Refused`] with the code for the first rule that the text breaks, in
    /// this order: size, JSON, object, `type` and `version` present, major
    /// version, known type, the shape of the type. It holds the frame's `id`
    /// if that is a valid one.
    pub fn parse(text: &str, max_bytes: usize) -> Result<Self, Refused> {
        if text.len() > max_bytes {
            return Err(Refused::new(
                ErrorCode::MessageTooLarge,
                format!(
                    "a frame may have {max_bytes} bytes; this one has {}",
                    text.len()
                ),
            ));
        }
        let object = match json::parse(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(invalid("a frame is a JSON object")),
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
            None => Err(invalid(format!("{field} is missing"))),
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
            "pong" => read_with_object(object).map(Self::Pong),
            "echo" => shape::read(object).map(Self::Echo).map_err(invalid),
            "auth.refresh" => read_with_object(object).map(Self::AuthRefresh),
            _ => Err(Refused::new(
                ErrorCode::UnknownType,
                "type must be one of ping, pong, hello, echo, auth.refresh",
            )),
        }
    }

    /// The sender's name for the frame.
    #[must_use]
    pub fn id(&self) -> Option<&FrameId> {
        match self {
            Self::Ping(frame) | Self::Hello(frame) | Self::Pong(frame) => frame.id.as_ref(),
            Self::Echo(frame) => frame.id.as_ref(),
            Self::AuthRefresh(frame) => frame.id.as_ref(),
        }
    }

    /// The type as it stands on the wire.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Hello(_) => "hello",
            Self::Pong(_) => "pong",
            Self::Echo(_) => "echo",
            Self::AuthRefresh(_) => "auth.refresh",
        }
    }
}

/// Reads a frame whose `data`, where it has any, is an object.
///
/// Of anything else serde would either repeat the value, which may be a token
/// in the wrong place, or take a list of the fields.
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
    fn reads_each_type() {
        let ping = ClientFrame::parse(r#"{"type":"ping","version":"1.0","id":"a"}"#, MAX).unwrap();
        assert!(matches!(ping, ClientFrame::Ping(Bare { id: Some(id), .. }) if id.as_str() == "a"));
        let echo = r#"{"type":"echo","version":"1.7","data":[1,null],"future":true}"#;
        let Ok(ClientFrame::Echo(echo)) = ClientFrame::parse(echo, MAX) else {
            panic!("not an echo")
        };
        assert_eq!(echo.data, json!([1, null]));
    }

    #[test]
    fn a_frame_with_a_token_does_not_show_it() {
        let text = r#"{"type":"auth.refresh","version":"1.0","id":"r","data":{"token":"secret"}}"#;
        let frame = ClientFrame::parse(text, MAX).unwrap();
        assert!(matches!(&frame, ClientFrame::AuthRefresh(_)));
        assert!(!format!("{frame:?}").contains("secret"));
    }

    #[test]
    fn a_token_in_the_wrong_place_is_not_repeated() {
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
    fn a_refusal_names_the_frame_it_refuses() {
        let refused =
            ClientFrame::parse(r#"{"type":"nope","version":"1.0","id":"x1"}"#, MAX).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownType);
        assert_eq!(refused.correlation_id.unwrap().as_str(), "x1");
        let refused =
            ClientFrame::parse(r#"{"type":"ping","version":"1.0","id":7}"#, MAX).unwrap_err();
        assert_eq!(refused.correlation_id, None);
        assert!(refused.message.contains("id, a string"), "{refused}");
    }

    #[test]
    fn a_refusal_stays_short_whatever_was_sent() {
        let data = "\u{7f}".repeat(32_000);
        let frame = json!({"type": "ping", "version": "1.0", "data": data}).to_string();
        let refused = ClientFrame::parse(&frame, 128 * 1024).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidMessage);
        assert!(refused.message.len() <= 300, "{}", refused.message.len());
    }

    #[test]
    fn the_size_is_counted_in_bytes() {
        let frame = r#"{"type":"ping","version":"1.0","id":"ü"}"#;
        assert!(ClientFrame::parse(frame, frame.len()).is_ok());
        let refused = ClientFrame::parse(frame, frame.len() - 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::MessageTooLarge);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let _ = ClientFrame::parse(&text, MAX);
        }

        #[test]
        fn any_field_value_is_answered(
            field in "type|version|id|timestamp|correlationId|data",
            value in r#"null|true|-1|1e9|"[a-z.0-9]{0,5}"|\[\]|\{\}|\[\{\}\]"#,
        ) {
            let mut frame = json!({"type": "echo", "version": "1.0", "data": 1});
            frame[&field] = serde_json::from_str(&value).unwrap();
            let _ = ClientFrame::parse(&frame.to_string(), MAX);
        }
    }
}
