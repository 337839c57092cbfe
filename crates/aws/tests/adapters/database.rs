//! An embedded DynamoDB with the tables that template.yaml describes.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType, Projection, ProjectionType, ScalarAttributeType,
};
use belfry_aws::Tables;

pub(crate) const CONNECTIONS: &str = "Connections";
pub(crate) const MESSAGES: &str = "Messages";
pub(crate) const STATE: &str = "State";
pub(crate) const SUBSCRIPTIONS: &str = "Subscriptions";

type Item = std::collections::HashMap<String, AttributeValue>;

pub(crate) fn tables() -> Tables {
    Tables {
        connections: CONNECTIONS.into(),
        messages: MESSAGES.into(),
        subscriptions: SUBSCRIPTIONS.into(),
        state: STATE.into(),
    }
}

/// A client of a new database with empty tables.
pub(crate) async fn database() -> Client {
    let endpoint = endpoint().await;
    Client::new(&crate::sdk_config(&endpoint))
}

/// The endpoint of a new database with empty tables.
pub(crate) async fn endpoint() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let database = dynoxide::Database::memory().unwrap();
    tokio::spawn(dynoxide::server::serve_with_shutdown(
        listener,
        database,
        std::future::pending(),
    ));
    create_tables(&Client::new(&crate::sdk_config(&endpoint))).await;
    endpoint
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    let attribute = AttributeDefinition::builder();
    let attribute = attribute.attribute_name(name).attribute_type(kind);
    attribute.build().unwrap()
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    let element = KeySchemaElement::builder().attribute_name(name);
    element.key_type(kind).build().unwrap()
}

async fn create_tables(client: &Client) {
    let projection = Projection::builder()
        .projection_type(ProjectionType::Include)
        .non_key_attributes("expiresAt")
        .non_key_attributes("tokenExpiresAt")
        .non_key_attributes("connectedAt");
    let user_index = GlobalSecondaryIndex::builder()
        .index_name("userId-index")
        .key_schema(key("userId", KeyType::Hash))
        .projection(projection.build());
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly);
    let due_index = GlobalSecondaryIndex::builder()
        .index_name("due-index")
        .key_schema(key("shard", KeyType::Hash))
        .key_schema(key("dueAt", KeyType::Range))
        .projection(keys_only.build());
    let connections = client
        .create_table()
        .table_name(CONNECTIONS)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("connectionId", ScalarAttributeType::S))
        .attribute_definitions(attribute("userId", ScalarAttributeType::S))
        .attribute_definitions(attribute("shard", ScalarAttributeType::N))
        .attribute_definitions(attribute("dueAt", ScalarAttributeType::N))
        .key_schema(key("connectionId", KeyType::Hash))
        .global_secondary_indexes(user_index.build().unwrap())
        .global_secondary_indexes(due_index.build().unwrap());
    connections.send().await.unwrap();
    for (table, hash, range) in [
        (STATE, "pk", "sk"),
        (MESSAGES, "channel", "position"),
        (SUBSCRIPTIONS, "channel", "member"),
    ] {
        let create = client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute(hash, ScalarAttributeType::S))
            .attribute_definitions(attribute(range, ScalarAttributeType::S))
            .key_schema(key(hash, KeyType::Hash))
            .key_schema(key(range, KeyType::Range));
        create.send().await.unwrap();
    }
}

async fn all(client: &Client, table: &str) -> Vec<Item> {
    let pages = client.scan().table_name(table).into_paginator().items();
    let items = pages.send().collect::<Result<Vec<_>, _>>().await;
    items.unwrap()
}

/// Expects that the counters agree with the rows. Returns the number of
/// connections that count.
pub(crate) async fn expect_counters(client: &Client, context: &str) -> i64 {
    let mut by_shard = BTreeMap::new();
    for row in all(client, CONNECTIONS).await {
        if !row.contains_key("replacedAt") {
            let shard: u32 = row["shard"].as_n().unwrap().parse().unwrap();
            *by_shard.entry(format!("shard#{shard:02}")).or_insert(0) += 1;
        }
    }
    let mut counters = BTreeMap::new();
    for item in all(client, STATE).await {
        if let Some(count) = item.get("connections") {
            let count: i64 = count.as_n().unwrap().parse().unwrap();
            assert!(count >= 0, "{context}: {item:?}");
            counters.insert(item["pk"].as_s().unwrap().clone(), count);
        }
    }
    counters.retain(|_, count| *count > 0);
    assert_eq!(counters, by_shard, "{context}: the counters and the rows");
    by_shard.values().sum()
}

/// Expects that the users' sets list exactly the rows.
pub(crate) async fn expect_sets(client: &Client, context: &str) {
    let mut by_user = BTreeMap::<_, BTreeSet<_>>::new();
    for row in all(client, CONNECTIONS).await {
        let user = format!("user#{}", row["userId"].as_s().unwrap());
        let id = row["connectionId"].as_s().unwrap().clone();
        by_user.entry(user).or_default().insert(id);
    }
    let mut sets = BTreeMap::new();
    for item in all(client, STATE).await {
        if let Some(ids) = item.get("connectionIds") {
            let ids: BTreeSet<_> = ids.as_ss().unwrap().iter().cloned().collect();
            sets.insert(item["pk"].as_s().unwrap().clone(), ids);
        }
    }
    assert_eq!(sets, by_user, "{context}: the users' sets and the rows");
}
