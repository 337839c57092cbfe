use super::*;

/// What is counted of channels.
fn counted(dispatcher: &Fixture) -> Vec<MetricEvent> {
    let mut events = dispatcher.metrics.take();
    events.retain(|event| {
        !matches!(
            event,
            MetricEvent::FrameServed(_)
                | MetricEvent::Posted { .. }
                | MetricEvent::BroadcastDone { .. }
        )
    });
    events
}

#[tokio::test(start_paused = true)]
async fn subscriptions_and_recoveries_are_counted() {
    let dispatcher = with_rules().await;
    let subscribed = |made, refused, recoveries| MetricEvent::Subscribed {
        made,
        refused,
        recoveries,
    };
    let none = Recoveries::default();
    subscribe(&dispatcher, "c1", json!([{"channel": "@me"}])).await;
    assert_eq!(counted(&dispatcher), [], "everyone receives it");
    let position = publish(&dispatcher, "c1", line("room:7")).await["position"].clone();
    let appended = MetricEvent::MessagesAppended {
        messages: 1,
        conflicts: 0,
    };
    assert_eq!(counted(&dispatcher), [appended]);
    let foreign = json!({"epoch": "other", "seq": 1});
    let channels = json!([
        {"channel": "room:7", "since": position},
        {"channel": "room:8", "since": foreign},
        {"channel": "news"},
        {"channel": "nowhere"},
    ]);
    subscribe(&dispatcher, "c2", channels).await;
    let recoveries = Recoveries {
        complete: 1,
        epoch: 1,
        ..none
    };
    assert_eq!(counted(&dispatcher), [subscribed(3, 1, recoveries)]);
    for (after, read) in [
        (
            &position,
            Recoveries {
                complete: 1,
                ..none
            },
        ),
        (&foreign, Recoveries { epoch: 1, ..none }),
    ] {
        let page = json!({"channel": "room:7", "after": after});
        frame(&dispatcher, "c2", "history", page).await;
        assert_eq!(counted(&dispatcher), [MetricEvent::HistoryRead(read)]);
    }
    let from =
        |seq| json!([{"channel": "room:7", "since": {"epoch": position["epoch"], "seq": seq}}]);
    for _ in 0..301 {
        dispatcher.clock.advance(Duration::from_millis(100));
        publish(&dispatcher, "c1", line("room:7")).await;
    }
    counted(&dispatcher);
    subscribe(&dispatcher, "c2", from(1)).await;
    let too_far = Recoveries { too_far: 1, ..none };
    assert_eq!(counted(&dispatcher), [subscribed(1, 0, too_far)]);
    dispatcher.clock.advance(Duration::from_secs(601));
    subscribe(&dispatcher, "c2", from(301)).await;
    let expired = Recoveries { expired: 1, ..none };
    assert_eq!(counted(&dispatcher), [subscribed(1, 0, expired)]);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_is_counted() {
    let dispatcher = with_rules().await;
    let failed = MetricEvent::AuthorizationFailed;
    let doc = json!([{"channel": "doc:1"}]);
    subscribe(&dispatcher, "c1", doc.clone()).await;
    assert_eq!(counted(&dispatcher)[0], failed);
    let answer = frame(&dispatcher, "c1", "publish", line("doc:1")).await;
    assert_eq!(code(&answer), "FORBIDDEN");
    assert_eq!(counted(&dispatcher)[0], failed);
    dispatcher.authorizer.allow([], Duration::from_secs(60));
    subscribe(&dispatcher, "c1", doc).await;
    assert!(!counted(&dispatcher).contains(&failed), "it was answered");
}
