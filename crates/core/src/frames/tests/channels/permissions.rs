use super::*;

#[tokio::test(start_paused = true)]
async fn only_what_a_rule_allows_is_served() {
    let dispatcher = with_rules().await;
    let channels = json!([{"channel": "room:7"}, {"channel": "secret"}, {"channel": "@me"},
        {"channel": "tenant:a:x"}, {"channel": "room:7:8"}]);
    let states = subscribe(&dispatcher, "c1", channels).await;
    let refused = |n: usize| states[n]["error"]["code"].as_str();
    assert_eq!(
        [0, 1, 2, 3, 4].map(refused),
        [
            None,
            Some("FORBIDDEN"),
            None,
            Some("FORBIDDEN"),
            Some("FORBIDDEN")
        ],
        "{states}"
    );
    let names = dispatcher
        .store
        .channels(&connection_id("c1"))
        .await
        .unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    for channel in ["news", "secret", "tenant:a:x"] {
        let answer = frame(&dispatcher, "c1", "publish", line(channel)).await;
        assert_eq!(code(&answer), "FORBIDDEN", "{channel}");
    }
    for channel in ["@all", "@me", "@me:bob", ""] {
        let answer = frame(&dispatcher, "c1", "publish", line(channel)).await;
        assert_eq!(code(&answer), "INVALID_MESSAGE", "{channel}");
    }
    let after = json!({"channel": "tenant:a:x", "after": {"epoch": "e", "seq": 0}});
    let answer = frame(&dispatcher, "c1", "history", after).await;
    assert_eq!(code(&answer), "FORBIDDEN");
    let after = json!({"channel": "news", "after": {"epoch": "e", "seq": 0}});
    let answer = frame(&dispatcher, "c1", "history", after).await;
    assert_eq!(code(&answer), "INVALID_MESSAGE", "no history is kept");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_fifty_channels_at_most() {
    let mut dispatcher = with_rules().await;
    dispatcher.max_message_bytes = 16_384;
    let rooms = |from: u32, to: u32| {
        let rooms = (from..to).map(|n| json!({"channel": format!("room:{n}")}));
        Value::from(rooms.collect::<Vec<_>>())
    };
    let states = subscribe(&dispatcher, "c1", rooms(0, 49)).await;
    assert!(
        states
            .as_array()
            .unwrap()
            .iter()
            .all(|state| state.get("error").is_none())
    );
    let states = subscribe(&dispatcher, "c1", rooms(48, 52)).await;
    let codes = [0, 1, 2, 3].map(|n: usize| states[n]["error"]["code"].as_str());
    let too_many = Some("TOO_MANY_CHANNELS");
    assert_eq!(codes, [None, None, too_many, too_many], "{states}");
    let left = frame(
        &dispatcher,
        "c1",
        "unsubscribe",
        json!({"channels": ["room:0"]}),
    )
    .await;
    assert_eq!(left["data"], json!({"channels": ["room:0"]}));
    let states = subscribe(&dispatcher, "c1", rooms(51, 52)).await;
    assert_eq!(states[0].get("error"), None, "{states}");
}

#[tokio::test(start_paused = true)]
async fn the_application_decides_if_a_rule_asks() {
    let dispatcher = with_rules().await;
    let doc = json!([{"channel": "doc:1"}]);
    let states = subscribe(&dispatcher, "c1", doc.clone()).await;
    assert_eq!(
        states[0]["error"]["code"], "FORBIDDEN",
        "the function fails"
    );
    assert_eq!(dispatcher.authorizer.take(), ["alice subscribe doc:1"]);
    let both = [Action::Subscribe, Action::Publish];
    dispatcher.authorizer.allow(both, Duration::from_secs(60));
    let states = subscribe(&dispatcher, "c1", doc.clone()).await;
    assert_eq!(states[0]["until"], "2026-01-01T00:01:00.000Z");
    dispatcher.authorizer.take();
    publish(&dispatcher, "c1", line("doc:1")).await;
    assert!(
        dispatcher.authorizer.take().is_empty(),
        "the answer still holds"
    );
    dispatcher.clock.advance(Duration::from_secs(61));
    dispatcher
        .authorizer
        .allow([Action::Subscribe], Duration::from_secs(60));
    let answer = frame(&dispatcher, "c1", "publish", line("doc:1")).await;
    assert_eq!(code(&answer), "FORBIDDEN");
    assert_eq!(dispatcher.authorizer.take(), ["alice publish doc:1"]);
    dispatcher
        .authorizer
        .allow([Action::Publish], Duration::from_secs(60));
    let states = subscribe(&dispatcher, "c1", doc).await;
    assert_eq!(states[0]["error"]["code"], "FORBIDDEN");
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_moves_and_ends_subscriptions() {
    let dispatcher = with_rules().await;
    let row = Connection {
        claims: tenant("a"),
        ..connection("c3", "carol")
    };
    let admission = crate::ports::Admission {
        connection: &row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    let admitted = crate::ports::Admissions::admit(&dispatcher.store, admission, LIMITS).await;
    assert_eq!(admitted, Ok(crate::ports::Admitted::Yes));
    dispatcher.outbox.open("c3");
    let channels = json!([{"channel": "tenant:a:x"}, {"channel": "room:7"}]);
    subscribe(&dispatcher, "c3", channels).await;
    dispatcher.clock.advance(Duration::from_secs(60));
    let refreshed = frame(
        &dispatcher,
        "c3",
        "auth.refresh",
        json!({"token": "good:carol:b"}),
    );
    assert_eq!(refreshed.await["type"], "auth.refreshed");
    let told = received(&dispatcher, "c3");
    assert_eq!(told[0]["type"], "unsubscribed");
    let expected = json!({"channels": ["tenant:a:x"], "reason": "FORBIDDEN"});
    assert_eq!(told[0]["data"], expected);
    let names = dispatcher.store.channels(&row.id).await.unwrap();
    assert_eq!(
        names.iter().map(ChannelName::as_str).collect::<Vec<_>>(),
        ["room:7"]
    );
    let found = dispatcher
        .store
        .find_subscriptions(&row.id, &names)
        .await
        .unwrap();
    let end = dispatcher.clock.now().plus(Duration::from_secs(3_600));
    assert_eq!(found[0].ends_at, end.to_seconds());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_meanwhile_is_not_subscribed() {
    let dispatcher = with_rules().await;
    dispatcher
        .store
        .disconnect(&connection_id("c1"), START)
        .await
        .unwrap();
    let body = json!({"type": "subscribe", "version": "1.0",
        "data": {"channels": [{"channel": "room:7"}]}});
    let (answer, outcome) = send(&dispatcher, "c1", &body.to_string()).await;
    assert_eq!(answer, None);
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::UnknownConnection));
}

#[tokio::test(start_paused = true)]
async fn welcome_names_the_channels_that_a_rule_has_subscribed_to() {
    let mut dispatcher = with_rules().await;
    let rules = r#"{"version":"1.0", "channels": [
        {"match": "tenant:{tenant}", "allow": ["subscribe", "publish"], "autoSubscribe": true,
         "history": {"seconds": 600}},
        {"match": "news:{tenant}", "allow": ["subscribe"], "autoSubscribe": true}]}"#;
    dispatcher.rules = rules.parse().unwrap();
    let row = Connection {
        claims: tenant("acme"),
        has_session: true,
        ..connection("c3", "carol")
    };
    dispatcher.store.put_row(&row).await;
    dispatcher.outbox.open("c3");
    let named = async || {
        let welcome = frame(&dispatcher, "c3", "hello", json!({})).await;
        welcome["data"].get("autoSubscribed").cloned()
    };
    assert_eq!(
        named().await,
        None,
        "the rules were others when it connected"
    );
    // As `Connect` does.
    let judge = dispatcher.judge();
    for name in ["news:acme", "tenant:acme"] {
        let name = ChannelName::parse(name).unwrap();
        let allowed = judge.allows((&row).into(), &name, Action::Subscribe, START);
        let wanted = [allowed
            .await
            .unwrap()
            .subscription(&name, JoinsPresence::No)];
        let subscribed = dispatcher.store.subscribe(&row, &wanted, 50, START);
        subscribed.await.unwrap();
    }
    let published = publish(&dispatcher, "c3", line("tenant:acme")).await;
    let news = json!({"channel": "news:acme"});
    let tenant = json!({"channel": "tenant:acme", "position": published["position"]});
    let both = named().await.unwrap();
    let both = both.as_array().unwrap();
    assert_eq!(both.len(), 2);
    assert!(both.contains(&news) && both.contains(&tenant), "{both:?}");
    let leave = json!({"channels": ["tenant:acme"]});
    frame(&dispatcher, "c3", "unsubscribe", leave).await;
    assert_eq!(named().await, Some(json!([news])));
    let other = frame(&dispatcher, "c1", "hello", json!({})).await;
    assert_eq!(other["data"].get("autoSubscribed"), None);
}
