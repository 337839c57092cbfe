use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The largest claims that are kept of a token, in bytes of compact JSON. They
/// are part of the connection's row, and every write of a row costs by its size.
pub const MAX_CLAIMS_BYTES: usize = 2_048;

/// The claims of a token that channel rules name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims(BTreeMap<String, Claim>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    Text(String),
    Texts(Vec<String>),
}

/// The token's claims take too much room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token's claims that channel rules name take {bytes} bytes; at most {MAX_CLAIMS_BYTES} are kept"
)]
pub struct ClaimsTooLarge {
    pub bytes: usize,
}

/// A text is not what [`Claims::to_json`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("claims must be a JSON object of texts and lists of texts")]
pub struct InvalidClaims;

impl Claims {
    /// Keeps the named claims of a token. Ignores those that are neither a text
    /// nor a list of texts: no rule can match them.
    ///
    /// # Errors
    /// [`ClaimsTooLarge`] beyond [`MAX_CLAIMS_BYTES`].
    pub fn keep<'a>(
        token: &Map<String, Value>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ClaimsTooLarge> {
        let kept = |name: &str| {
            let claim = Claim::read(token.get(name)?)?;
            Some((name.to_owned(), claim))
        };
        let claims = Self(names.into_iter().filter_map(kept).collect());
        let bytes = claims.to_json().len();
        if bytes > MAX_CLAIMS_BYTES {
            return Err(ClaimsTooLarge { bytes });
        }
        Ok(claims)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a claim is this text, or a list that contains it.
    #[must_use]
    pub fn contains(&self, name: &str, text: &str) -> bool {
        self.texts(name).iter().any(|one| one == text)
    }

    /// The texts of a claim: none if it is absent, one if it is no list.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            None => &[],
            Some(Claim::Text(text)) => std::slice::from_ref(text),
            Some(Claim::Texts(texts)) => texts,
        }
    }

    /// The claims as they were in the token.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let written = |(name, claim): (&String, &Claim)| (name.clone(), claim.write());
        Value::Object(self.0.iter().map(written).collect())
    }

    /// The claims as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// Reads what [`Claims::to_json`] wrote.
    ///
    /// # Errors
    /// [`InvalidClaims`] for any other text.
    pub fn from_json(text: &str) -> Result<Self, InvalidClaims> {
        let read = |(name, value): (String, Value)| Some((name, Claim::read(&value)?));
        match serde_json::from_str(text) {
            Ok(Value::Object(claims)) => {
                let claims: Option<_> = claims.into_iter().map(read).collect();
                claims.map(Self).ok_or(InvalidClaims)
            }
            _ => Err(InvalidClaims),
        }
    }
}

impl Claim {
    fn read(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match value {
            Value::Array(list) => list
                .iter()
                .map(text)
                .collect::<Option<_>>()
                .map(Self::Texts),
            value => text(value).map(Self::Text),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Texts(texts) => Value::from(texts.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn keep(token: &Value, names: &[&str]) -> Result<Claims, ClaimsTooLarge> {
        Claims::keep(token.as_object().unwrap(), names.iter().copied())
    }

    #[test]
    fn named_texts_and_lists_of_texts_are_kept() {
        let token = json!({
            "sub": "alice", "cognito:groups": ["a", "b"], "none": [], "other": "x",
            "number": 7, "mixed": ["a", 7], "object": {"a": "b"}, "null": null, "flag": true,
        });
        let names = [
            "sub",
            "cognito:groups",
            "none",
            "number",
            "mixed",
            "object",
            "null",
            "flag",
            "absent",
        ];
        let claims = keep(&token, &names).unwrap();
        let json = r#"{"cognito:groups":["a","b"],"none":[],"sub":"alice"}"#;
        assert_eq!(claims.to_json(), json);
        assert!(claims.contains("sub", "alice"));
        assert!(claims.contains("cognito:groups", "b"));
        for (name, text) in [
            ("sub", "ALICE"),
            ("none", ""),
            ("other", "x"),
            ("number", "7"),
        ] {
            assert!(!claims.contains(name, text), "{name}");
        }
    }

    #[test]
    fn the_size_has_a_limit() {
        let room = MAX_CLAIMS_BYTES - r#"{"a":""}"#.len();
        let fits = json!({"a": "x".repeat(room), "other": "y".repeat(5_000)});
        assert_eq!(keep(&fits, &["a"]).unwrap().to_json().len(), 2_048);
        let error = keep(&json!({"a": "x".repeat(room + 1)}), &["a"]).unwrap_err();
        assert_eq!(error, ClaimsTooLarge { bytes: 2_049 });
        assert!(error.to_string().contains("at most 2048"), "{error}");
    }

    #[test]
    fn nothing_else_is_read_back() {
        for wrong in [
            "",
            "[]",
            "null",
            r#"{"a":7}"#,
            r#"{"a":["b",null]}"#,
            r#"{"a":"b"} x"#,
        ] {
            assert_eq!(Claims::from_json(wrong), Err(InvalidClaims), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn claims_survive_the_row(
            text in "\\PC{0,20}",
            list in prop::collection::vec("(?s).{0,10}", 0..5),
        ) {
            let token = json!({"a\"": text, "b:c": list});
            let claims = keep(&token, &["a\"", "b:c"]).unwrap();
            prop_assert_eq!(Claims::from_json(&claims.to_json()), Ok(claims));
        }
    }
}
