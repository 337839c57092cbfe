use belfry_protocol::{Action, ChannelName, Position};
use serde_json::{Value, json};

use super::*;
use crate::connections::Connection;
use crate::log::{self, AppendId, Appender, LogKey};
use crate::ports::{
    Clock, Disconnections, JoinsPresence, Listing, LogReads, Recoveries, Segment, Subscribers,
    Subscriptions,
};
use crate::testing::{LIMITS, START, connection, tenant, user_id};

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 600}},
    "channels": [
        {"match": "tenant:{tenant}:**", "allow": ["subscribe", "publish"], "history": {"seconds": 600}},
        {"match": "room:*", "allow": ["subscribe", "publish"], "history": {"seconds": 600}},
        {"match": "news", "allow": ["subscribe"]},
        {"match": "talk:*", "allow": ["subscribe", "publish"]},
        {"match": "doc:*", "allow": "ask", "history": {"seconds": 600}}]}"#;

/// Alice's connection `c1` and Bob's `c2`.
pub(super) async fn with_rules() -> Fixture {
    let mut dispatcher = dispatcher().await;
    dispatcher.rules = RULES.parse().unwrap();
    dispatcher.store.put("c2", "bob").await;
    dispatcher.outbox.open("c2");
    dispatcher
}

pub(super) async fn frame(dispatcher: &Fixture, id: &str, frame_type: &str, data: Value) -> Value {
    let body = json!({"type": frame_type, "version": "1.0", "id": "f", "data": data});
    let (answer, _) = send(dispatcher, id, &body.to_string()).await;
    answer.expect("an answer")
}

pub(super) async fn subscribe(dispatcher: &Fixture, id: &str, channels: Value) -> Value {
    let answer = frame(dispatcher, id, "subscribe", json!({"channels": channels})).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer["data"]["channels"].clone()
}

pub(super) async fn publish(dispatcher: &Fixture, id: &str, data: Value) -> Value {
    let answer = frame(dispatcher, id, "publish", data).await;
    assert_eq!(answer["type"], "published", "{answer}");
    answer["data"].clone()
}

fn received(dispatcher: &Fixture, id: &str) -> Vec<Value> {
    let posted = dispatcher.outbox.posted(id);
    posted
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

pub(super) fn code(answer: &Value) -> &str {
    answer["data"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}

pub(super) fn line(channel: &str) -> Value {
    json!({"channel": channel, "kind": "chat.line", "data": "hi"})
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_receives_what_others_publish() {
    let dispatcher = with_rules().await;
    for id in ["c1", "c2"] {
        let state = subscribe(&dispatcher, id, json!([{"channel": "room:7"}])).await;
        assert_eq!(
            (&state[0]["channel"], &state[0]["seq"]),
            (&json!("room:7"), &json!(0))
        );
    }
    let published = publish(&dispatcher, "c1", line("room:7")).await;
    assert_eq!(published["position"]["seq"], 1);
    let messages = received(&dispatcher, "c2");
    let expected = json!({
        "type": "message", "version": "1.0", "id": published["messageId"],
        "timestamp": "2026-01-01T00:00:00.000Z", "channel": "room:7",
        "position": published["position"], "from": {"userId": "alice"},
        "data": {"kind": "chat.line", "data": "hi"},
    });
    assert_eq!(messages, [expected]);
    assert!(
        received(&dispatcher, "c1").is_empty(),
        "the publisher gets no copy"
    );
    let echoed = json!({"channel": "room:7", "kind": "k", "echo": true});
    publish(&dispatcher, "c1", echoed).await;
    assert_eq!(received(&dispatcher, "c1").len(), 1);
}

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
async fn a_message_that_is_not_kept_has_no_position() {
    let dispatcher = with_rules().await;
    let channels = json!([{"channel": "room:7"}, {"channel": "talk:1"}]);
    let states = subscribe(&dispatcher, "c2", channels).await;
    assert_eq!(states[1], json!({"channel": "talk:1"}));
    let mut unstored = line("room:7");
    unstored["store"] = json!(false);
    for data in [unstored, line("talk:1")] {
        let published = publish(&dispatcher, "c1", data).await;
        assert_eq!(published.get("position"), None, "{published}");
    }
    let messages = received(&dispatcher, "c2");
    assert_eq!(messages.len(), 2);
    assert!(
        messages
            .iter()
            .all(|message| message.get("position").is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_published_once() {
    let dispatcher = with_rules().await;
    let mut data = line("room:7");
    data["messageId"] = json!("m-1");
    let first = publish(&dispatcher, "c1", data.clone()).await;
    assert_eq!(first["messageId"], "m-1");
    publish(&dispatcher, "c1", line("room:7")).await;
    assert_eq!(publish(&dispatcher, "c1", data.clone()).await, first);
    // Another user's id is another id.
    let others = publish(&dispatcher, "c2", data.clone()).await;
    assert_eq!(others["position"]["seq"], 3);
    data["channel"] = json!("room:8");
    assert_eq!(publish(&dispatcher, "c1", data).await["position"]["seq"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_posted_as_it_was_published() {
    let dispatcher = with_rules().await;
    let channels = json!([{"channel": "room:7"}]);
    subscribe(&dispatcher, "c2", channels).await;
    let mut data = line("room:7");
    data["messageId"] = json!("m-1");
    publish(&dispatcher, "c1", data.clone()).await;
    data["data"] = json!("something else");
    // While it is the newest, and later.
    for _ in 0..2 {
        dispatcher.clock.advance(Duration::from_secs(1));
        publish(&dispatcher, "c1", data.clone()).await;
        publish(&dispatcher, "c1", line("room:7")).await;
    }
    let messages = received(&dispatcher, "c2");
    let seqs: Vec<_> = messages.iter().map(|m| &m["position"]["seq"]).collect();
    assert_eq!(seqs, [1, 1, 2, 1, 3]);
    assert_eq!(messages[1], messages[0]);
    assert_eq!(messages[3], messages[0]);
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
async fn a_busy_channel_says_so() {
    let dispatcher = with_rules().await;
    dispatcher.store.fail_next("advance");
    let answer = frame(&dispatcher, "c1", "publish", line("room:7")).await;
    assert_eq!(code(&answer), "INTERNAL", "it may have been published");
    let log = crate::log::LogKey::channel("room:7");
    assert_eq!(dispatcher.store.head(&log).await, Ok(None));
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

#[tokio::test(start_paused = true)]
async fn what_a_hello_accepts_holds_for_the_connection_and_its_later_subscriptions() {
    let dispatcher = with_rules().await;
    let room = json!({"channels": [{"channel": "room:7"}]});
    let accepts = json!({"accepts": ["zip", "batch"]});
    for (id, hellos, expected) in [
        (
            "c1",
            vec![accepts.clone(), json!({}), json!({"accepts": []})],
            true,
        ),
        ("c2", vec![json!({"accepts": ["zip"]})], false),
    ] {
        for hello in hellos {
            let welcome = frame(&dispatcher, id, "hello", hello).await;
            assert_eq!(welcome["type"], "welcome", "{welcome}");
        }
        assert_eq!(dispatcher.store.row(id).unwrap().accepts_batch, expected);
        frame(&dispatcher, id, "subscribe", room.clone()).await;
    }
    let accepting = async || {
        let (channel, now) = (
            ChannelName::parse("room:7").unwrap(),
            dispatcher.clock.now(),
        );
        let whole = Segment { index: 0, total: 1 };
        let store = &dispatcher.store;
        let listed = store.subscribers(&channel, Listing::All, whole, None, 10, now);
        let recipients = listed.await.unwrap().recipients.into_iter();
        let accepting = recipients.filter(|one| one.accepts_batch);
        let mut ids: Vec<_> = accepting.map(|one| one.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(accepting().await, ["c1"]);
    // With the subscriptions that ride on it, too.
    let both = json!({"accepts": ["batch"], "subscribe": room});
    frame(&dispatcher, "c2", "hello", both).await;
    assert_eq!(accepting().await, ["c1", "c2"]);
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
