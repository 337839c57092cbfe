//! The content of notifications: known kinds with fixed fields, and free ones.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::shape;

/// The longest `kind`, in characters.
const MAX_KIND_CHARS: usize = 64;

/// The `data` of a notification: an object with a `kind` of 1 to 64
/// characters. A kind that Belfry knows must have that kind's fields, and may
/// have more. The data of any other kind is passed on unchanged.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NotificationData(Map<String, Value>);

impl NotificationData {
    /// The whole object, including `kind`.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The kinds with fixed fields.
#[derive(JsonSchema)]
#[serde(tag = "kind")]
#[expect(dead_code, reason = "describes the kinds to the schema generator")]
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

/// Checks the fields of a known kind. Any other kind passes.
fn check(kind: &str, data: &Map<String, Value>) -> Result<(), String> {
    fn fits<T: DeserializeOwned>(data: &Map<String, Value>) -> Result<(), String> {
        shape::read::<T>(data.clone()).map(drop)
    }
    match kind {
        "upload.completed" | "upload.finalized" => fits::<Upload>(data),
        "set.created" => fits::<SetCreated>(data),
        "system.announcement" => fits::<Announcement>(data),
        _ => Ok(()),
    }
}

/// The data of `upload.completed` (all bytes have arrived) and of
/// `upload.finalized` (the file is processed and ready for use).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The name of the file, as the user knows it.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub file: String,
    // `skip_serializing_if` keeps the optional fields optional in the schema of
    // the server's frames.
    /// The size of the file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The media type of the file, for example `image/png`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The URL of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The data of `set.created`: a set of files now exists.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetCreated {
    /// The id of the set.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub set_id: String,
    /// The name that the user gave the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The data of `system.announcement`: a text to show to users.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// The text to show.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "non_empty")]
    pub text: String,
    /// The importance of the announcement.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "shape::optional_variant"
    )]
    pub level: Option<AnnouncementLevel>,
}

/// The importance of an announcement.
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
        return Err(de::Error::custom("must not be empty"));
    }
    Ok(text)
}

impl<'de> Deserialize<'de> for NotificationData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        let kind = match object.get("kind") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(de::Error::custom("kind must be a string")),
            None => return Err(de::Error::missing_field("kind")),
        };
        if !(1..=MAX_KIND_CHARS).contains(&kind.chars().take(MAX_KIND_CHARS + 1).count()) {
            return Err(de::Error::custom(format_args!(
                "kind must be a string of 1 to {MAX_KIND_CHARS} characters"
            )));
        }
        if let Err(error) = check(kind, &object) {
            return Err(de::Error::custom(format_args!("{kind}: {error}")));
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
            "description": "The content of a notification. A known `kind` has fixed fields and may have more; the data of any other kind is passed on unchanged.",
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {
                    "description": "What happened.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_KIND_CHARS,
                },
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
    fn a_known_kind_must_have_its_fields() {
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
    fn any_other_kind_passes_unchanged() {
        let data = json!({"kind": "chess.move", "file": 7, "deep": {"x": [1, 2]}});
        assert_eq!(
            Value::Object(read(data.clone()).unwrap().fields().clone()),
            data
        );
    }

    #[test]
    fn a_kind_is_required() {
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
