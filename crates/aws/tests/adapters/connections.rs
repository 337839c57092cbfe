use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType, Projection, ProjectionType, ScalarAttributeType,
};
use belfry_aws::{Clients, DynamoConnections};
use belfry_core::ports::{ConnectionStore, Inserted, Segment};
use belfry_core::testing::{START, connection, connection_id, store_contract, user_id};
use belfry_core::{Connection, UnixSeconds};

const TABLE: &str = "Connections";

/// An embedded DynamoDB with an empty table, as template.yaml describes it.
async fn database() -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let database = dynoxide::Database::memory().unwrap();
    tokio::spawn(dynoxide::server::serve_with_shutdown(
        listener,
        database,
        std::future::pending(),
    ));
    let client = Client::new(&crate::sdk_config(&endpoint));
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    let hash = |name: &str| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(KeyType::Hash)
            .build()
            .unwrap()
    };
    let projection = Projection::builder()
        .projection_type(ProjectionType::Include)
        .non_key_attributes("expiresAt")
        .non_key_attributes("tokenExpiresAt")
        .non_key_attributes("connectedAt")
        .build();
    let index = GlobalSecondaryIndex::builder()
        .index_name("userId-index")
        .key_schema(hash("userId"))
        .projection(projection)
        .build()
        .unwrap();
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("connectionId"))
        .attribute_definitions(attribute("userId"))
        .key_schema(hash("connectionId"))
        .global_secondary_indexes(index)
        .send()
        .await
        .unwrap();
    client
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    store_contract(async || DynamoConnections::new(database().await, TABLE.into())).await;
}

#[tokio::test]
async fn a_long_table_is_read_page_by_page() {
    let store = DynamoConnections::new(database().await, TABLE.into());
    // DynamoDB returns at most 1 MB a page; these rows have two kilobytes each.
    for n in 0..1_100 {
        let row = Connection {
            user_agent: Some("u".repeat(2_000)),
            ..connection(&format!("c{n}"), "alice")
        };
        assert_eq!(store.insert(&row).await, Ok(Inserted::Yes));
    }
    let (mut from, mut pages, mut found) = (None, 0, 0);
    loop {
        let page = store
            .scan(Segment { index: 0, total: 1 }, from, START)
            .await
            .unwrap();
        (from, pages, found) = (page.next, pages + 1, found + page.recipients.len());
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found, 1_100);
    assert!(pages > 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_nothing() {
    let client = database().await;
    let number = |n: u64| AttributeValue::N(n.to_string());
    client
        .put_item()
        .table_name(TABLE)
        .item("connectionId", AttributeValue::S("odd".into()))
        .item("userId", AttributeValue::S("alice".into()))
        .item("expiresAt", number(START.to_seconds().0 + 60))
        .item("connectedAt", AttributeValue::S("yesterday".into()))
        .send()
        .await
        .unwrap();
    let store = DynamoConnections::new(client, TABLE.into());
    store.insert(&connection("good", "alice")).await.unwrap();
    let listings = [
        store.of_user(&user_id("alice"), START).await.unwrap(),
        store
            .of_ids(&["odd", "good"].map(connection_id), START)
            .await
            .unwrap(),
        store
            .scan(Segment { index: 0, total: 1 }, None, START)
            .await
            .unwrap()
            .recipients,
    ];
    for listing in listings {
        assert_eq!(listing.len(), 1);
        assert_eq!(listing[0].id, connection_id("good"));
    }
}

#[tokio::test]
async fn the_numbers_are_in_the_documented_units() {
    let client = database().await;
    let store = DynamoConnections::new(client.clone(), TABLE.into());
    store.insert(&connection("c1", "alice")).await.unwrap();
    let item = client
        .get_item()
        .table_name(TABLE)
        .key("connectionId", AttributeValue::S("c1".into()))
        .send()
        .await;
    let item = item.unwrap().item.unwrap();
    let number = |name: &str| item[name].as_n().unwrap().parse::<u64>().unwrap();
    assert_eq!(number("connectedAt"), START.0);
    assert_eq!(number("lastSeenAt"), START.0);
    assert_eq!(
        UnixSeconds(number("expiresAt")),
        UnixSeconds(START.0 / 1_000 + 7_500)
    );
    assert_eq!(
        UnixSeconds(number("tokenExpiresAt")),
        UnixSeconds(START.0 / 1_000 + 3_600)
    );
}

#[tokio::test]
async fn a_table_out_of_reach_is_an_error_that_says_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = crate::sdk_config(&format!("http://{nobody}"));
    let store = DynamoConnections::new(Client::new(&config), TABLE.into());
    let error = store.insert(&connection("c1", "alice")).await.unwrap_err();
    assert_eq!(error.operation, "PutItem");
    assert!(error.cause.contains("onnect"), "{}", error.cause);

    let store = DynamoConnections::new(database().await, "Elsewhere".into());
    let error = store.touch(&connection_id("c1"), START).await.unwrap_err();
    assert!(
        error.cause.starts_with("ResourceNotFoundException"),
        "{}",
        error.cause
    );
}

#[tokio::test]
async fn a_table_that_never_answers_is_given_up_in_seconds() {
    // Accepts connections and says nothing, ever.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = crate::sdk_config(&format!("http://{}", silent.local_addr().unwrap()));
    let store = DynamoConnections::new(Clients::from(config).dynamodb(), TABLE.into());
    let row = connection("c1", "alice");
    let outcome = tokio::time::timeout(Duration::from_secs(20), store.insert(&row)).await;
    assert!(outcome.expect("a bounded wait").is_err());
}
