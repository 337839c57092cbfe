//! The audit of the counters, and an index that lags.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
use crate::proxy::{Proxy, Trouble};

const HOUR: Duration = Duration::from_secs(3_600);

/// How the due index looks while changes to it are under way.
#[derive(Debug)]
enum Shown {
    AsItIs,
    /// Each row at its old place and at its new one.
    Twice,
    /// Some rows of each shard at neither place.
    Without(usize),
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
            client: crate::plain_http(),
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
        Shown::Without(hidden) => {
            items.truncate(items.len().saturating_sub(*hidden));
            page["Count"] = json!(count.saturating_sub(*hidden as u64));
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
pub(crate) fn ids_of_shard(shard: u32) -> impl Iterator<Item = String> {
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
    prefer_first_shard(&client).await;
    for minute in 2..=5 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "corrected again").await, 7);
}

/// Makes every audit choose the first shard, unless it is noted.
async fn prefer_first_shard(client: &Client) {
    for shard in 1..64 {
        set(client, shard, "auditedAt", after(1_000_000).0).await;
    }
}

/// The minute in which the first shard is then compared for the nth time.
fn comparison(nth: u64) -> u64 {
    2 * nth + 1
}

/// Audits until the first shard was compared, by an index that hides so many
/// rows each time.
async fn compare_first_shard(index: &LaggingIndex, store: &DynamoDb, hidden: &[usize]) {
    for (nth, hidden) in (0..).zip(hidden) {
        index.shows(Shown::Without(*hidden));
        let begin = if nth == 0 { 0 } else { comparison(nth - 1) + 1 };
        for minute in begin..=comparison(nth) {
            store.audit_counters(after(minute)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_counter_is_lowered_by_what_two_comparisons_in_a_row_saw() {
    // Of nine rows, two are lost.
    for (hidden, right) in [
        (&[0usize] as &[usize], 9),
        (&[3, 0], 7),
        (&[0, 3], 7),
        // What was left over is forgotten.
        (&[0, 3, 0], 7),
    ] {
        let (index, client, store) = LaggingIndex::start().await;
        let ids: Vec<_> = ids_of_shard(0).take(9).collect();
        for id in &ids {
            put(&store, &connection(id, "alice")).await;
        }
        for id in &ids[..2] {
            delete_row(&client, id).await;
        }
        prefer_first_shard(&client).await;
        compare_first_shard(&index, &store, hidden).await;
        let connections = counter(&client, 0).await["connections"];
        assert_eq!(connections, right, "{hidden:?}");
    }
}

#[tokio::test]
async fn a_right_counter_stays_if_comparisons_contradict_each_other() {
    let (index, client, store) = LaggingIndex::start().await;
    for id in ids_of_shard(0).take(9) {
        put(&store, &connection(&id, "alice")).await;
    }
    prefer_first_shard(&client).await;
    compare_first_shard(&index, &store, &[3, 0, 3]).await;
    assert_eq!(expect_counters(&client, "contradictions").await, 9);
}

#[tokio::test]
async fn a_counter_that_is_too_low_by_one_is_raised() {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    for id in ids_of_shard(0).take(20) {
        put(&store, &connection(&id, "alice")).await;
    }
    set_connections(&client, 0, 19).await;
    for minute in 0..=1 {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(expect_counters(&client, "raised").await, 20);
}

#[tokio::test]
async fn a_suspicion_ends_with_a_raise() {
    let (index, client, store) = LaggingIndex::start().await;
    for id in ids_of_shard(0).take(9) {
        put(&store, &connection(&id, "alice")).await;
    }
    prefer_first_shard(&client).await;
    compare_first_shard(&index, &store, &[3]).await;
    assert_eq!(counter(&client, 0).await["suspected"], 3);
    set_connections(&client, 0, 7).await;
    index.shows(Shown::AsItIs);
    for minute in comparison(0) + 1..=comparison(1) {
        store.audit_counters(after(minute)).await.unwrap();
    }
    let raised = counter(&client, 0).await;
    assert_eq!((raised["connections"], raised["suspected"]), (9, 0));
}

/// Does what an operator does by hand.
async fn set_connections(client: &Client, shard: u32, connections: u64) {
    set(client, shard, "connections", connections).await;
}

async fn set(client: &Client, shard: u32, name: &str, value: u64) {
    let update = client.update_item().table_name(STATE);
    let update = update
        .set_key(Some(counter_key(shard)))
        .update_expression("SET #name = :value")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", AttributeValue::N(value.to_string()));
    update.send().await.unwrap();
}

#[tokio::test]
async fn a_suspicion_ends_with_a_correction_that_cannot_be_written() {
    let (index, client, _) = suspected().await;
    // After the counters, the shard's rows and its counter.
    let proxy = Proxy::start(&index.database, Trouble::Pause, 3).await;
    let paused = DynamoDb::new(Client::new(&crate::sdk_config(&proxy.endpoint)), tables());
    let change = async {
        proxy.reached().await;
        set_connections(&client, 0, 0).await;
        proxy.go_on();
    };
    let (audited, ()) = tokio::join!(paused.audit_counters(after(comparison(1))), change);
    audited.unwrap();
    let left = counter(&client, 0).await;
    assert_eq!((left["connections"], left["suspected"]), (0, 0));
    assert!(!left.contains_key("notedAt"), "{left:?}");
}

/// A first shard whose counter is one too high and suspected of it, just before
/// its second comparison.
async fn suspected() -> (Arc<LaggingIndex>, Client, DynamoDb) {
    let (index, client, store) = LaggingIndex::start().await;
    let ids: Vec<_> = ids_of_shard(0).take(9).collect();
    for id in &ids {
        put(&store, &connection(id, "alice")).await;
    }
    delete_row(&client, &ids[0]).await;
    prefer_first_shard(&client).await;
    for minute in 0..comparison(1) {
        store.audit_counters(after(minute)).await.unwrap();
    }
    assert_eq!(counter(&client, 0).await["suspected"], 1);
    (index, client, store)
}

#[tokio::test]
async fn a_note_that_is_younger_than_the_listing_is_left_alone() {
    let (index, client, _) = suspected().await;
    // After the counters and the shard's rows.
    let proxy = Proxy::start(&index.database, Trouble::Pause, 2).await;
    let paused = DynamoDb::new(Client::new(&crate::sdk_config(&proxy.endpoint)), tables());
    let noted_again = async {
        proxy.reached().await;
        set(&client, 0, "notedAt", after(comparison(1)).0).await;
        proxy.go_on();
    };
    let (audited, ()) = tokio::join!(paused.audit_counters(after(comparison(1))), noted_again);
    audited.unwrap();
    let left = counter(&client, 0).await;
    assert_eq!(
        (left["connections"], left["suspected"], left["notedAt"]),
        (9, 1, after(comparison(1)).0)
    );
}

#[tokio::test]
async fn a_suspicion_that_is_too_young_or_too_old_confirms_nothing() {
    let now = after(comparison(1));
    for (audited_at, right) in [(now, 9), (after(0).minus(HOUR), 9), (after(0), 8)] {
        let (_, client, store) = suspected().await;
        set(&client, 0, "auditedAt", audited_at.0).await;
        store.audit_counters(now).await.unwrap();
        let left = counter(&client, 0).await;
        assert_eq!(left["connections"], right, "audited at {audited_at:?}");
        assert!(!left.contains_key("notedAt"));
    }
}

#[tokio::test]
async fn a_note_that_is_too_old_or_of_the_future_is_made_anew() {
    for noted_at in [after(0).minus(HOUR), after(600)] {
        let (_, client, store) = suspected().await;
        set(&client, 0, "notedAt", noted_at.0).await;
        let now = after(comparison(1));
        store.audit_counters(now).await.unwrap();
        let left = counter(&client, 0).await;
        assert_eq!((left["connections"], left["notedAt"]), (9, now.0));
    }
}
