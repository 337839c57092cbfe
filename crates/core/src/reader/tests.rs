use std::sync::atomic::{AtomicU64, Ordering};

use belfry_protocol::{ErrorCode, ReadRequest};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::log::LogKey;
use crate::ports::{Acks, SignOuts, VerifyError};
use crate::testing::{
    DELIVERY, FANOUT, FakeAuthorizer, FakeMetrics, FakeOutbox, FakeStore, FakeVerifier,
    FakeWorkers, SeededRandomness, TestClock, user_id,
};

const RULES: &str = r#"{"version":"1.0",
    "user": {"history": {"seconds": 600}},
    "channels": [
        {"match": "room:*", "allow": ["subscribe", "publish"], "history": {"seconds": 300}},
        {"match": "ask:*", "allow": "ask", "history": {"seconds": 300}},
        {"match": "live:*", "allow": ["subscribe", "publish"]}]}"#;

type Fixture = Reader<
    FakeVerifier,
    FakeAuthorizer,
    FakeStore,
    FakeOutbox,
    TestClock,
    FakeMetrics,
    FakeWorkers,
    SeededRandomness,
>;

fn reader() -> Fixture {
    Reader {
        verifier: FakeVerifier,
        authorizer: FakeAuthorizer::default(),
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        workers: FakeWorkers::default(),
        random: SeededRandomness::default(),
        rules: RULES.parse().unwrap(),
        origins: OriginPolicy {
            allowed: "https://app.example.com".parse().unwrap(),
            allow_missing: true,
        },
        delivery: DELIVERY,
        fanout: FANOUT,
        stream_time: Duration::from_secs(55),
        places_per_user: 20,
        bucket: TokenBucket::per_minute(60_000),
        max_message_bytes: 1_024,
    }
}

fn with_token(token: &str) -> Credentials {
    Credentials {
        origin: None,
        tokens: vec![token.into()],
    }
}

async fn alice(reader: &Fixture) -> Identity {
    reader.identify(&with_token("good:alice")).await.unwrap()
}

fn channels(query: &[(&str, &str)]) -> Vec<(Address, Option<Since>)> {
    ReadRequest::parse(query.iter().copied(), None)
        .unwrap()
        .channels
}

async fn publish(reader: &Fixture, channel: &str, number: u64) -> Published {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let id = MessageId::parse(format!("r{}", CALLS.fetch_add(1, Ordering::Relaxed))).unwrap();
    let body = json!({"channel": channel, "kind": "line", "data": number}).to_string();
    reader
        .publish(&alice(reader).await, &body, &id)
        .await
        .unwrap()
}

fn frame(event: &Event) -> Value {
    serde_json::from_str(&event.frame).unwrap()
}

/// The numbers of the messages among events.
fn numbers(events: &[Event]) -> Vec<u64> {
    let frames = events.iter().map(frame);
    frames
        .filter(|frame| frame["type"] == "message")
        .map(|frame| frame["data"]["data"].as_u64().unwrap())
        .collect()
}

async fn events(reader: &Fixture, stream: &mut EventStream) -> Vec<Event> {
    loop {
        match reader.next(stream).await {
            Step::Events(events) => return events,
            Step::KeepAlive => {}
            Step::End => panic!("the stream has ended"),
        }
    }
}

async fn open(reader: &Fixture, query: &[(&str, &str)]) -> (EventStream, Vec<Event>) {
    let identity = alice(reader).await;
    reader.stream(identity, channels(query)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_now_and_brings_what_comes() {
    let reader = reader();
    publish(&reader, "room:7", 1).await;
    let (mut stream, first) = open(&reader, &[("channel", "room:7"), ("channel", "@me")]).await;
    assert_eq!(first.len(), 1);
    let subscribed = frame(&first[0]);
    assert_eq!(subscribed["type"], "subscribed");
    let channels = &subscribed["data"]["channels"];
    assert_eq!(channels[0]["seq"], 1);
    assert_eq!(channels[1]["seq"], 0);
    assert_eq!(channels[0].get("recovered"), None, "it asked for nothing");
    publish(&reader, "room:7", 2).await;
    let next = events(&reader, &mut stream).await;
    assert_eq!(numbers(&next), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_resumed_brings_what_was_missed() {
    let reader = reader();
    let (_, first) = open(&reader, &[("channel", "room:7")]).await;
    let cursor = first[0].cursor.clone();
    for number in 1..=400 {
        publish(&reader, "room:7", number).await;
    }
    let query = [("channel", "room:7"), ("cursor", cursor.as_str())];
    let (mut stream, first) = open(&reader, &query).await;
    let state = &frame(&first[0])["data"]["channels"][0];
    assert_eq!(state["recovered"], true);
    assert_eq!(
        first[0].cursor, cursor,
        "nothing is read before the messages"
    );
    let mut seen = numbers(&first);
    while seen.len() < 400 {
        seen.extend(numbers(&events(&reader, &mut stream).await));
    }
    assert!(seen.into_iter().eq(1..=400));
}

#[tokio::test(start_paused = true)]
async fn a_reader_learns_whose_token_it_has() {
    let reader = reader();
    let query = [("channel", "room:7")];
    let (_, first) = open(&reader, &query).await;
    let identity = alice(&reader).await;
    let expires_at = json!(identity.expires_at.to_millis().to_timestamp());
    let data = &frame(&first[0])["data"];
    assert_eq!(data["userId"], "alice");
    assert_eq!(data["tokenExpiresAt"], expires_at);
    for query in [&query[..], &[]] {
        let answer = reader.poll(identity.clone(), channels(query), Duration::ZERO);
        let answer = serde_json::to_value(answer.await.unwrap()).unwrap();
        assert_eq!(answer["userId"], "alice");
        assert_eq!(answer["tokenExpiresAt"], expires_at);
        assert_eq!(answer["channels"].as_array().unwrap().len(), query.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_begins_at_what_the_user_has_acknowledged() {
    let reader = reader();
    let query = [("channel", "room:7"), ("cursor", "acked")];
    for number in 1..=3 {
        publish(&reader, "room:7", number).await;
    }
    let (_, first) = open(&reader, &query).await;
    let state = &frame(&first[0])["data"]["channels"][0];
    assert_eq!(state.get("recovered"), None, "nothing is acknowledged");
    assert_eq!(numbers(&first), [0; 0]);
    let position = publish(&reader, "room:7", 4).await.position.unwrap();
    publish(&reader, "room:7", 5).await;
    let (log, user) = (LogKey::channel("room:7"), user_id("alice"));
    let acked = reader
        .store
        .acknowledge(&log, &user, &position, reader.clock.now());
    acked.await.unwrap();
    let (_, first) = open(&reader, &query).await;
    let state = &frame(&first[0])["data"]["channels"][0];
    assert_eq!(state["recovered"], true);
    assert_eq!(numbers(&first), [5]);
    let answer = reader.poll(alice(&reader).await, channels(&query), Duration::ZERO);
    let answer = serde_json::to_value(answer.await.unwrap()).unwrap();
    assert_eq!(answer["messages"].as_array().unwrap().len(), 1);
    assert_eq!(
        answer["cursor"], first[1].cursor,
        "it does not stay `acked`"
    );
    reader.clock.advance(crate::ports::ACK_LIFETIME);
    let (_, first) = open(&reader, &query).await;
    let state = &frame(&first[0])["data"]["channels"][0];
    assert_eq!(state.get("recovered"), None, "it was too long ago");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_at_the_beginning_and_later() {
    let reader = Reader {
        stream_time: Duration::from_secs(7_200),
        ..reader()
    };
    publish(&reader, "room:7", 1).await;
    for (cursor, reason) in [("other.3", "epoch"), ("other.0", "epoch")] {
        let query = [("channel", "room:7"), ("cursor", cursor)];
        let (_, first) = open(&reader, &query).await;
        let state = &frame(&first[0])["data"]["channels"][0];
        assert_eq!(state["recovered"], false);
        assert_eq!(state["reason"], reason);
        let newest = format!("{}.1", state["epoch"].as_str().unwrap());
        assert_eq!(first[0].cursor, newest, "it goes on with the newest");
    }
    let (mut stream, first) = open(&reader, &[("channel", "room:7")]).await;
    publish(&reader, "room:7", 2).await;
    publish(&reader, "room:7", 3).await;
    reader.clock.advance(Duration::from_secs(301));
    reader.store.delete_expired_log_entries(reader.clock.now());
    let events = events(&reader, &mut stream).await;
    let told = frame(&events[0]);
    assert_eq!(told["type"], "subscribed");
    assert_eq!(told["data"]["userId"], "alice");
    assert_eq!(told["data"]["channels"][0]["reason"], "expired");
    assert_ne!(events[0].cursor, first[0].cursor);
    assert_eq!(events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_never_silent_for_long_and_ends_by_itself() {
    let reader = reader();
    let (mut stream, _) = open(&reader, &[("channel", "room:7")]).await;
    let begun = reader.clock.now();
    for _ in 0..3 {
        assert_eq!(reader.next(&mut stream).await, Step::KeepAlive);
    }
    assert_eq!(reader.next(&mut stream).await, Step::End);
    let lasted = reader.clock.now().since(begun);
    assert!(lasted >= reader.stream_time, "{lasted:?}");
    assert!(lasted <= reader.stream_time + LONGEST_WAIT, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token_and_at_a_sign_out() {
    let reader = Reader {
        stream_time: Duration::from_secs(7_200),
        ..reader()
    };
    let (mut stream, _) = open(&reader, &[("channel", "room:7")]).await;
    reader.clock.advance(Duration::from_secs(3_600));
    let end = events_or_end(&reader, &mut stream).await;
    assert_eq!(end, ["TOKEN_EXPIRED"]);
    let (mut stream, _) = open(&reader, &[("channel", "room:7")]).await;
    let now = reader.clock.now();
    let mark = now.to_seconds();
    reader
        .store
        .sign_out(&user_id("alice"), mark, now)
        .await
        .unwrap();
    assert_eq!(events_or_end(&reader, &mut stream).await, ["SIGNED_OUT"]);
    let took = reader.clock.now().since(now);
    assert!(took <= SIGN_OUT_CHECK + LONGEST_WAIT, "{took:?}");
    reader.clock.set(now);
    let again = reader.identify(&with_token("good:alice")).await;
    assert_eq!(again, Err(Refusal::SignedOut));
}

/// The codes that a stream ends with.
async fn events_or_end(reader: &Fixture, stream: &mut EventStream) -> Vec<String> {
    let mut codes = Vec::new();
    loop {
        match reader.next(stream).await {
            Step::Events(events) => {
                let code = |event| frame(event)["data"]["code"].as_str().map(str::to_owned);
                codes.extend(events.iter().filter_map(code));
            }
            Step::KeepAlive => {}
            Step::End => return codes,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_application_allowed_is_asked_again() {
    let reader = reader();
    reader
        .authorizer
        .allow([Action::Subscribe], Duration::from_secs(10));
    let query = [("channel", "ask:1"), ("channel", "room:7")];
    let (mut stream, first) = open(&reader, &query).await;
    reader.authorizer.allow([], Duration::from_secs(10));
    // A read that fails then does not take the news along.
    reader.store.fail_next("peek");
    let ended = events(&reader, &mut stream).await;
    let told = frame(&ended[0]);
    assert_eq!(told["type"], "unsubscribed");
    assert_eq!(told["data"]["channels"], json!(["ask:1"]));
    assert_eq!(told["data"]["reason"], "FORBIDDEN");
    assert_eq!(first[0].cursor, ended[0].cursor);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_refused_for_a_while_skips_nothing() {
    let reader = reader();
    let both = [Action::Subscribe, Action::Publish];
    reader.authorizer.allow(both, Duration::from_secs(600));
    let channels = [("channel", "ask:1"), ("channel", "room:7")];
    let (_, first) = open(&reader, &channels).await;
    publish(&reader, "ask:1", 1).await;
    reader.authorizer.allow([], Duration::from_secs(600));
    let resumed = |cursor| [channels[0], channels[1], ("cursor", cursor)];
    let (mut stream, _) = open(&reader, &resumed(&first[0].cursor)).await;
    publish(&reader, "room:7", 2).await;
    let cursor = events(&reader, &mut stream).await.pop().unwrap().cursor;
    reader.authorizer.allow(both, Duration::from_secs(600));
    let (_, last) = open(&reader, &resumed(&cursor)).await;
    assert_eq!(numbers(&last), [1]);
}

#[tokio::test(start_paused = true)]
async fn one_channel_that_is_refused_does_not_affect_the_others() {
    let reader = reader();
    let query = [
        ("channel", "secret:1"),
        ("channel", "room:7"),
        ("channel", "live:1"),
    ];
    let (_, first) = open(&reader, &query).await;
    let states = &frame(&first[0])["data"]["channels"];
    assert_eq!(states[0]["error"]["code"], "FORBIDDEN");
    assert_eq!(states[1]["seq"], 0);
    assert_eq!(states[2]["error"]["code"], "INVALID_MESSAGE", "no history");
    let identity = alice(&reader).await;
    let refused = reader
        .stream(identity, channels(&[("channel", "secret:1")]))
        .await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn a_poll_answers_at_once_or_waits() {
    let reader = reader();
    let poll = async |cursor: &str, wait: u64| {
        let query = [("channel", "room:7"), ("cursor", cursor)];
        let wait = Duration::from_secs(wait);
        let answer = reader.poll(alice(&reader).await, channels(&query), wait);
        serde_json::to_value(answer.await.unwrap()).unwrap()
    };
    let begun = reader.clock.now();
    let first = poll("-", 0).await;
    assert_eq!(first["messages"], json!([]));
    assert_eq!(reader.clock.now(), begun);
    let cursor = first["cursor"].as_str().unwrap();
    let (waited, ()) = tokio::join!(poll(cursor, 20), async {
        reader.clock.sleep(Duration::from_secs(7)).await;
        publish(&reader, "room:7", 1).await;
    });
    let took = reader.clock.now().since(begun);
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(waited["messages"][0]["data"]["data"], 1);
    assert_eq!(waited["channels"][0]["recovered"], true);
    let again = poll(cursor, 20).await;
    assert_eq!(
        again["messages"], waited["messages"],
        "a lost answer is no loss"
    );
    let cursor = waited["cursor"].as_str().unwrap();
    let begun = reader.clock.now();
    let nothing = poll(cursor, 20).await;
    assert_eq!(nothing["messages"], json!([]));
    assert_eq!(nothing["cursor"], cursor);
    assert_eq!(reader.clock.now().since(begun), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn only_a_valid_caller_is_served() {
    let reader = reader();
    let origin = |origin: &str| Credentials {
        origin: Some(origin.into()),
        ..with_token("good:alice")
    };
    assert!(
        reader
            .identify(&origin("https://app.example.com"))
            .await
            .is_ok()
    );
    let twice = Credentials {
        tokens: vec!["good:alice".into(), "good:alice".into()],
        ..Credentials::default()
    };
    for (credentials, code, is_failure) in [
        (origin("https://evil.example"), ErrorCode::Forbidden, false),
        (Credentials::default(), ErrorCode::Unauthorized, false),
        (twice, ErrorCode::InvalidMessage, false),
        (with_token("bad"), ErrorCode::Unauthorized, false),
        (with_token("keys down"), ErrorCode::Internal, true),
    ] {
        let refusal = reader.identify(&credentials).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.is_failure()), (code, is_failure));
    }
    let rejected = Refusal::Token(VerifyError::Rejected("the signature is wrong"));
    let told = rejected.into_refused().message;
    assert!(!told.contains("signature"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_user_publishes_as_a_client() {
    let reader = reader();
    let published = publish(&reader, "room:7", 1).await;
    assert_eq!(published.position.unwrap().seq, 1);
    let refused = |body: Value| {
        let (reader, body) = (&reader, body.to_string());
        async move {
            let id = MessageId::parse("r").unwrap();
            let refused = reader.publish(&alice(reader).await, &body, &id).await;
            refused.unwrap_err().code()
        }
    };
    for (channel, code) in [
        ("secret:1", ErrorCode::Forbidden),
        ("@all", ErrorCode::InvalidMessage),
        ("@me", ErrorCode::InvalidMessage),
    ] {
        let body = json!({"channel": channel, "kind": "line"});
        assert_eq!(refused(body).await, code, "{channel}");
    }
    let long = json!({"channel": "room:7", "kind": "line", "data": "x".repeat(1_024)});
    assert_eq!(refused(long).await, ErrorCode::MessageTooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_moment_ends_no_stream() {
    let reader = reader();
    let (mut stream, _) = open(&reader, &[("channel", "room:7")]).await;
    publish(&reader, "room:7", 1).await;
    reader.store.fail_next("peek");
    let events = events(&reader, &mut stream).await;
    assert_eq!(numbers(&events), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_streams_and_polls_at_a_time() {
    let reader = Reader {
        places_per_user: 2,
        ..reader()
    };
    let query = [("channel", "room:7")];
    let (mut first, _) = open(&reader, &query).await;
    let (_lost, _) = open(&reader, &query).await;
    let refused = async |wait: u64| {
        let wait = Duration::from_secs(wait);
        let answer = reader.poll(alice(&reader).await, channels(&query), wait);
        answer.await.err()
    };
    let refusal = refused(1).await.expect("no place is free");
    assert_eq!(refusal.code(), ErrorCode::RateLimited);
    assert!(refusal.into_refused().retry_after_ms.is_some());
    assert_eq!(
        refused(0).await,
        None,
        "a poll that does not wait takes none"
    );
    assert_eq!(events_or_end(&reader, &mut first).await, [""; 0]);
    assert_eq!(refused(1).await, None, "its end frees a place");
    assert_eq!(refused(1).await, None, "and so does a poll's");
    // The function of the other one died.
    reader.clock.advance(OVERTIME);
    for _ in 0..2 {
        open(&reader, &query).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_publishes_so_many_messages_a_minute() {
    let reader = Reader {
        bucket: TokenBucket::per_minute(60),
        ..reader()
    };
    for number in 0..6 {
        publish(&reader, "room:7", number).await;
    }
    let id = MessageId::parse("r").unwrap();
    let refused = reader.publish(&alice(&reader).await, "{}", &id).await;
    let refused = refused.unwrap_err().into_refused();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert_eq!(refused.retry_after_ms, Some(1_000));
    reader.clock.advance(Duration::from_secs(1));
    publish(&reader, "room:7", 7).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A reader is cut off after any event, and goes on by a stream or a poll
    /// with the last cursor that it has: every message comes once, in order.
    #[test]
    fn a_reader_that_is_cut_anywhere_misses_nothing(
        runs in prop::collection::vec((0u64..6, 0usize..8, any::<bool>()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let reader = reader();
            let (_, first) = open(&reader, &[("channel", "@me"), ("channel", "room:7")]).await;
            let mut cursor = first[0].cursor.clone();
            let (mut published, mut seen) = (0, Vec::new());
            for (messages, taken, polls) in runs {
                for _ in 0..messages {
                    published += 1;
                    publish(&reader, "room:7", published).await;
                }
                let query = [("channel", "@me"), ("channel", "room:7"), ("cursor", &cursor)];
                if polls {
                    let identity = alice(&reader).await;
                    let answer = reader.poll(identity, channels(&query), Duration::ZERO).await;
                    let answer = serde_json::to_value(answer.unwrap()).unwrap();
                    for message in answer["messages"].as_array().unwrap() {
                        seen.push(message["data"]["data"].as_u64().unwrap());
                    }
                    cursor = answer["cursor"].as_str().unwrap().to_owned();
                } else {
                    let (_, events) = open(&reader, &query).await;
                    // The rest is lost with the connection.
                    for event in events.iter().take(taken) {
                        seen.extend(numbers(std::slice::from_ref(event)));
                        cursor.clone_from(&event.cursor);
                    }
                }
            }
            let query = [("channel", "@me"), ("channel", "room:7"), ("cursor", &cursor)];
            let (mut stream, events) = open(&reader, &query).await;
            seen.extend(numbers(&events));
            while seen.len() < usize::try_from(published).unwrap() {
                seen.extend(numbers(&self::events(&reader, &mut stream).await));
            }
            assert!(seen.into_iter().eq(1..=published));
        });
    }
}
