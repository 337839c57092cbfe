use super::*;
use crate::ports::Departures;

const RULES: &str = r#"{"version":"1.0",
    "channels": [{"match": "room:*", "allow": ["subscribe", "presence"]}]}"#;

/// Subscribes with presence. Returns the entry of the answer.
async fn come(dispatcher: &Fixture, id: &str, info: Value) -> Value {
    let channels = json!([{"channel": "room:7", "presence": info}]);
    let body = json!({"type": "subscribe", "version": "1.0", "data": {"channels": channels}});
    let (answer, _) = send(dispatcher, id, &body.to_string()).await;
    answer.expect("an answer")["data"]["channels"][0].clone()
}

#[tokio::test(start_paused = true)]
async fn one_listing_serves_the_newcomer_and_the_others() {
    let mut dispatcher = dispatcher().await;
    dispatcher.rules = RULES.parse().unwrap();
    come(&dispatcher, "c1", json!({})).await;
    dispatcher.store.put("c2", "bob").await;
    for (info, change) in [("B", "presence.joined"), ("Bob", "presence.updated")] {
        let before = dispatcher.store.calls("present");
        let entry = come(&dispatcher, "c2", json!({"name": info})).await;
        assert_eq!(dispatcher.store.calls("present"), before + 1);
        assert_eq!(entry["presence"]["count"], 2, "{entry}");
        let posted = dispatcher.outbox.posted("c1");
        let frame: Value = serde_json::from_str(posted.last().unwrap()).unwrap();
        assert_eq!(frame["type"], change);
        assert_eq!(frame["data"]["count"], 2, "{frame}");
    }
    let count = |counted: &MetricEvent| {
        let events = dispatcher.metrics.take();
        events.iter().filter(|event| *event == counted).count()
    };
    assert_eq!(count(&MetricEvent::PresenceJoined), 2);
    let leave = r#"{"type":"unsubscribe","version":"1.0","data":{"channels":["room:7"]}}"#;
    send(&dispatcher, "c2", leave).await;
    assert_eq!(count(&MetricEvent::PresenceLeft), 1);
    come(&dispatcher, "c2", json!({})).await;
    dispatcher.store.fail_next("make_absent");
    send(&dispatcher, "c2", leave).await;
    assert_eq!(count(&MetricEvent::AnnouncementFailed), 1);
    come(&dispatcher, "c2", json!({})).await;
    // Of more than are announced one by one, a count is due.
    for n in 3..=7 {
        let id = format!("c{n}");
        dispatcher.store.put(&id, &format!("user-{n}")).await;
        come(&dispatcher, &id, json!({})).await;
    }
    let posted = dispatcher.outbox.posted("c1");
    let told = posted.iter().filter(|frame| frame.contains("user-"));
    assert_eq!(told.count(), PRESENCE.announced - 2);
    let later = dispatcher.now().plus(Duration::from_secs(60));
    let due = dispatcher.store.due_list(later).await.unwrap();
    assert_eq!(due.counts.len(), 1, "{due:?}");
}
