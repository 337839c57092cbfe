//! Random histories of a lock on the embedded DynamoDB. The fake runs thousands
//! more of them; here the adapter's calls are what is tested.

use aws_sdk_dynamodb::Client;
use belfry_aws::DynamoDb;
use belfry_core::UnixMillis;
use belfry_core::testing::{LockMutant, explore_lock};

use crate::database::{SUBSCRIPTIONS, database, tables};

/// Does what DynamoDB does some time after locks have expired.
async fn delete_expired(client: &Client, now: UnixMillis) {
    let items = client.scan().table_name(SUBSCRIPTIONS).send().await;
    for mut item in items.unwrap().items.unwrap_or_default() {
        let expires_at: u64 = item["expiresAt"].as_n().unwrap().parse().unwrap();
        if item["member"].as_s().unwrap().starts_with("l#") && expires_at * 1_000 <= now.0 {
            item.retain(|name, _| name == "channel" || name == "member");
            let delete = client.delete_item().table_name(SUBSCRIPTIONS);
            delete.set_key(Some(item)).send().await.unwrap();
        }
    }
}

async fn explore(seed: u64, mutant: Option<LockMutant>) -> Result<(), String> {
    let client = database().await;
    let store = DynamoDb::new(client.clone(), tables());
    let delete = async |now| delete_expired(&client, now).await;
    explore_lock(&store, delete, seed, mutant).await
}

#[tokio::test]
async fn never_two_holders() {
    for seed in 0..100 {
        explore(seed, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_mutant_breaks_a_promise_here_as_well() {
    for mutant in [LockMutant::ReleasesBlindly, LockMutant::DoesNotList] {
        let mut found = false;
        for seed in 0..100 {
            found = explore(seed, Some(mutant)).await.is_err();
            if found {
                break;
            }
        }
        assert!(found, "{mutant:?}");
    }
}
