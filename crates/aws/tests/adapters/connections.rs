use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use belfry_aws::{Clients, DynamoConnections};
use belfry_core::ports::{
    Admission, ConnectionStore, Inserted, Places, RecipientStore, Segment, SweepStore,
};
use belfry_core::testing::{
    BUDGET, PLACES, START, connection, connection_id, store_contract, user_id,
};
use belfry_core::{Connection, UnixMillis, UnixSeconds};

use crate::database::{CONNECTIONS, STATE, database, expect_sets, expect_slots, tables};

async fn put(store: &DynamoConnections, row: &Connection) {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    assert_eq!(store.insert(admission, PLACES).await, Ok(Inserted::Yes));
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    store_contract(async || DynamoConnections::new(database().await, tables())).await;
}

#[tokio::test]
async fn a_long_table_is_read_page_by_page() {
    let store = DynamoConnections::new(database().await, tables());
    // DynamoDB returns at most 1 MB a page; these rows have two kilobytes each.
    for n in 0..1_100 {
        let row = Connection {
            user_agent: Some("u".repeat(2_000)),
            ..connection(&format!("c{n}"), &format!("user-{}", n % 100))
        };
        put(&store, &row).await;
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
        .table_name(CONNECTIONS)
        .item("connectionId", AttributeValue::S("odd".into()))
        .item("userId", AttributeValue::S("alice".into()))
        .item("expiresAt", number(START.to_seconds().0 + 60))
        .item("connectedAt", AttributeValue::S("yesterday".into()))
        .send()
        .await
        .unwrap();
    let store = DynamoConnections::new(client, tables());
    put(&store, &connection("good", "alice")).await;
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
    let store = DynamoConnections::new(client.clone(), tables());
    put(&store, &connection("c1", "alice")).await;
    let item = client
        .get_item()
        .table_name(CONNECTIONS)
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

fn admission(row: &Connection) -> Admission<'_> {
    Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    }
}

#[tokio::test]
async fn a_table_out_of_reach_is_an_error_that_says_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = crate::sdk_config(&format!("http://{nobody}"));
    let store = DynamoConnections::new(Client::new(&config), tables());
    let row = connection("c1", "alice");
    let error = store.insert(admission(&row), PLACES).await.unwrap_err();
    assert_eq!(error.operation, "TransactWriteItems");
    assert!(error.cause.contains("onnect"), "{}", error.cause);

    let elsewhere = belfry_aws::Tables {
        connections: "Elsewhere".into(),
        ..tables()
    };
    let store = DynamoConnections::new(database().await, elsewhere);
    let touched = store.touch(&connection_id("c1"), &BUDGET, START).await;
    let error = touched.unwrap_err();
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
    let store = DynamoConnections::new(Clients::from(config).dynamodb(), tables());
    let row = connection("c1", "alice");
    let insert = store.insert(admission(&row), PLACES);
    let outcome = tokio::time::timeout(Duration::from_secs(20), insert).await;
    assert!(outcome.expect("a bounded wait").is_err());
}

fn after(minutes: u64) -> UnixMillis {
    START.plus(Duration::from_secs(60 * minutes))
}

/// What DynamoDB does long after a row's time is over, or an operator by hand.
async fn delete_row(client: &Client, id: &str) {
    let delete = client
        .delete_item()
        .table_name(CONNECTIONS)
        .key("connectionId", AttributeValue::S(id.into()));
    delete.send().await.unwrap();
}

#[tokio::test]
async fn what_a_lost_row_held_is_given_back() {
    let client = database().await;
    let store = DynamoConnections::new(client.clone(), tables());
    for n in 0..40 {
        put(&store, &connection(&format!("c{n}"), "alice")).await;
    }
    for n in 0..10 {
        delete_row(&client, &format!("c{n}")).await;
    }
    assert_eq!(store.count().await, Ok(40));
    // Each of the counters is noted, compared a minute later, and a second
    // time before it is believed that it says too much.
    for minute in 0..=34 {
        store.audit(after(minute)).await.unwrap();
    }
    assert_eq!(store.count().await, Ok(30));
    assert_eq!(expect_slots(&client, "corrected").await, 30);
}

#[tokio::test]
async fn counters_that_were_lost_are_made_again() {
    let client = database().await;
    let store = DynamoConnections::new(client.clone(), tables());
    for n in 0..40 {
        put(&store, &connection(&format!("c{n}"), "alice")).await;
    }
    for slot in 0..16 {
        let key = |name: &str| AttributeValue::S(name.into());
        let delete = client
            .delete_item()
            .table_name(STATE)
            .key("pk", key(&format!("slot#{slot:02}")))
            .key("sk", key("connections"));
        delete.send().await.unwrap();
    }
    assert_eq!(store.disconnect(&connection_id("c0"), START).await, Ok(()));
    for minute in 0..=17 {
        store.audit(after(minute)).await.unwrap();
    }
    assert_eq!(expect_slots(&client, "made again").await, 39);
    expect_sets(&client, "made again").await;
}

#[tokio::test]
async fn a_full_set_forgets_rows_that_were_lost() {
    let client = database().await;
    let store = DynamoConnections::new(client.clone(), tables());
    let few = Places {
        total: 100,
        per_user: 2,
    };
    for id in ["c1", "c2"] {
        put(&store, &connection(id, "alice")).await;
    }
    let row = connection("c3", "alice");
    let full = store.insert(admission(&row), few).await;
    assert_eq!(full, Ok(Inserted::UserFull));
    delete_row(&client, "c1").await;
    let inserted = store.insert(admission(&row), few).await;
    assert_eq!(inserted, Ok(Inserted::Yes));
    let row = connection("c4", "alice");
    let full = store.insert(admission(&row), few).await;
    assert_eq!(full, Ok(Inserted::UserFull));
}

#[tokio::test]
async fn a_set_of_more_than_a_batch_is_full_and_cleaned_as_well() {
    let client = database().await;
    let store = DynamoConnections::new(client.clone(), tables());
    let places = Places {
        total: 1_000,
        per_user: 120,
    };
    for n in 0..120 {
        let row = connection(&format!("c{n}"), "alice");
        assert_eq!(
            store.insert(admission(&row), places).await,
            Ok(Inserted::Yes)
        );
    }
    let row = connection("one-more", "alice");
    let full = store.insert(admission(&row), places).await;
    assert_eq!(full, Ok(Inserted::UserFull));
    delete_row(&client, "c119").await;
    assert_eq!(
        store.insert(admission(&row), places).await,
        Ok(Inserted::Yes)
    );
}
