//! `AWS::DynamoDB::Table`.

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::Properties;

/// A table as the embedded DynamoDB makes it.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    /// Its name.
    pub name: String,
    /// The body of `CreateTable`.
    pub create: Value,
    /// The attribute that says when an item expires.
    pub ttl_attribute: Option<String>,
}

/// Properties that `CreateTable` takes as they are.
const CREATE: [&str; 6] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "ProvisionedThroughput",
];

/// Known, and without a meaning on one machine.
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
    properties.only(&read, &IGNORED)?;
    let name = properties
        .text("TableName")?
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
                return Err(properties.wrong("TimeToLiveSpecification.AttributeName", "is missing"));
            }
        },
    };
    Ok(TableSpec {
        name,
        create: Value::Object(create),
        ttl_attribute,
    })
}
