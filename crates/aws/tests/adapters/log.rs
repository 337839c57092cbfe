//! Random histories of a log on the embedded DynamoDB. The fake runs thousands
//! more of them; here the adapter's calls are what is tested.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use belfry_aws::DynamoDb;
use belfry_core::log::{AppendId, Entry, Head, LogKey};
use belfry_core::ports::{Advanced, LogAppends};
use belfry_core::testing::{Mutant, explore_log};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::Epoch;

use crate::database::{MESSAGES, database, endpoint, tables};
use crate::lifecycle::store_at;
use crate::proxy::{Proxy, Trouble};

/// Does what DynamoDB does some time after items have expired.
async fn delete_expired(client: &Client, log: &LogKey, now: UnixMillis) {
    let items = client
        .query()
        .table_name(MESSAGES)
        .key_condition_expression("channel = :log")
        .expression_attribute_values(":log", AttributeValue::S(log.as_str().into()))
        .send()
        .await
        .unwrap()
        .items
        .unwrap_or_default();
    for mut item in items {
        let expires_at: u64 = item["expiresAt"].as_n().unwrap().parse().unwrap();
        if expires_at * 1_000 <= now.0 {
            item.retain(|name, _| name == "channel" || name == "position");
            let delete = client.delete_item().table_name(MESSAGES);
            delete.set_key(Some(item)).send().await.unwrap();
        }
    }
}

async fn explore(client: &Client, seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let store = DynamoDb::new(client.clone(), tables());
    let delete = async |log: &LogKey, now| delete_expired(client, log, now).await;
    explore_log(&store, delete, seed, mutant).await
}

#[tokio::test]
async fn no_history_breaks_a_promise() {
    let client = database().await;
    for seed in 0..300 {
        explore(&client, seed, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_mutant_breaks_a_promise_here_as_well() {
    let client = database().await;
    for mutant in [Mutant::SkipsHealing, Mutant::ListsBeforeAppending] {
        let mut found = false;
        for seed in 0..200 {
            found = explore(&client, seed, Some(mutant)).await.is_err();
            if found {
                break;
            }
        }
        assert!(found, "{mutant:?}");
    }
}

/// The head is where it was, and an earlier attempt may be on its way: to say
/// that it has moved would let the publisher append again.
#[tokio::test]
async fn a_transaction_that_holds_the_head_does_not_count_as_moved() {
    let database = endpoint().await;
    let proxy = Proxy::start(&database, Trouble::Conflict, 0).await;
    let store = store_at(&proxy.endpoint);
    let head = Head {
        epoch: Epoch::parse("19b76da0800aaaaaaaa").unwrap(),
        frames_before: Vec::new(),
        newest: Entry {
            seq: 1,
            append_id: AppendId("m".into()),
            expires_at: UnixSeconds(u64::MAX >> 1),
            frame: "{}".into(),
        },
    };
    let log = LogKey::channel("room:7");
    let advanced = store.advance(&log, None, &head, head.newest.expires_at, None);
    assert_eq!(advanced.await, Ok(Advanced::Yes));
    assert!(proxy.was_reached());
}
