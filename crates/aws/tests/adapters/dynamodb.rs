use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use belfry_aws::DynamoDb;
use belfry_core::channels::Actions;
use belfry_core::connections::{Connection, ConnectionLimits, shard_of};
use belfry_core::liveness::Liveness;
use belfry_core::ports::{
    Acquired, Admission, Admissions, Admitted, BroadcastKey, Consistency, DueConnections,
    JoinsPresence, Listing, Recipients, Segment, SegmentLeases, SegmentStates, Sessions,
    Subscribers, Subscription, Subscriptions,
};
use belfry_core::testing::{
    BUCKET, LIMITS, START, connection, connection_id, store_contract, user_id,
};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ChannelName, MessageId};
use futures_util::StreamExt;

use crate::database::{CONNECTIONS, STATE, SUBSCRIPTIONS, database, tables};

pub(crate) async fn put(store: &DynamoDb, row: &Connection) {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    assert_eq!(store.admit(admission, LIMITS).await, Ok(Admitted::Yes));
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    store_contract(async || DynamoDb::new(database().await, tables())).await;
}

#[tokio::test]
async fn a_long_table_is_read_page_by_page() {
    let store = DynamoDb::new(database().await, tables());
    // DynamoDB reads at most 1 MB a page. These rows have two kilobytes each,
    // and are fewer than the adapter asks for in a page.
    for n in 0..700 {
        let row = Connection {
            user_agent: Some("u".repeat(2_000)),
            ..connection(&format!("c{n}"), &format!("user-{}", n % 100))
        };
        put(&store, &row).await;
    }
    let (mut after, mut pages, mut found) = (None, 0, 0);
    loop {
        let whole = Segment { index: 0, total: 1 };
        let page = store
            .scan(whole, after.as_ref(), Consistency::Eventual, START)
            .await
            .unwrap();
        (after, pages, found) = (page.next, pages + 1, found + page.recipients.len());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 700);
    assert!(pages > 1);
}

#[tokio::test]
async fn a_subscription_that_cannot_be_read_does_not_stop_a_fan_out() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let row = connection("c1", "alice");
    put(&store, &row).await;
    let channel = ChannelName::parse("room:1").unwrap();
    let wanted = [Subscription {
        channel: channel.clone(),
        ends_at: row.token_expires_at,
        allowed: None,
        actions: Actions::default(),
        presence: JoinsPresence::No,
    }];
    store.subscribe(&row, &wanted, 50, START).await.unwrap();
    // Without a user.
    let broken = client
        .put_item()
        .table_name(SUBSCRIPTIONS)
        .item("channel", AttributeValue::S("room:1".into()))
        .item("member", AttributeValue::S("c#00#c2".into()))
        .item("endsAt", AttributeValue::N("9999999999".into()));
    broken.send().await.unwrap();
    let whole = Segment { index: 0, total: 1 };
    let listed = store.subscribers(&channel, Listing::All, whole, None, 100, START);
    let ids: Vec<_> = listed
        .await
        .unwrap()
        .recipients
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(ids, [row.id]);
}

#[tokio::test]
async fn a_long_due_list_is_read_page_by_page() {
    let store = DynamoDb::new(database().await, tables());
    // More connections of one shard, due at the same time, than a page has.
    let ids = (0..).map(|n| format!("c{n}"));
    let of_one_shard = ids.filter(|id| shard_of(&connection_id(id), 16) == 3);
    for (n, id) in of_one_shard.take(250).enumerate() {
        let row = Connection {
            liveness: Liveness::due_at(START),
            ..connection(&id, &format!("user-{n}"))
        };
        put(&store, &row).await;
    }
    let due: Vec<_> = store.due(START).collect().await;
    let distinct: std::collections::BTreeSet<_> = due.into_iter().map(Result::unwrap).collect();
    assert_eq!(distinct.len(), 250);
}

#[tokio::test]
async fn a_malformed_cursor_is_an_error_and_not_the_beginning() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let key = BroadcastKey {
        id: MessageId::parse("m").unwrap(),
        started_at: START,
    };
    let (until, end) = (after(2), after(60).to_seconds());
    let acquired = store.acquire(&key, 0, "one", START, until, end).await;
    assert!(matches!(acquired, Ok(Acquired::Lease(_))), "{acquired:?}");
    let text = |text: &str| AttributeValue::S(text.into());
    for malformed in [text("c7"), text("index:-1"), AttributeValue::Bool(true)] {
        let update = client
            .update_item()
            .table_name(STATE)
            .key("pk", text("broadcast#m"))
            .key("sk", text(&format!("segment#{}#0000", START.0)))
            .update_expression("SET #cursor = :cursor")
            .expression_attribute_names("#cursor", "cursor")
            .expression_attribute_values(":cursor", malformed.clone());
        update.send().await.unwrap();
        assert!(store.segments(&key).await.is_err(), "{malformed:?}");
        let acquired = store.acquire(&key, 0, "one", START, until, end).await;
        assert!(acquired.is_err(), "{malformed:?}");
    }
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
    let store = DynamoDb::new(client, tables());
    put(&store, &connection("good", "alice")).await;
    let listings = [
        store
            .of_user(&user_id("alice"), Consistency::Eventual, START)
            .await
            .unwrap(),
        store
            .of_ids(&["odd", "good"].map(connection_id), START)
            .await
            .unwrap(),
        store
            .scan(
                Segment { index: 0, total: 1 },
                None,
                Consistency::Eventual,
                START,
            )
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
    let store = DynamoDb::new(client.clone(), tables());
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
async fn an_unreachable_table_is_an_error_that_says_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = crate::sdk_config(&format!("http://{nobody}"));
    let store = DynamoDb::new(Client::new(&config), tables());
    let row = connection("c1", "alice");
    let error = store.admit(admission(&row), LIMITS).await.unwrap_err();
    assert_eq!(error.operation, "TransactWriteItems");
    assert!(error.cause.contains("onnect"), "{}", error.cause);

    let elsewhere = belfry_aws::Tables {
        connections: "Elsewhere".into(),
        ..tables()
    };
    let store = DynamoDb::new(database().await, elsewhere);
    let touched = store.touch(&connection_id("c1"), &BUCKET, START).await;
    let error = touched.unwrap_err();
    assert!(
        error.cause.starts_with("ResourceNotFoundException"),
        "{}",
        error.cause
    );
}

#[tokio::test]
async fn a_table_that_never_answers_is_given_up_in_seconds() {
    // Accepts connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let store = DynamoDb::new(crate::clients(&endpoint).dynamodb(), tables());
    let row = connection("c1", "alice");
    let insert = store.admit(admission(&row), LIMITS);
    let outcome = tokio::time::timeout(Duration::from_secs(20), insert).await;
    assert!(outcome.expect("a bounded wait").is_err());
}

pub(crate) fn after(minutes: u64) -> UnixMillis {
    START.plus(Duration::from_secs(60 * minutes))
}

/// Does what DynamoDB does long after a row has expired, or an operator by hand.
pub(crate) async fn delete_row(client: &Client, id: &str) {
    let delete = client
        .delete_item()
        .table_name(CONNECTIONS)
        .key("connectionId", AttributeValue::S(id.into()));
    delete.send().await.unwrap();
}

#[tokio::test]
async fn a_full_set_drops_lost_rows() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let few = ConnectionLimits {
        total: 100,
        per_user: 2,
    };
    for id in ["c1", "c2"] {
        put(&store, &connection(id, "alice")).await;
    }
    let row = connection("c3", "alice");
    let full = store.admit(admission(&row), few).await;
    assert_eq!(full, Ok(Admitted::UserAtCapacity));
    delete_row(&client, "c1").await;
    let inserted = store.admit(admission(&row), few).await;
    assert_eq!(inserted, Ok(Admitted::Yes));
    let row = connection("c4", "alice");
    let full = store.admit(admission(&row), few).await;
    assert_eq!(full, Ok(Admitted::UserAtCapacity));
}

#[tokio::test]
async fn a_set_of_more_than_a_batch_is_cleaned_as_well() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let limits = ConnectionLimits {
        total: 1_000,
        per_user: 120,
    };
    for n in 0..120 {
        let row = connection(&format!("c{n}"), "alice");
        assert_eq!(
            store.admit(admission(&row), limits).await,
            Ok(Admitted::Yes)
        );
    }
    let row = connection("one-more", "alice");
    let full = store.admit(admission(&row), limits).await;
    assert_eq!(full, Ok(Admitted::UserAtCapacity));
    delete_row(&client, "c119").await;
    assert_eq!(
        store.admit(admission(&row), limits).await,
        Ok(Admitted::Yes)
    );
}
