//! `AWS::DynamoDB::Table`.

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::Properties;

#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub name: String,
    /// The body of `CreateTable`.
    pub create: Value,
    pub ttl_attribute: Option<String>,
}

/// Properties that `CreateTable` takes unchanged.
const CREATE: [&str; 6] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "ProvisionedThroughput",
];

/// Accepted, with no effect on one machine.
const IGNORED: [&str; 4] = [
    "DeletionProtectionEnabled",
    "PointInTimeRecoverySpecification",
    "SSESpecification",
    "Tags",
];

pub(super) fn read(id: &str, properties: &Properties<'_>) -> Result<TableSpec, TemplateError> {
    let read: Vec<_> = CREATE
        .into_iter()
        .chain(["TableName", "TimeToLiveSpecification"])
        .collect();
    properties.allow_only(&read, &IGNORED)?;
    let name = properties
        .string("TableName")?
        .unwrap_or_else(|| id.to_owned());
    let mut create = Map::from_iter([("TableName".to_owned(), Value::from(name.as_str()))]);
    for property in CREATE {
        create.extend(
            properties
                .get(property)?
                .map(|value| (property.to_owned(), value)),
        );
    }
    let ttl_attribute = match properties.get("TimeToLiveSpecification")? {
        None => None,
        Some(specification) if specification["Enabled"] == false => None,
        Some(specification) => match specification["AttributeName"].as_str() {
            Some(attribute) => Some(attribute.to_owned()),
            None => {
                return Err(properties.error("TimeToLiveSpecification.AttributeName", "is missing"));
            }
        },
    };
    Ok(TableSpec {
        name,
        create: Value::Object(create),
        ttl_attribute,
    })
}
