use belfry_protocol::OperatorRequest;
use serde_json::{Value, json};

use super::*;
use crate::ports::{JoinsPresence, Subscription, Subscriptions};
use crate::testing::{FakeStore, START, TestClock, connection, connection_id};

fn list() -> List<FakeStore, TestClock> {
    List {
        store: FakeStore::default(),
        clock: TestClock::default(),
    }
}

fn request(fields: Value) -> ListConnections {
    let mut request = json!({"action": "list"});
    let Value::Object(fields) = fields else {
        panic!("an object")
    };
    request.as_object_mut().unwrap().extend(fields);
    match OperatorRequest::parse(&request.to_string()) {
        Ok(OperatorRequest::List(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// Every page's connections.
async fn pages(list: &List<FakeStore, TestClock>, mut fields: Value) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = list.handle(&request(fields.clone())).await.unwrap();
        let ids = page.connections.iter();
        pages.push(ids.map(|one| one.connection_id.to_string()).collect());
        let Some(cursor) = page.cursor else {
            return pages;
        };
        fields["cursor"] = cursor.into();
    }
}

async fn all(list: &List<FakeStore, TestClock>, fields: Value) -> Vec<String> {
    let mut all = pages(list, fields).await.concat();
    all.sort();
    all
}

async fn subscribe(list: &List<FakeStore, TestClock>, id: &str) {
    let wanted = Subscription {
        channel: ChannelName::parse("room:7").unwrap(),
        ends_at: START.plus(Duration::from_secs(3_600)).to_seconds(),
        allowed: None,
        actions: [].into_iter().collect(),
        presence: JoinsPresence::No,
    };
    let row = list.store.row(id).unwrap();
    let subscribed = list.store.subscribe(&row, &[wanted], 50, START).await;
    subscribed.unwrap();
}

async fn filled() -> List<FakeStore, TestClock> {
    let list = list();
    for n in 0..7 {
        let id = format!("a{n}");
        list.store.put(&id, "alice").await;
        if n % 2 == 0 {
            subscribe(&list, &id).await;
        }
    }
    for n in 0..3 {
        list.store.put(&format!("b{n}"), "bob").await;
    }
    let expired = Connection {
        expires_at: START.to_seconds(),
        ..connection("expired", "alice")
    };
    list.store.put_row(&expired).await;
    list
}

#[tokio::test(start_paused = true)]
async fn every_target_is_listed_whole_whatever_the_size_of_pages() {
    let list = filled().await;
    let alices: Vec<_> = (0..7).map(|n| format!("a{n}")).collect();
    let bobs: Vec<_> = (0..3).map(|n| format!("b{n}")).collect();
    let both = [alices.clone(), bobs.clone()].concat();
    let all_targets = [
        (json!({"type": "all"}), both.clone()),
        (json!({"type": "user", "userId": "alice"}), alices),
        (
            json!({"type": "users", "userIds": ["bob", "nobody", "alice", "bob"]}),
            both,
        ),
        (
            json!({"type": "channel", "channel": "room:7"}),
            ["a0", "a2", "a4", "a6"].map(Into::into).into(),
        ),
        (
            json!({"type": "connections", "connectionIds": ["b2", "a1", "gone", "expired", "a1", "b0"]}),
            ["a1", "b0", "b2"].map(Into::into).into(),
        ),
        (json!({"type": "user", "userId": "nobody"}), vec![]),
    ];
    for (target, expected) in all_targets {
        for limit in [1, 2, 3, 7, 500] {
            let fields = json!({"target": target, "limit": limit});
            for page in pages(&list, fields.clone()).await {
                assert!(page.len() <= limit, "{fields}: {page:?}");
            }
            assert_eq!(all(&list, fields.clone()).await, expected, "{fields}");
        }
    }
}

/// A smaller share is a part of a larger one, as for a drain.
#[tokio::test(start_paused = true)]
async fn a_share_is_listed_as_a_drain_asks_it() {
    let list = list();
    for n in 0..200 {
        list.store.put(&format!("c{n}"), "alice").await;
    }
    let share = async |percent: u32| {
        let everyone = json!({"type": "all"});
        all(&list, json!({"target": everyone, "percent": percent})).await
    };
    let (tenth, half) = (share(10).await, share(50).await);
    assert!(tenth.iter().all(|id| half.contains(id)));
    assert!((5..=40).contains(&tenth.len()), "{}", tenth.len());
    let asked = |id: &String| crate::connections::shard_of(&connection_id(id), 100) < 50;
    assert!(half.iter().all(asked));
    assert_eq!(share(100).await.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn many_users_and_connections_are_listed_whole() {
    let list = list();
    let mut users = Vec::new();
    for n in 0..60 {
        let user = format!("user-{n:02}");
        for tab in 0..=n % 3 {
            list.store.put(&format!("{n:02}-{tab}"), &user).await;
        }
        users.push(user);
    }
    let rows: Vec<_> = list.store.rows().into_iter().map(|row| row.id).collect();
    let ids: Vec<_> = rows.iter().map(ToString::to_string).collect();
    let of_users = json!({"target": {"type": "users", "userIds": users}, "limit": 7});
    assert_eq!(all(&list, of_users).await, ids);
    let many: Vec<_> = (0..1_200)
        .map(|n| format!("x{n}"))
        .chain(ids.clone())
        .collect();
    let of_ids = json!({"target": {"type": "connections", "connectionIds": many}});
    assert_eq!(all(&list, of_ids).await, ids);
}

#[tokio::test(start_paused = true)]
async fn filters_apply_together() {
    let list = list();
    let second = |n| START.plus(Duration::from_secs(n));
    for (id, origin, connected, seen) in [
        ("old", Some("https://app.example"), 0, 0),
        ("old-busy", Some("https://app.example"), 0, 90),
        ("new", Some("https://app.example"), 90, 90),
        ("other", Some("https://other.example"), 0, 0),
        ("tool", None, 0, 0),
    ] {
        let row = Connection {
            origin: origin.map(Into::into),
            connected_at: second(connected),
            last_seen_at: second(seen),
            ..connection(id, "alice")
        };
        list.store.put_row(&row).await;
    }
    list.clock.advance(Duration::from_secs(100));
    let filtered = async |mut fields: Value| {
        fields["target"] = json!({"type": "all"});
        all(&list, fields).await
    };
    let app = json!({"origin": "https://app.example"});
    assert_eq!(filtered(app).await, ["new", "old", "old-busy"]);
    let aged = json!({"origin": "https://app.example", "minAgeSeconds": 100});
    assert_eq!(filtered(aged).await, ["old", "old-busy"]);
    let silent = json!({"minAgeSeconds": 10, "minSilenceSeconds": 11});
    assert_eq!(filtered(silent).await, ["old", "other", "tool"]);
    let none = json!({"origin": "https://app.example/"});
    assert!(filtered(none).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_reads_only_so_much() {
    let list = list();
    for n in 0..100 {
        list.store.put(&format!("c{n:02}"), "alice").await;
    }
    let fields = json!({"target": {"type": "all"}, "origin": "https://nobody.example"});
    let page = list.handle(&request(fields.clone())).await.unwrap();
    assert!(page.connections.is_empty() && page.cursor.is_some());
    assert_eq!(list.store.calls("row_page"), READS as u32);
    assert!(all(&list, fields).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_list_is_refused() {
    let list = filled().await;
    let first = request(json!({"target": {"type": "all"}, "limit": 1}));
    let cursor = list.handle(&first).await.unwrap().cursor.unwrap();
    let wrong = json!({"target": {"type": "user", "userId": "alice"}, "cursor": cursor});
    let refused = list.handle(&request(wrong)).await.unwrap_err();
    assert_eq!(refused, ListError::Cursor(InvalidListCursor));
    assert!(refused.to_string().starts_with("cursor: "));
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_although_its_last_connection_is_gone() {
    let list = filled().await;
    for target in [
        json!({"type": "all"}),
        json!({"type": "user", "userId": "bob"}),
        json!({"type": "connections", "connectionIds": ["b0", "b1", "b2"]}),
    ] {
        let mut fields = json!({"target": target, "limit": 1});
        let page = list.handle(&request(fields.clone())).await.unwrap();
        let last = page.connections[0].connection_id.clone();
        list.store.forget(last.as_str());
        fields["cursor"] = page.cursor.unwrap().into();
        let rest = all(&list, fields).await;
        assert!(!rest.is_empty() && !rest.contains(&last.to_string()));
        list.store.put(last.as_str(), "bob").await;
    }
}
