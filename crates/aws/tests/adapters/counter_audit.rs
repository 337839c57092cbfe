//! The audit of the counters, and an index that lags.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use belfry_aws::DynamoDb;
use belfry_core::connections::shard_of;
use belfry_core::ports::{Capacity, Disconnections};
use belfry_core::testing::{START, connection, connection_id};
use serde_json::{Value, json};

use crate::database::{STATE, database, endpoint, expect_counters, expect_sets, tables};
use crate::dynamodb::{after, delete_row, put};

/// How the due index looks while changes to it are under way.
#[derive(Debug)]
enum Shown {
    AsItIs,
    /// Each row at its old place and at its new one.
    Twice,
    /// Also a row that has left the shard.
    Also(String),
}

/// A way to a database whose due index lags.
struct LaggingIndex {
    database: String,
    client: reqwest::Client,
    shown: Mutex<Shown>,
}

impl LaggingIndex {
    /// The index, a client of the database behind it, and a store that sees
    /// the index.
    async fn start() -> (Arc<Self>, Client, DynamoDb) {
        let index = Arc::new(Self {
            database: endpoint().await,
            client: reqwest::Client::new(),
            shown: Mutex::new(Shown::AsItIs),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(lag).with_state(Arc::clone(&index));
        tokio::spawn(async { axum::serve(listener, app).await });
        let client = Client::new(&crate::sdk_config(&index.database));
        let store = DynamoDb::new(Client::new(&crate::sdk_config(&url)), tables());
        (index, client, store)
    }

    fn shows(&self, shown: Shown) {
        *self.shown.lock().unwrap() = shown;
    }
}

async fn lag(State(index): State<Arc<LaggingIndex>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let answer = crate::proxy::forward(&index.client, &index.database, headers, body).await;
    if request["IndexName"] != "due-index" {
        return answer.into_response();
    }
    let (status, text) = answer;
    let mut page: Value = serde_json::from_slice(&text).unwrap();
    let count = page["Count"].as_u64().unwrap();
    let mut items = page["Items"].as_array().cloned().unwrap_or_default();
    match &*index.shown.lock().unwrap() {
        Shown::AsItIs => {}
        Shown::Twice => {
            items.extend(items.clone());
            page["Count"] = json!(2 * count);
        }
        Shown::Also(id) => {
            items.push(json!({"connectionId": {"S": id}}));
            page["Count"] = json!(count + 1);
        }
    }
    page["Items"] = items.into();
    (status, page.to_string()).into_response()
}

/// Ids of connections that are counted in a shard.
fn ids_of_shard(shard: u32) -> impl Iterator<Item = String> {
    let ids = (0..).map(|n| format!("c{n}"));
    ids.filter(move |id| shard_of(&connection_id(id), 64) == shard)
}

async fn delete_counter(client: &Client, shard: u32) {
    let delete = client.delete_item().table_name(STATE);
    let delete = delete.set_key(Some(counter_key(shard)));
    delete.send().await.unwrap();
}

fn counter_key(shard: u32) -> HashMap<String, AttributeValue> {
    let text = |text: &str| AttributeValue::S(text.into());
    HashMap::from([
        ("pk".into(), text(&format!("shard#{shard:02}"))),
        ("sk".into(), text("connections")),
    ])
}

/// The numbers of a counter's item.
async fn counter(client: &Client, shard: u32) -> BTreeMap<String, u64> {
    let get = client.get_item().table_name(STATE);
    let get = get.set_key(Some(counter_key(shard))).send().await.unwrap();
    let item = get.item.unwrap_or_default().into_iter();
    let number = |value: AttributeValue| value.as_n().ok()?.parse().ok();
    item.filter_map(|(name, value)| Some((name, number(value)?)))
        .collect()
}

#[tokio::test]
async fn correct_counters_stay() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    for n in 0..40 {
        put(&store, &connection(&format!("c{n}"), "alice")).await;
    }
    for minute in 0..70 {
        store.audit_counters(after(minute)).await.unwrap();
        assert_eq!(store.open_connections().await, Ok(40), "minute {minute}");
    }
    assert_eq!(expect_counters(&client, "correct").await, 40);
}

#[tokio::test]
async fn the_count_of_a_lost_row_is_corrected() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    for n in 0..40 {
        put(&store, &connection(&format!("c{n}"), "alice")).await;
    }
    for n in 0..10 {
        delete_row(&client, &format!("c{n}")).await;
    }
    assert_eq!(store.open_connections().await, Ok(40));
    // Each counter is noted, compared a minute later, and compared again
    // before it is corrected downwards.
    for minute in 0..=34 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(store.open_connections().await, Ok(30));
    assert_eq!(expect_counters(&client, "corrected").await, 30);
}

#[tokio::test]
async fn lost_counters_are_restored() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    for n in 0..40 {
        put(&store, &connection(&format!("c{n}"), "alice")).await;
    }
    for shard in 0..64 {
        delete_counter(&client, shard).await;
    }
    assert_eq!(store.disconnect(&connection_id("c0"), START).await, Ok(()));
    for minute in 0..=17 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "restored").await, 39);
    expect_sets(&client, "restored").await;
}

#[tokio::test]
async fn a_row_that_the_index_shows_twice_counts_once() {
    let (index, client, store) = LaggingIndex::start().await;
    for id in ids_of_shard(0).take(8) {
        put(&store, &connection(&id, "alice")).await;
    }
    index.shows(Shown::Twice);
    for minute in 0..=1 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "shown twice").await, 8);
}

#[tokio::test]
async fn a_row_counts_only_in_its_own_shard() {
    let (index, client, store) = LaggingIndex::start().await;
    let elsewhere = ids_of_shard(9).next().unwrap();
    for id in ids_of_shard(0).take(4).chain([elsewhere.clone()]) {
        put(&store, &connection(&id, "alice")).await;
    }
    index.shows(Shown::Also(elsewhere));
    for minute in 0..=1 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "shown elsewhere").await, 5);
}

#[tokio::test]
async fn a_restored_counter_is_complete_and_can_be_corrected_again() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let ids: Vec<_> = ids_of_shard(0).take(8).collect();
    for id in &ids {
        put(&store, &connection(id, "alice")).await;
    }
    let normal: Vec<_> = counter(&client, 0).await.into_keys().collect();
    delete_counter(&client, 0).await;
    for minute in 0..=1 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "restored").await, 8);
    let mut restored = counter(&client, 0).await;
    restored.retain(|name, _| normal.contains(name));
    assert!(restored.keys().eq(&normal), "{restored:?}");
    delete_row(&client, &ids[0]).await;
    for minute in 2..=33 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "corrected again").await, 7);
}
