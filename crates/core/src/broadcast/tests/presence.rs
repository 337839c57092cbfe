//! Who is present in a channel.

use belfry_protocol::{BroadcasterRequest, PresenceInfo};
use serde_json::{Value, json};

use super::Fixture;
use super::kept::{fixture, subscribe_with};
use crate::ports::{JoinsPresence, StoreError};

async fn ask(fixture: &Fixture) -> Result<Value, StoreError> {
    let request = json!({"action": "presence", "channel": "room:7"}).to_string();
    let Ok(BroadcasterRequest::Presence(request)) = BroadcasterRequest::parse(&request) else {
        panic!("{request}")
    };
    Ok(json!(fixture.presence(request).await?))
}

async fn come(fixture: &Fixture, id: &str) {
    let info = json!({"name": id}).to_string();
    let info = PresenceInfo::from_json(&info).unwrap();
    subscribe_with(fixture, id, "room:7", JoinsPresence::With(info)).await;
}

#[tokio::test(start_paused = true)]
async fn the_users_of_a_channel_are_told_with_their_info() {
    let fixture = fixture(10).await;
    let nobody = json!({"channel": "room:7", "members": [], "count": 0});
    assert_eq!(ask(&fixture).await, Ok(nobody));
    // Not present, only subscribed.
    subscribe_with(&fixture, "b1", "room:7", JoinsPresence::No).await;
    for id in ["a1", "a2"] {
        come(&fixture, id).await;
    }
    let members = json!([{"userId": "alice", "connections": 2, "info": {"name": "a2"}}]);
    let alice = json!({"channel": "room:7", "members": members, "count": 1});
    assert_eq!(ask(&fixture).await, Ok(alice));
}

#[tokio::test(start_paused = true)]
async fn of_a_large_channel_some_users_are_told_and_the_number() {
    let fixture = fixture(10).await;
    for id in ["a1", "b1"] {
        come(&fixture, id).await;
    }
    let told = ask(&fixture).await.unwrap();
    assert_eq!(told["members"].as_array().unwrap().len(), 1);
    assert_eq!((&told["count"], &told["more"]), (&json!(2), &json!(true)));
}
