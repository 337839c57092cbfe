//! Who has acknowledged a message.

use belfry_protocol::{
    BroadcastInquiry, BroadcastReport, BroadcastRequest, BroadcasterRequest, Position,
    ReceiptsReport,
};
use serde_json::{Value, json};

use super::Fixture;
use super::kept::{call, fixture, request, send, to_alice, to_room};
use crate::broadcast::BroadcastError;
use crate::log::LogKey;
use crate::ports::{Acks, Clock};
use crate::testing::user_id;

async fn ack(fixture: &Fixture, log: &LogKey, user: &str, position: &Position) {
    let (store, now) = (&fixture.worker.store, fixture.worker.clock.now());
    let acked = store.acknowledge(log, &user_id(user), position, now).await;
    assert_eq!(acked.as_ref(), Ok(position));
}

fn room() -> LogKey {
    LogKey::channel("room:7")
}

async fn ask(fixture: &Fixture, mut data: Value) -> Result<ReceiptsReport, BroadcastError> {
    data["action"] = json!("receipts");
    let Ok(BroadcasterRequest::Receipts(request)) = BroadcasterRequest::parse(&data.to_string())
    else {
        panic!("{data}")
    };
    let deadline = call(fixture, None).deadline;
    fixture.receipts(request, deadline).await
}

/// The answer as JSON.
async fn receipts(fixture: &Fixture, data: Value) -> Value {
    json!(ask(fixture, data).await.unwrap())
}

fn with_receipts(target: &Value) -> BroadcastRequest {
    BroadcastRequest {
        receipts: Some(true),
        ..request(target)
    }
}

async fn report(fixture: &Fixture, id: &str) -> BroadcastReport {
    let inquiry = json!({"action": "report", "messageId": id}).to_string();
    let inquiry = serde_json::from_str::<BroadcastInquiry>(&inquiry).unwrap();
    let asked = fixture.inquire(inquiry, call(fixture, Some(id))).await;
    asked.unwrap().report
}

#[tokio::test(start_paused = true)]
async fn the_users_of_a_channel_are_those_at_or_beyond_the_message() {
    let fixture = fixture(10).await;
    let none = receipts(&fixture, json!({"channel": "room:7", "seq": 1})).await;
    assert_eq!(none, json!({"channel": "room:7", "count": 0, "users": []}));
    let position = send(&fixture, &to_room(), None).await.position.unwrap();
    let at = |seq| Position {
        seq,
        ..position.clone()
    };
    for (user, seq) in [("alice", 5), ("bob", 4), ("carol", 6)] {
        ack(&fixture, &room(), user, &at(seq)).await;
    }
    let epoch = json!(position.epoch);
    let found = receipts(&fixture, json!({"channel": "room:7", "seq": 5})).await;
    let users = json!([{"userId": "alice", "seq": 5}, {"userId": "carol", "seq": 6}]);
    let expected = json!({"channel": "room:7", "epoch": epoch, "count": 2, "users": users});
    assert_eq!(found, expected);
    // Another epoch is another history.
    let other = json!({"channel": "room:7", "seq": 1, "epoch": "other"});
    assert_eq!(receipts(&fixture, other).await["count"], 0);
}

#[tokio::test(start_paused = true)]
async fn everyone_and_one_user_have_receipts_too() {
    let fixture = fixture(10).await;
    for (target, log, of, address) in [
        (
            json!({"type": "all"}),
            LogKey::all(),
            json!({"channel": "@all", "seq": 1}),
            "@all",
        ),
        (
            to_alice(),
            LogKey::user(&user_id("alice")),
            json!({"userId": "alice", "seq": 1}),
            "@me",
        ),
    ] {
        let position = send(&fixture, &target, None).await.position.unwrap();
        ack(&fixture, &log, "alice", &position).await;
        let found = receipts(&fixture, of).await;
        assert_eq!(found["channel"], address);
        assert_eq!(found["count"], 1);
        assert_eq!(found["users"], json!([{"userId": "alice", "seq": 1}]));
    }
}

#[tokio::test(start_paused = true)]
async fn many_users_are_listed_page_by_page_and_counted_once() {
    let fixture = fixture(10).await;
    let position = send(&fixture, &to_room(), None).await.position.unwrap();
    for (count, sizes) in [
        (100, vec![100]),
        (101, vec![100, 1]),
        (1_250, vec![100; 12].into_iter().chain([50]).collect()),
    ] {
        for n in 0..count {
            ack(&fixture, &room(), &format!("user-{n}"), &position).await;
        }
        let mut data = json!({"channel": "room:7", "seq": 1});
        let (mut seen, mut pages) = (Vec::new(), Vec::new());
        loop {
            let report = ask(&fixture, data.clone()).await.unwrap();
            let expected = pages.is_empty().then_some(count);
            assert_eq!(report.count, expected, "page {}", pages.len());
            pages.push(report.users.len());
            seen.extend(report.users.into_iter().map(|one| one.user_id));
            let Some(next) = report.next else { break };
            data["after"] = json!(next);
        }
        assert_eq!(pages, sizes);
        assert!(seen.is_sorted_by(|a, b| a < b));
    }
}

#[tokio::test(start_paused = true)]
async fn very_many_users_are_listed_and_not_counted() {
    let fixture = fixture(10).await;
    let position = send(&fixture, &to_room(), Some("m"))
        .await
        .position
        .unwrap();
    let sent = fixture.send(with_receipts(&to_room()), call(&fixture, Some("n")));
    let second = sent.await.unwrap().report.position.unwrap();
    // The last one alone has read the second message.
    for n in 0..100_001 {
        let position = if n == 100_000 { &second } else { &position };
        ack(&fixture, &room(), &format!("user-{n:06}"), position).await;
    }
    let first = json!({"channel": "room:7", "seq": 1});
    let found = ask(&fixture, first).await.unwrap();
    assert_eq!((found.count, found.users.len()), (None, 100));
    assert_eq!(found.next, Some(user_id("user-000099")));
    let mut rare = json!({"channel": "room:7", "seq": 2});
    let found = ask(&fixture, rare.clone()).await.unwrap();
    assert_eq!((found.count, found.users.len()), (None, 0));
    rare["after"] = json!(found.next.unwrap());
    let found = ask(&fixture, rare).await.unwrap();
    assert_eq!((found.users.len(), found.next), (1, None));
    assert_eq!(report(&fixture, "n").await.acknowledged, None);
}

#[tokio::test(start_paused = true)]
async fn without_a_history_nothing_is_acknowledged() {
    let fixture = fixture(10).await;
    let asked = ask(&fixture, json!({"channel": "talk:7", "seq": 1})).await;
    assert_eq!(asked, Err(BroadcastError::NoHistory));
    let connections = json!({"type": "connections", "connectionIds": ["a1"]});
    let talk = json!({"type": "channel", "channel": "talk:7"});
    for target in [json!({"type": "all"}), connections, talk] {
        let sent = fixture.send(with_receipts(&target), call(&fixture, Some("m")));
        assert_eq!(sent.await, Err(BroadcastError::NoReceipts), "{target}");
    }
    let unkept = BroadcastRequest {
        store: Some(false),
        ..with_receipts(&to_room())
    };
    let sent = fixture.send(unkept, call(&fixture, None)).await;
    assert_eq!(sent, Err(BroadcastError::NoReceipts));
    assert!(fixture.worker.outbox.posted("a1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_report_says_how_many_have_read_the_message() {
    let fixture = fixture(10).await;
    for (target, log) in [
        (to_room(), room()),
        (to_alice(), LogKey::user(&user_id("alice"))),
    ] {
        // Without an id of the caller's it is remembered as well.
        for (id, named) in [("request", None), ("named", Some("named"))] {
            let fixture = self::fixture(10).await;
            send(&fixture, &target, Some("before")).await;
            let sent = fixture.send(with_receipts(&target), call(&fixture, named));
            let first = sent.await.unwrap().report;
            assert_eq!(first.acknowledged, None);
            let position = first.position.unwrap();
            assert_eq!(report(&fixture, id).await.acknowledged, Some(0));
            let before = Position {
                seq: position.seq - 1,
                ..position.clone()
            };
            ack(&fixture, &log, "alice", &before).await;
            assert_eq!(report(&fixture, id).await.acknowledged, Some(0));
            ack(&fixture, &log, "alice", &position).await;
            assert_eq!(report(&fixture, id).await.acknowledged, Some(1));
            // The other broadcast asked for none.
            assert_eq!(report(&fixture, "before").await.acknowledged, None);
        }
    }
    let users = json!({"type": "users", "userIds": ["alice", "bob", "nobody"]});
    send(&fixture, &to_alice(), None).await;
    let sent = fixture.send(with_receipts(&users), call(&fixture, Some("m")));
    sent.await.unwrap();
    assert_eq!(report(&fixture, "m").await.acknowledged, Some(0));
    let of_alice = LogKey::user(&user_id("alice"));
    let of_bob = LogKey::user(&user_id("bob"));
    let newest = async |log| super::kept::position(&fixture, log).await;
    // Alice has read the message before this one.
    let mut position = newest(&of_alice).await;
    position.seq -= 1;
    ack(&fixture, &of_alice, "alice", &position).await;
    assert_eq!(report(&fixture, "m").await.acknowledged, Some(0));
    ack(&fixture, &of_bob, "bob", &newest(&of_bob).await).await;
    assert_eq!(report(&fixture, "m").await.acknowledged, Some(1));
    ack(&fixture, &of_alice, "alice", &newest(&of_alice).await).await;
    assert_eq!(report(&fixture, "m").await.acknowledged, Some(2));
}
