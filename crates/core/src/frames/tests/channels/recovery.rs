use super::*;

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_comes_back_gets_what_it_missed() {
    let dispatcher = with_rules().await;
    let state = subscribe(&dispatcher, "c2", json!([{"channel": "room:7"}])).await;
    let mut since = json!({"epoch": state[0]["epoch"], "seq": 0});
    for _ in 0..3 {
        let published = publish(&dispatcher, "c1", line("room:7")).await;
        since["epoch"] = published["position"]["epoch"].clone();
    }
    let live = received(&dispatcher, "c2");
    since["seq"] = json!(1);
    let hello = json!({"subscribe": {"channels": [{"channel": "room:7", "since": since}]}});
    let welcome = frame(&dispatcher, "c2", "hello", hello).await;
    assert_eq!(welcome["type"], "welcome");
    let state = &welcome["data"]["subscribed"]["channels"][0];
    assert_eq!(state["recovered"], true, "{state}");
    assert_eq!((&state["more"], &state["seq"]), (&json!(false), &json!(3)));
    assert_eq!(state["messages"], json!(live[1..]), "the same frames");
    // From the position before the first message, too.
    let page =
        json!({"channel": "room:7", "after": {"epoch": since["epoch"], "seq": 1}, "limit": 1});
    let history = frame(&dispatcher, "c2", "history", page).await;
    assert_eq!(history["data"]["messages"], json!(live[1..2]));
    assert_eq!(history["data"]["more"], true);
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_with_its_reason() {
    let dispatcher = with_rules().await;
    let epoch = publish(&dispatcher, "c1", line("room:7")).await["position"]["epoch"].clone();
    for (seq, count, reason) in [(1, 301, "tooFar"), (301, 0, "expired")] {
        for _ in 0..count {
            let sender = dispatcher.store.row("c1").unwrap();
            dispatcher
                .clock
                .set(sender.last_seen_at.plus(Duration::from_millis(100)));
            publish(&dispatcher, "c1", line("room:7")).await;
        }
        if count == 0 {
            dispatcher.clock.advance(Duration::from_secs(601));
        }
        let since = json!({"epoch": epoch, "seq": seq});
        let state = subscribe(
            &dispatcher,
            "c2",
            json!([{"channel": "room:7", "since": since}]),
        );
        let state = state.await;
        assert_eq!(state[0]["recovered"], false, "{state}");
        assert_eq!(
            (&state[0]["reason"], &state[0]["seq"]),
            (&json!(reason), &json!(302))
        );
        assert_eq!(state[0]["messages"], json!([]));
    }
    let foreign = json!([{"channel": "room:7", "since": {"epoch": "other", "seq": 1}}]);
    assert_eq!(
        subscribe(&dispatcher, "c2", foreign).await[0]["reason"],
        "epoch"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_fits_whatever_was_missed() {
    let mut dispatcher = with_rules().await;
    dispatcher.max_message_bytes = 131_072;
    let mut channels = Vec::new();
    for room in 0..4 {
        let mut epoch = Value::Null;
        for _ in 0..3 {
            let mut data = line(&format!("room:{room}"));
            data["data"] = json!("x".repeat(30_000));
            epoch = publish(&dispatcher, "c1", data).await["position"]["epoch"].clone();
        }
        channels
            .push(json!({"channel": format!("room:{room}"), "since": {"epoch": epoch, "seq": 1}}));
    }
    let states = subscribe(&dispatcher, "c2", json!(channels)).await;
    let mut bytes = 0;
    for state in states.as_array().unwrap() {
        assert_eq!(state["recovered"], true);
        let messages = state["messages"].as_array().unwrap();
        assert_eq!(state["more"], messages.len() < 2, "{}", messages.len());
        bytes += state["messages"].to_string().len();
    }
    assert!((60_000..98_304).contains(&bytes), "{bytes}");
    let mut data = line("room:0");
    data["data"] = json!("x".repeat(98_304));
    let answer = frame(&dispatcher, "c1", "publish", data.clone()).await;
    assert_eq!(code(&answer), "MESSAGE_TOO_LARGE");
    data["store"] = json!(false);
    publish(&dispatcher, "c1", data).await;
}

#[tokio::test(start_paused = true)]
async fn sync_tells_what_was_missed_and_whether_the_client_is_subscribed() {
    let dispatcher = with_rules().await;
    subscribe(
        &dispatcher,
        "c2",
        json!([{"channel": "room:7"}, {"channel": "talk:1"}]),
    )
    .await;
    let first = publish(&dispatcher, "c1", line("room:7")).await["position"].clone();
    let second = publish(&dispatcher, "c1", line("room:7")).await["position"].clone();
    let sync = async |since: &Value| {
        let channels = json!([{"channel": "room:7", "since": since}, {"channel": "talk:1"},
            {"channel": "room:8"}, {"channel": "@me"}]);
        let synced = frame(&dispatcher, "c2", "sync", json!({"channels": channels})).await;
        synced["data"]["channels"].clone()
    };
    for (since, missed) in [(&first, true), (&second, false)] {
        let channels = sync(since).await;
        let expected =
            json!({"channel": "room:7", "subscribed": true, "position": second, "missed": missed});
        assert_eq!(channels[0], expected);
        assert_eq!(
            channels[1],
            json!({"channel": "talk:1", "subscribed": true})
        );
        assert_eq!(
            channels[2],
            json!({"channel": "room:8", "subscribed": false})
        );
        assert_eq!(channels[3]["subscribed"], true);
        assert_eq!(channels[3]["position"]["seq"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_recovers_what_servers_sent_to_its_user() {
    let dispatcher = with_rules().await;
    let me = json!([{"channel": "@me"}, {"channel": "@all"}]);
    let states = subscribe(&dispatcher, "c1", me.clone()).await;
    let since = json!({"epoch": states[0]["epoch"], "seq": states[0]["seq"]});
    assert_eq!(since["seq"], 0);
    assert_eq!(states[1], json!({"channel": "@all"}), "no history is kept");
    let appender = Appender {
        store: &dispatcher.store,
        clock: &dispatcher.clock,
        random: &dispatcher.random,
        metrics: &dispatcher.metrics,
    };
    let id = AppendId("m".into());
    let message = log::Message {
        id: &id,
        retention: Duration::from_secs(600),
        remember_until: None,
        frames: |_: &Position| vec![r#"{"type":"notification"}"#.to_owned()],
    };
    let log = LogKey::user(&user_id("alice"));
    appender.append(&log, &message).await.unwrap();
    let again = json!([{"channel": "@me", "since": since}]);
    let states = subscribe(&dispatcher, "c1", again).await;
    assert_eq!(
        (&states[0]["recovered"], &states[0]["seq"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(states[0]["messages"], json!([{"type": "notification"}]));
    let history = json!({"channel": "@me", "after": since});
    let page = frame(&dispatcher, "c1", "history", history).await;
    assert_eq!(page["data"]["messages"], json!([{"type": "notification"}]));
    // Bob's log is another one.
    let states = subscribe(&dispatcher, "c2", me).await;
    assert_eq!(states[0]["seq"], 0);
}
