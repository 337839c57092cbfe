use belfry_protocol::Action;

use super::*;
use crate::locks::TAKEOVER;
use crate::ports::Disconnections;

const RULES: &str = r#"{"version":"1.0",
    "channels": [
        {"match": "room:*", "allow": ["subscribe", "lock"]},
        {"match": "club:*", "groups": ["editors"], "allow": ["subscribe", "lock"]},
        {"match": "club:*", "allow": ["subscribe"]},
        {"match": "news", "allow": ["subscribe"]},
        {"match": "doc:*", "allow": "ask"}]}"#;

/// Alice's connection `c1`, and `c2` and `c3` of Bob.
async fn with_rules() -> Fixture {
    let mut dispatcher = dispatcher().await;
    dispatcher.rules = RULES.parse().unwrap();
    for id in ["c2", "c3"] {
        dispatcher.store.put(id, "bob").await;
        dispatcher.outbox.open(id);
    }
    dispatcher
}

async fn frame(dispatcher: &Fixture, id: &str, frame_type: &str, data: Value) -> Value {
    let body = json!({"type": frame_type, "version": "1.0", "id": "f", "data": data});
    let (answer, _) = send(dispatcher, id, &body.to_string()).await;
    answer.expect("an answer")
}

async fn subscribe(dispatcher: &Fixture, id: &str, channel: &str) {
    let data = json!({"channels": [{"channel": channel}]});
    let answer = frame(dispatcher, id, "subscribe", data).await;
    assert_eq!(answer["data"]["channels"][0]["error"], json!(null));
}

async fn all_in(channel: &str) -> Fixture {
    let dispatcher = with_rules().await;
    for id in ["c1", "c2", "c3"] {
        subscribe(&dispatcher, id, channel).await;
    }
    dispatcher
}

async fn lock(dispatcher: &Fixture, id: &str, channel: &str, name: &str) -> Value {
    let data = json!({"channel": channel, "name": name});
    frame(dispatcher, id, "lock", data).await
}

async fn unlock(dispatcher: &Fixture, id: &str, channel: &str, name: &str) {
    let data = json!({"channel": channel, "name": name});
    let answer = frame(dispatcher, id, "unlock", data.clone()).await;
    assert_eq!(
        (&answer["type"], &answer["data"]),
        (&json!("unlocked"), &data)
    );
}

/// The `data` of each `lock.changed` that a connection was sent.
fn told(dispatcher: &Fixture, id: &str) -> Vec<Value> {
    let posted = dispatcher.outbox.posted(id);
    let frames = posted
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap());
    let changes = frames.filter(|frame| frame["type"] == "lock.changed");
    changes.map(|frame| frame["data"].clone()).collect()
}

fn code(answer: &Value) -> &str {
    answer["data"]["code"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn one_connection_holds_a_lock() {
    let dispatcher = all_in("room:7").await;
    let locked = lock(&dispatcher, "c2", "room:7", "title").await;
    assert_eq!(locked["type"], "locked", "{locked}");
    assert_eq!(locked["data"]["until"], "2026-01-01T00:00:30.000Z");
    let fencing = locked["data"]["fencing"].as_u64().unwrap();
    // Alice, and Bob's other tab.
    for other in ["c1", "c3"] {
        let refused = lock(&dispatcher, other, "room:7", "title").await;
        assert_eq!(code(&refused), "LOCKED");
        assert_eq!(refused["data"]["holder"], json!({"userId": "bob"}));
        assert_eq!(refused["data"]["until"], locked["data"]["until"]);
        unlock(&dispatcher, other, "room:7", "title").await;
    }
    let changed = json!({"channel": "room:7", "name": "title", "holder": {"userId": "bob"},
        "until": "2026-01-01T00:00:30.000Z", "fencing": fencing});
    assert_eq!(told(&dispatcher, "c1"), std::slice::from_ref(&changed));
    assert_eq!(told(&dispatcher, "c3"), [changed]);
    assert!(told(&dispatcher, "c2").is_empty());
    // Another name is another lock.
    let other = lock(&dispatcher, "c1", "room:7", "body").await;
    assert_eq!(other["type"], "locked");

    unlock(&dispatcher, "c2", "room:7", "title").await;
    let free = json!({"channel": "room:7", "name": "title", "fencing": fencing});
    assert_eq!(told(&dispatcher, "c1")[1], free);
    let taken = lock(&dispatcher, "c1", "room:7", "title").await;
    assert!(taken["data"]["fencing"].as_u64().unwrap() > fencing);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_the_number_and_never_shortens() {
    let dispatcher = all_in("room:7").await;
    let first = lock(&dispatcher, "c1", "room:7", "title").await;
    dispatcher.clock.advance(Duration::from_secs(10));
    let shorter = json!({"channel": "room:7", "name": "title", "seconds": 5});
    let shorter = frame(&dispatcher, "c1", "lock", shorter).await;
    assert_eq!(shorter["data"], first["data"]);
    let renewed = lock(&dispatcher, "c1", "room:7", "title").await;
    let until = renewed["data"]["until"].as_str().unwrap();
    assert!(until.starts_with("2026-01-01T00:00:40."), "{until}");
    assert_eq!(renewed["data"]["fencing"], first["data"]["fencing"]);
    // Nobody has taken it since it ended.
    dispatcher.clock.advance(Duration::from_secs(60));
    let renewed = lock(&dispatcher, "c1", "room:7", "title").await;
    assert_eq!(renewed["data"]["fencing"], first["data"]["fencing"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_holder_loses_its_lock() {
    let dispatcher = all_in("room:7").await;
    let first = lock(&dispatcher, "c1", "room:7", "title").await;
    let free_after = Duration::from_secs(30) + TAKEOVER;
    // Posts take a moment, too.
    let a_moment = Duration::from_secs(1);
    dispatcher.clock.advance(free_after - a_moment);
    let refused = lock(&dispatcher, "c2", "room:7", "title").await;
    assert_eq!(code(&refused), "LOCKED");
    dispatcher.clock.advance(a_moment);
    let taken = lock(&dispatcher, "c2", "room:7", "title").await;
    let fencing = |answer: &Value| answer["data"]["fencing"].as_u64().unwrap();
    assert!(fencing(&taken) > fencing(&first));
    let refused = lock(&dispatcher, "c1", "room:7", "title").await;
    assert_eq!(code(&refused), "LOCKED");
    unlock(&dispatcher, "c1", "room:7", "title").await;
    let refused = lock(&dispatcher, "c3", "room:7", "title").await;
    assert_eq!(code(&refused), "LOCKED", "not its own to unlock");
}

#[tokio::test(start_paused = true)]
async fn who_locks_must_be_subscribed_and_allowed() {
    let dispatcher = with_rules().await;
    for channel in ["room:7", "news", "secret"] {
        let refused = lock(&dispatcher, "c1", channel, "title").await;
        assert_eq!(code(&refused), "FORBIDDEN", "{channel}");
    }
    subscribe(&dispatcher, "c1", "news").await;
    let refused = lock(&dispatcher, "c1", "news", "title").await;
    assert_eq!(code(&refused), "FORBIDDEN");
    let actions = [Action::Subscribe];
    dispatcher
        .authorizer
        .allow(actions, Duration::from_secs(60));
    subscribe(&dispatcher, "c1", "doc:7").await;
    let refused = lock(&dispatcher, "c1", "doc:7", "title").await;
    assert_eq!(code(&refused), "FORBIDDEN");
    let actions = [Action::Subscribe, Action::Lock];
    dispatcher
        .authorizer
        .allow(actions, Duration::from_secs(60));
    subscribe(&dispatcher, "c1", "doc:7").await;
    let locked = lock(&dispatcher, "c1", "doc:7", "title").await;
    assert_eq!(locked["type"], "locked", "{locked}");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_lock_learns_nothing_of_locks() {
    let dispatcher = with_rules().await;
    for (id, may_lock) in [("c1", true), ("c2", true), ("c3", false)] {
        let mut actions = vec![Action::Subscribe];
        actions.extend(may_lock.then_some(Action::Lock));
        dispatcher
            .authorizer
            .allow(actions, Duration::from_secs(60));
        subscribe(&dispatcher, id, "doc:7").await;
    }
    let locked = lock(&dispatcher, "c1", "doc:7", "title").await;
    assert_eq!(locked["type"], "locked");
    unlock(&dispatcher, "c1", "doc:7", "title").await;
    assert_eq!(told(&dispatcher, "c2").len(), 2);
    assert_eq!(told(&dispatcher, "c3").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_limit_of_locks() {
    let dispatcher = all_in("room:7").await;
    for n in 0..20 {
        let locked = lock(&dispatcher, "c1", "room:7", &format!("n{n}")).await;
        assert_eq!(locked["type"], "locked", "{n}");
    }
    let refused = lock(&dispatcher, "c1", "room:7", "one-more").await;
    assert_eq!(code(&refused), "TOO_MANY_LOCKS");
    let renewed = lock(&dispatcher, "c1", "room:7", "n3").await;
    assert_eq!(renewed["type"], "locked");
    unlock(&dispatcher, "c1", "room:7", "n3").await;
    let locked = lock(&dispatcher, "c1", "room:7", "one-more").await;
    assert_eq!(locked["type"], "locked");
}

#[tokio::test(start_paused = true)]
async fn leaving_a_channel_releases_its_locks() {
    let dispatcher = all_in("room:7").await;
    subscribe(&dispatcher, "c1", "room:8").await;
    for channel in ["room:7", "room:8"] {
        lock(&dispatcher, "c1", channel, "title").await;
    }
    let leave = json!({"channels": ["room:7"]});
    let left = frame(&dispatcher, "c1", "unsubscribe", leave).await;
    assert_eq!(left["type"], "unsubscribed");
    let changes = told(&dispatcher, "c2");
    assert_eq!((changes.len(), &changes[1]["holder"]), (2, &json!(null)));
    let taken = lock(&dispatcher, "c2", "room:7", "title").await;
    assert_eq!(taken["type"], "locked");
    subscribe(&dispatcher, "c2", "room:8").await;
    let refused = lock(&dispatcher, "c2", "room:8", "title").await;
    assert_eq!(code(&refused), "LOCKED");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_releases_its_locks() {
    let dispatcher = all_in("room:7").await;
    lock(&dispatcher, "c1", "room:7", "title").await;
    let ended = dispatcher
        .store
        .disconnect(&connection_id("c1"), dispatcher.now())
        .await;
    assert_eq!(ended, Ok(()));
    let taken = lock(&dispatcher, "c2", "room:7", "title").await;
    assert_eq!(taken["type"], "locked");
}

/// Subscribes, asks for the locks, and returns the entry of the answer.
async fn subscribe_with_locks(dispatcher: &Fixture, id: &str, channel: &str) -> Value {
    let data = json!({"channels": [{"channel": channel, "locks": true}]});
    let answer = frame(dispatcher, id, "subscribe", data).await;
    answer["data"]["channels"][0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_sees_which_locks_are_held() {
    let dispatcher = all_in("room:7").await;
    let none = subscribe_with_locks(&dispatcher, "c1", "room:7").await;
    assert_eq!(none["locks"], json!({"held": []}));
    let held = lock(&dispatcher, "c2", "room:7", "title").await;
    lock(&dispatcher, "c2", "room:7", "free").await;
    unlock(&dispatcher, "c2", "room:7", "free").await;
    let entry = subscribe_with_locks(&dispatcher, "c1", "room:7").await;
    let held = json!({"name": "title", "holder": {"userId": "bob"},
        "until": held["data"]["until"], "fencing": held["data"]["fencing"]});
    assert_eq!(entry["locks"], json!({"held": [held]}));
    for locks in [json!(false), json!(null)] {
        let data = json!({"channels": [{"channel": "room:7", "locks": locks}]});
        let answer = frame(&dispatcher, "c1", "subscribe", data).await;
        assert_eq!(answer["data"]["channels"][0].get("locks"), None);
    }
    // Its seconds are over, though nobody else can take it yet.
    dispatcher.clock.advance(Duration::from_secs(31));
    let entry = subscribe_with_locks(&dispatcher, "c1", "room:7").await;
    assert_eq!(entry["locks"], json!({"held": []}));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_lock_sees_no_locks() {
    let dispatcher = with_rules().await;
    for address in ["news", "@me", "@all"] {
        let entry = subscribe_with_locks(&dispatcher, "c1", address).await;
        assert_eq!(entry["error"]["code"], "FORBIDDEN", "{entry}");
    }
    assert_eq!(dispatcher.store.calls("held_locks"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lists_a_hundred_locks() {
    let dispatcher = with_rules().await;
    for n in 0..101 {
        let id = format!("h{}", n / 20);
        if n % 20 == 0 {
            dispatcher.store.put(&id, "holder").await;
            dispatcher.outbox.open(&id);
            subscribe(&dispatcher, &id, "room:7").await;
        }
        let data = json!({"channel": "room:7", "name": format!("n{n}"), "seconds": 300});
        let locked = frame(&dispatcher, &id, "lock", data).await;
        assert_eq!(locked["type"], "locked", "{locked}");
    }
    let entry = subscribe_with_locks(&dispatcher, "c1", "room:7").await;
    assert_eq!(entry["locks"]["held"].as_array().unwrap().len(), 100);
    assert_eq!(entry["locks"]["more"], true);
}

#[tokio::test(start_paused = true)]
async fn locks_that_are_taken_are_counted() {
    let dispatcher = all_in("room:7").await;
    let counted = async |id: &str| {
        drop(dispatcher.metrics.take());
        lock(&dispatcher, id, "room:7", "title").await;
        let events = dispatcher.metrics.take().into_iter();
        let taken = events.filter_map(|event| match event {
            MetricEvent::LockTaken { is_takeover } => Some(is_takeover),
            _ => None,
        });
        taken.collect::<Vec<_>>()
    };
    assert_eq!(counted("c1").await, [false]);
    assert_eq!(counted("c1").await, [true; 0], "a renewal");
    assert_eq!(counted("c2").await, [true; 0], "refused");
    dispatcher.clock.advance(Duration::from_secs(60));
    assert_eq!(counted("c2").await, [true]);
    unlock(&dispatcher, "c2", "room:7", "title").await;
    assert_eq!(counted("c1").await, [false]);
    // The others are not told.
    dispatcher.store.fail_next("subscribers");
    unlock(&dispatcher, "c1", "room:7", "title").await;
    let failed = MetricEvent::AnnouncementFailed;
    assert!(dispatcher.metrics.take().contains(&failed));
}
