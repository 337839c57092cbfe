//! What a caller of `Invoke` says of itself.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Lambda's limit, in bytes of base64.
const MAX_BYTES: usize = 3_583;

/// The caller's context as a header of the Runtime API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientContext(HeaderValue);

/// Why a header `X-Amz-Client-Context` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidContext {
    #[error("client context must be at most {MAX_BYTES} bytes")]
    TooLarge,
    #[error("Client context must be a valid Base64-encoded JSON object.")]
    NotJson,
}

impl ClientContext {
    /// Parses the header of `Invoke`: base64 of a JSON object.
    pub(super) fn parse(header: &str) -> Result<Self, InvalidContext> {
        if header.len() > MAX_BYTES {
            return Err(InvalidContext::TooLarge);
        }
        let json = STANDARD.decode(header).ok();
        let object = json.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
        let object = object.ok_or(InvalidContext::NotJson)?;
        // Written anew, because a header takes no line breaks.
        let header = HeaderValue::try_from(Value::Object(object).to_string());
        header.map(Self).map_err(|_| InvalidContext::NotJson)
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<String, InvalidContext> {
        let parsed = ClientContext::parse(&STANDARD.encode(json));
        parsed.map(|context| String::from_utf8(context.header().as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_context_is_a_json_object() {
        let context = parse("{\"custom\":\n {\"by\":\"ü\"}}");
        assert_eq!(context.as_deref(), Ok(r#"{"custom":{"by":"ü"}}"#));
        for wrong in ["", "[]", "\"by\"", "{", "{}x"] {
            assert_eq!(parse(wrong), Err(InvalidContext::NotJson), "{wrong}");
        }
        let not_base64 = ClientContext::parse("{}");
        assert_eq!(not_base64, Err(InvalidContext::NotJson));
    }

    #[test]
    fn a_context_has_a_limit() {
        let of = |bytes: usize| ClientContext::parse(&"A".repeat(bytes));
        assert_eq!(of(MAX_BYTES), Err(InvalidContext::NotJson));
        assert_eq!(of(MAX_BYTES + 1), Err(InvalidContext::TooLarge));
    }
}
