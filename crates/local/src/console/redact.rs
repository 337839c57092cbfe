//! Removes tokens from what the console shows. A client sends one in
//! `auth.refresh`, and an application's function may log one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

/// A signed token in its compact form (RFC 7515): its header is an object, which
/// begins with `{"` and in base64 with `eyJ`. The end may have been cut off.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let token = r"eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){1,2}";
    Regex::new(token).expect("a valid expression")
});

const TOKEN_START: &str = "eyJ";

const REDACTED: &str = "(token)";

/// A frame without tokens. Its JSON is written anew only if it had one, or has
/// escapes: of members with the same name, `Value` keeps the last.
pub(super) fn redact_frame(text: &str) -> Cow<'_, str> {
    let Ok(mut frame) = serde_json::from_str::<Value>(text) else {
        return redact_text(text);
    };
    if redact_value(&mut frame) || text.contains(r"\u") {
        return Cow::Owned(frame.to_string());
    }
    redact_text(text)
}

pub(super) fn redact_text(text: &str) -> Cow<'_, str> {
    // Much faster than the expression, and most texts have none.
    if !text.contains(TOKEN_START) {
        return Cow::Borrowed(text);
    }
    TOKEN.replace_all(text, REDACTED)
}

/// Returns whether there was a token. The values are decoded, so no escape hides
/// one.
pub(super) fn redact_value(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let redacted = redact_text(text);
            let found = matches!(redacted, Cow::Owned(_));
            if found {
                *text = redacted.into_owned();
            }
            found
        }
        Value::Array(values) => values
            .iter_mut()
            .fold(false, |found, value| redact_value(value) | found),
        Value::Object(members) => {
            let mut found = false;
            for (name, value) in members.iter_mut() {
                if is_token(name) && value.is_string() {
                    *value = REDACTED.into();
                    found = true;
                } else {
                    found |= redact_value(value);
                }
            }
            found
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a member of this name holds a token, of whatever form.
fn is_token(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "authorization"].contains(&&*name) || name.ends_with("token")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

    #[test]
    fn a_token_is_removed_wherever_it_is() {
        for text in [
            format!(r#"{{"type":"auth.refresh","data":{{"token":"{JWT}"}}}}"#),
            format!(r#"{{"type":"x","data":["Bearer {JWT}"]}}"#),
            format!(r#"{{"data":"\u0065{}"}}"#, &JWT[1..]),
            format!(r#"{{"x":"{JWT}","x":"(token)"}}"#),
            format!(r#"{{"x":"\u0065{}","x":"(token)"}}"#, &JWT[1..]),
            format!("not JSON: {JWT}"),
            format!("cut off: {}", &JWT[..30]),
            r#"{"data":{"accessToken":"c2lnbmF0dXJl"}}"#.to_owned(),
            r#"{"Authorization":"c2lnbmF0dXJl"}"#.to_owned(),
        ] {
            let redacted = redact_frame(&text);
            assert!(redacted.contains("(token)"), "{redacted}");
            for secret in ["c2lnbmF0dXJl", "bGljZ", "c2"] {
                assert!(!redacted.contains(secret), "{redacted}");
            }
        }
    }

    #[test]
    fn anything_else_stays_as_it_was_sent() {
        for text in [
            r#"{ "type":"ping",  "version":"1.0" }"#,
            r#"{"data":{"tokenExpiresAt":"2026-11-26T12:00:00Z","n":12345678901234567890123}}"#,
            "a.b.c and eyJ",
            "",
        ] {
            assert_eq!(redact_frame(text), text);
        }
    }
}
