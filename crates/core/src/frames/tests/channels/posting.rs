use super::*;

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_gone_is_removed() {
    let dispatcher = with_rules().await;
    dispatcher.clock.advance(Duration::from_secs(60));
    subscribe(&dispatcher, "c2", json!([{"channel": "talk:1"}])).await;
    dispatcher.outbox.close(&connection_id("c2")).await.unwrap();
    publish(&dispatcher, "c1", line("talk:1")).await;
    assert_eq!(dispatcher.store.row("c2"), None);
    let name = ChannelName::parse("talk:1").unwrap();
    let whole = crate::ports::Segment { index: 0, total: 1 };
    let now = dispatcher.clock.now();
    let page = dispatcher
        .store
        .subscribers(&name, Listing::All, whole, None, 10, now)
        .await;
    assert!(page.unwrap().recipients.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_does_not_hold_the_publisher_for_long() {
    let dispatcher = with_rules().await;
    subscribe(&dispatcher, "c2", json!([{"channel": "room:7"}])).await;
    dispatcher
        .outbox
        .answer("c2", vec![Err(PostError::Throttled); 1_000]);
    let begun = dispatcher.clock.now();
    let published = publish(&dispatcher, "c1", line("room:7")).await;
    assert_eq!(published["position"]["seq"], 1);
    assert!(dispatcher.clock.now().since(begun) <= Duration::from_secs(3));
    let throttled = dispatcher.metrics.take().into_iter().any(
        |event| matches!(event, MetricEvent::Posted { failures, .. } if failures.throttled == 1),
    );
    assert!(throttled);
}

#[tokio::test(start_paused = true)]
async fn workers_post_to_a_large_channel() {
    let dispatcher = with_rules().await;
    for n in 0..150 {
        let id = format!("s{n}");
        dispatcher.store.put(&id, &format!("user-{n}")).await;
        subscribe(&dispatcher, &id, json!([{"channel": "room:7"}])).await;
    }
    publish(&dispatcher, "c1", line("room:7")).await;
    assert!(
        received(&dispatcher, "s1").is_empty(),
        "nobody is posted to here"
    );
    let started = dispatcher.workers.started();
    assert_eq!(started, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_does_not_read_delays_no_publisher() {
    let dispatcher = with_rules().await;
    for id in ["c3", "c4"] {
        dispatcher.store.put(id, "carol").await;
        dispatcher.outbox.open(id);
    }
    for id in ["c2", "c3", "c4"] {
        subscribe(&dispatcher, id, json!([{"channel": "room:7"}])).await;
    }
    let throttled = || std::iter::repeat_n(Err(PostError::Throttled), 50);
    dispatcher.outbox.answer("c2", throttled());
    let begun = dispatcher.clock.now();
    publish(&dispatcher, "c1", line("room:7")).await;
    let took = dispatcher.clock.now().since(begun);
    assert!(took < Duration::from_millis(10), "{took:?}");
    assert_eq!(dispatcher.outbox.attempts("c2"), 1);
    for id in ["c3", "c4"] {
        assert_eq!(received(&dispatcher, id).len(), 1);
    }
    // If nearly all are throttled, the account is.
    for id in ["c2", "c3"] {
        dispatcher.outbox.answer(id, throttled().take(2));
    }
    publish(&dispatcher, "c1", line("room:7")).await;
    for id in ["c2", "c3"] {
        assert!(!received(&dispatcher, id).is_empty(), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn up_to_a_hundred_subscribers_are_posted_to_at_once() {
    let dispatcher = with_rules().await;
    for n in 1..=101 {
        let id = format!("s{n}");
        dispatcher.store.put(&id, "carol").await;
        dispatcher.outbox.open(&id);
        subscribe(&dispatcher, &id, json!([{"channel": "room:7"}])).await;
        if n < 100 {
            continue;
        }
        publish(&dispatcher, "c1", line("room:7")).await;
        assert_eq!(dispatcher.workers.take().is_empty(), n == 100, "{n}");
        assert_eq!(received(&dispatcher, "s1").len(), 1, "{n}");
    }
}
