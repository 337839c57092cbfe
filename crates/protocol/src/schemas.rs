//! The JSON Schemas of all messages that cross Belfry's edge.

use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::Value;

use crate::broadcast::ReceiptsFields;
use crate::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, ChannelsFile, ClientFrame, HookEvent,
    OperatorReport, OperatorRequest, PresenceRequest, PresentInChannel, ReceiptsReport,
    ServerFrame, SweepReport, SweepRequest,
};

/// All schemas (JSON Schema 2020-12) with the names of their files in
/// `schemas/`.
#[must_use]
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("client-frame.json", schema::<ClientFrame>(false)),
        ("server-frame.json", schema::<ServerFrame>(true)),
        ("broadcast-request.json", schema::<BroadcastRequest>(false)),
        ("broadcast-inquiry.json", schema::<BroadcastInquiry>(false)),
        ("broadcast-report.json", schema::<BroadcastReport>(true)),
        ("receipts-request.json", schema::<ReceiptsFields>(false)),
        ("receipts-report.json", schema::<ReceiptsReport>(true)),
        ("presence-request.json", schema::<PresenceRequest>(false)),
        ("presence-report.json", schema::<PresentInChannel>(true)),
        ("sweep-request.json", schema::<SweepRequest>(false)),
        ("sweep-report.json", schema::<SweepReport>(true)),
        ("operator-request.json", schema::<OperatorRequest>(false)),
        ("operator-report.json", schema::<OperatorReport>(true)),
        ("hook-event.json", schema::<HookEvent>(true)),
        ("channels.json", schema::<ChannelsFile>(false)),
    ]
}

fn schema<T: JsonSchema>(written_by_us: bool) -> Value {
    let mut settings =
        SchemaSettings::draft2020_12().with_transform(RecursiveTransform(unwrap_description));
    if written_by_us {
        settings = settings.for_serialize();
    }
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Joins the lines of a description, which are wrapped for the source code.
fn unwrap_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<_> = text.split("\n\n").map(|p| p.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

/// The text of a schema's file.
#[must_use]
pub fn to_file(schema: &Value) -> String {
    format!("{schema:#}\n")
}
