//! What a notification says: known kinds with a schema, others as they are.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

/// The longest `kind`, in characters.
const MAX_KIND_CHARS: usize = 64;

/// The `data` of a notification: an object with a `kind` of 1 to 64
/// characters. A kind that Belfry knows must have that kind's shape (with
/// more fields if the sender likes); any other kind passes as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NotificationData(Map<String, Value>);

impl NotificationData {
    /// The whole object, `kind` included.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The kinds that have a schema.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
#[expect(
    dead_code,
    reason = "read to check a shape; the data passes as it came"
)]
enum KnownKind {
    #[serde(rename = "upload.completed")]
    UploadCompleted(Upload),
    #[serde(rename = "upload.finalized")]
    UploadFinalized(Upload),
    #[serde(rename = "set.created")]
    SetCreated(SetCreated),
    #[serde(rename = "system.announcement")]
    SystemAnnouncement(Announcement),
}

const KNOWN_KINDS: [&str; 4] = [
    "upload.completed",
    "upload.finalized",
    "set.created",
    "system.announcement",
];

/// `upload.completed`: all bytes have arrived. `upload.finalized`: the file
/// has been processed and can be used.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The file's name, as the user knows it.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub file: String,
    // Absent in what is written, too: without this the schema of a server's
    // frame would require the optional fields.
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Where it can be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `set.created`: a set of files exists now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetCreated {
    /// The set's id.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub set_id: String,
    /// What the user calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `system.announcement`: words for people.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// The words.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub text: String,
    /// How much they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<AnnouncementLevel>,
}

/// How much an announcement matters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnnouncementLevel {
    /// Good to know.
    Info,
    /// Something may not work as usual.
    Warning,
    /// The user should act.
    Critical,
}

fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(de::Error::invalid_length(0, &"at least one character"));
    }
    Ok(text)
}

impl<'de> Deserialize<'de> for NotificationData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        let kind = match object.get("kind") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return Err(de::Error::custom("kind must be a string")),
            None => return Err(de::Error::missing_field("kind")),
        };
        if !(1..=MAX_KIND_CHARS).contains(&kind.chars().take(MAX_KIND_CHARS + 1).count()) {
            return Err(de::Error::custom(format_args!(
                "kind must be a string of 1 to {MAX_KIND_CHARS} characters"
            )));
        }
        if KNOWN_KINDS.contains(&kind.as_str()) {
            let checked: Result<KnownKind, _> =
                serde_path_to_error::deserialize(Value::Object(object.clone()));
            if let Err(error) = checked {
                return Err(de::Error::custom(format_args!(
                    "{kind}: {}",
                    error.into_inner()
                )));
            }
        }
        Ok(Self(object))
    }
}

impl JsonSchema for NotificationData {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NotificationData".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A known kind has its own shape; any other kind passes as it is.",
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string", "minLength": 1, "maxLength": MAX_KIND_CHARS},
            },
            "if": {"properties": {"kind": {"enum": KNOWN_KINDS}}},
            "then": generator.subschema_for::<KnownKind>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<NotificationData, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn each_known_kind_has_its_shape() {
        for (good, field) in [
            (json!({"kind": "upload.completed", "file": "x.png"}), "file"),
            (
                json!({"kind": "upload.finalized", "file": "x.png", "more": 1}),
                "file",
            ),
            (json!({"kind": "set.created", "setId": "s1"}), "setId"),
            (
                json!({"kind": "system.announcement", "text": "hi", "level": "info"}),
                "text",
            ),
        ] {
            assert_eq!(
                Value::Object(read(good.clone()).unwrap().fields().clone()),
                good
            );
            let mut bad = good;
            bad.as_object_mut().unwrap().remove(field);
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn other_kinds_pass_as_they_are() {
        let data = json!({"kind": "chess.move", "file": 7, "deep": {"x": [1, 2]}});
        assert_eq!(
            Value::Object(read(data.clone()).unwrap().fields().clone()),
            data
        );
    }

    #[test]
    fn a_kind_is_needed() {
        for wrong in [
            json!({}),
            json!({"kind": 1}),
            json!({"kind": ""}),
            json!([]),
            json!({"kind": "k".repeat(65)}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
