//! The JSON Schemas of everything that crosses Belfry's edge.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use crate::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, ClientFrame, OperatorReport,
    OperatorRequest, ServerFrame, SweepReport, SweepRequest,
};

/// Every schema (JSON Schema 2020-12) with the name of its file in `schemas/`.
#[must_use]
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("client-frame.json", schema::<ClientFrame>(false)),
        ("server-frame.json", schema::<ServerFrame>(true)),
        ("broadcast-request.json", schema::<BroadcastRequest>(false)),
        ("broadcast-inquiry.json", schema::<BroadcastInquiry>(false)),
        ("broadcast-report.json", schema::<BroadcastReport>(true)),
        ("sweep-request.json", schema::<SweepRequest>(false)),
        ("sweep-report.json", schema::<SweepReport>(true)),
        ("operator-request.json", schema::<OperatorRequest>(false)),
        ("operator-report.json", schema::<OperatorReport>(true)),
    ]
}

fn schema<T: JsonSchema>(written_by_us: bool) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    if written_by_us {
        settings = settings.for_serialize();
    }
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// A schema as the text of its file.
#[must_use]
pub fn to_file(schema: &Value) -> String {
    format!("{schema:#}\n")
}
