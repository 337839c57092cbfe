mod acks;
mod calls;
mod channels;
mod endings;
mod locks;
mod presence;

use std::sync::atomic::{AtomicU64, Ordering};

use super::rejection::MAX_REFUSALS;
use super::*;
use crate::ports::{MetricEvent, PostError, SignOuts, VerifyError};
use crate::testing::{
    DELIVERY, FANOUT, FakeAuthorizer, FakeCallee, FakeMetrics, FakeOutbox, FakeStore, FakeVerifier,
    FakeWorkers, PRESENCE, SeededRandomness, TestClock, connection_id, user_id,
};
use crate::time::UnixSeconds;
use belfry_protocol::MAX_FRAME_BYTES;
use serde_json::{Value, json};

pub(super) type Fixture = Dispatcher<
    FakeVerifier,
    FakeAuthorizer,
    FakeStore,
    FakeOutbox,
    TestClock,
    FakeMetrics,
    FakeWorkers,
    SeededRandomness,
    FakeCallee,
>;

pub(super) async fn dispatcher() -> Fixture {
    let dispatcher = Dispatcher {
        verifier: FakeVerifier,
        store: FakeStore::default(),
        outbox: FakeOutbox::default(),
        clock: TestClock::default(),
        metrics: FakeMetrics::default(),
        authorizer: FakeAuthorizer::default(),
        callee: FakeCallee::default(),
        workers: FakeWorkers::default(),
        random: SeededRandomness::default(),
        rules: ChannelRules::default(),
        delivery: DELIVERY,
        fanout: FANOUT,
        presence: PRESENCE,
        max_message_bytes: 1_024,
        messages_per_minute: 600,
        connection_lifetime: Duration::from_secs(7_200),
    };
    dispatcher.store.put("c1", "alice").await;
    dispatcher.outbox.open("c1");
    dispatcher
}

/// An id that no other call returns.
fn request_id() -> MessageId {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    MessageId::parse(format!("request-{number}")).unwrap()
}

pub(super) async fn send(
    dispatcher: &Fixture,
    id: &str,
    body: &str,
) -> (Option<Value>, FrameOutcome) {
    let id = connection_id(id);
    let answer = dispatcher.handle(&id, Some(body), &request_id()).await;
    let frame = answer.frame.map(|f| serde_json::from_str(&f).unwrap());
    (frame, answer.outcome)
}

#[tokio::test(start_paused = true)]
async fn ping_hello_and_echo_are_answered() {
    let dispatcher = dispatcher().await;
    dispatcher.clock.advance(Duration::from_secs(3));
    let (pong, _) = send(
        &dispatcher,
        "c1",
        r#"{"type":"ping","version":"1.0","id":"1"}"#,
    )
    .await;
    assert_eq!(
        pong.unwrap(),
        json!({"type": "pong", "version": "1.0", "timestamp": "2026-01-01T00:00:03.000Z", "correlationId": "1"})
    );
    let (echo, _) = send(
        &dispatcher,
        "c1",
        r#"{"type":"echo","version":"1.0","data":[1]}"#,
    )
    .await;
    assert_eq!(echo.unwrap()["data"], json!([1]));
    let (welcome, outcome) = send(&dispatcher, "c1", r#"{"type":"hello","version":"1.0"}"#).await;
    assert_eq!(
        welcome.unwrap()["data"],
        json!({
            "connectionId": "c1",
            "userId": "alice",
            "connectedAt": "2026-01-01T00:00:00.000Z",
            "tokenExpiresAt": "2026-01-01T01:00:00.000Z",
            "connectionExpiresAt": "2026-01-01T02:00:00.000Z",
            "limits": {"maxMessageBytes": 1024, "messagesPerMinute": 600},
        })
    );
    assert_eq!(outcome, FrameOutcome::Served("hello"));
    let served = ["ping", "echo", "hello"].map(MetricEvent::FrameServed);
    assert_eq!(dispatcher.metrics.take(), served);
    assert_eq!(
        dispatcher.store.row("c1").unwrap().last_seen_at,
        dispatcher.clock.now()
    );
}

#[tokio::test(start_paused = true)]
async fn welcome_names_the_rate_limit_in_force() {
    let dispatcher = Dispatcher {
        messages_per_minute: 45_000,
        ..dispatcher().await
    };
    let (welcome, _) = send(&dispatcher, "c1", r#"{"type":"hello","version":"1.0"}"#).await;
    let limits = &welcome.unwrap()["data"]["limits"];
    assert_eq!(limits["messagesPerMinute"], 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_bad_frame_is_refused_and_the_connection_stays() {
    let dispatcher = dispatcher().await;
    let (frame, outcome) = send(&dispatcher, "c1", "nonsense").await;
    assert_eq!(frame.unwrap()["data"]["code"], "INVALID_MESSAGE");
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::InvalidMessage));
    let answer = dispatcher
        .handle(&connection_id("c1"), None, &request_id())
        .await;
    assert_eq!(
        answer.outcome,
        FrameOutcome::Refused(ErrorCode::InvalidMessage)
    );
    assert!(dispatcher.outbox.is_open("c1"));
    let refused = MetricEvent::FrameRefused(ErrorCode::InvalidMessage);
    assert_eq!(dispatcher.metrics.take(), [refused.clone(), refused]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_would_be_too_large_is_refused() {
    let dispatcher = Dispatcher {
        max_message_bytes: MAX_FRAME_BYTES,
        ..dispatcher().await
    };
    let list = vec!["1e15"; 20_000].join(",");
    let frame = format!(r#"{{"type":"echo","version":"1.0","id":"7","data":[{list}]}}"#);
    let (frame, outcome) = send(&dispatcher, "c1", &frame).await;
    let frame = frame.unwrap();
    assert_eq!(frame["data"]["code"], "MESSAGE_TOO_LARGE");
    assert_eq!(frame["correlationId"], "7");
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::MessageTooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_row_is_told_and_closed() {
    let dispatcher = dispatcher().await;
    dispatcher.store.forget("c1");
    let (frame, outcome) = send(&dispatcher, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(
        (frame, outcome),
        (None, FrameOutcome::Closed(ErrorCode::UnknownConnection))
    );
    let posted: Value = serde_json::from_str(&dispatcher.outbox.posted("c1")[0]).unwrap();
    assert_eq!(posted["data"]["code"], "UNKNOWN_CONNECTION");
    assert!(!dispatcher.outbox.is_open("c1"));
    assert!(dispatcher.store.is_empty(), "no frame may create a row");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_is_not_reported_as_closed() {
    let dispatcher = dispatcher().await;
    let (frame, outcome) = send(&dispatcher, "left", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!((frame, outcome), (None, FrameOutcome::ClientLeft));
}

#[tokio::test(start_paused = true)]
async fn an_expired_row_does_not_count() {
    let dispatcher = dispatcher().await;
    dispatcher.clock.advance(Duration::from_secs(7_500));
    let (_, outcome) = send(&dispatcher, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::UnknownConnection));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token() {
    let dispatcher = dispatcher().await;
    dispatcher
        .clock
        .set(UnixSeconds(dispatcher.store.row("c1").unwrap().token_expires_at.0).to_millis());
    let (_, outcome) = send(&dispatcher, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::TokenExpired));
    assert!(!dispatcher.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn it_closes_even_if_the_reason_cannot_be_sent() {
    let dispatcher = dispatcher().await;
    dispatcher.outbox.answer("c2", [Err(PostError::TimedOut)]);
    let (_, outcome) = send(&dispatcher, "c2", "x").await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::UnknownConnection));
    assert!(!dispatcher.outbox.is_open("c2"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_an_internal_error() {
    let dispatcher = dispatcher().await;
    dispatcher.store.fail_from_now_on();
    let (frame, outcome) = send(&dispatcher, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(frame.unwrap()["data"]["code"], "INTERNAL");
    assert!(matches!(outcome, FrameOutcome::Failed(_)));
    assert!(dispatcher.outbox.is_open("c1"));
}

fn refresh(token: &str) -> String {
    json!({"type": "auth.refresh", "version": "1.0", "id": "r", "data": {"token": token}})
        .to_string()
}

#[tokio::test(start_paused = true)]
async fn a_new_token_of_the_same_user_moves_the_sessions_end() {
    let dispatcher = dispatcher().await;
    dispatcher.clock.advance(Duration::from_secs(3_000));
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("good:alice")).await;
    assert_eq!(
        frame.unwrap(),
        json!({
            "type": "auth.refreshed",
            "version": "1.0",
            "timestamp": "2026-01-01T00:50:00.000Z",
            "data": {"tokenExpiresAt": "2026-01-01T01:50:00.000Z"},
            "correlationId": "r",
        })
    );
    assert_eq!(outcome, FrameOutcome::Served("auth.refresh"));
    // Past the first token's end and before the second one's.
    dispatcher.clock.advance(Duration::from_secs(3_000));
    let (_, outcome) = send(&dispatcher, "c1", r#"{"type":"ping","version":"1.0"}"#).await;
    assert_eq!(outcome, FrameOutcome::Served("ping"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_ends_the_connection() {
    let dispatcher = dispatcher().await;
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("good:mallory")).await;
    assert_eq!(
        (frame, outcome),
        (None, FrameOutcome::Closed(ErrorCode::Unauthorized))
    );
    let posted: Value = serde_json::from_str(&dispatcher.outbox.posted("c1")[0]).unwrap();
    assert_eq!(posted["data"]["code"], "UNAUTHORIZED");
    assert!(!dispatcher.outbox.is_open("c1"));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_token_changes_nothing() {
    let dispatcher = dispatcher().await;
    let before = dispatcher.store.row("c1").unwrap();
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("bad")).await;
    let frame = frame.unwrap();
    assert_eq!(frame["data"]["code"], "UNAUTHORIZED");
    assert_eq!(frame["correlationId"], "r");
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::Unauthorized));
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("keys down")).await;
    let frame = frame.unwrap();
    assert_eq!(frame["data"]["code"], "INTERNAL");
    assert_eq!(frame["correlationId"], "r");
    assert!(matches!(outcome, FrameOutcome::Failed(_)));
    // Accepted at a handshake, whose leeway allows for clocks that differ.
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("late:alice")).await;
    assert_eq!(frame.unwrap()["data"]["code"], "UNAUTHORIZED");
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::Unauthorized));
    assert!(dispatcher.outbox.is_open("c1"));
    assert_eq!(dispatcher.store.row("c1").unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn every_refresh_counts_whatever_becomes_of_it() {
    for (token, fails) in [
        ("good:alice", None),
        ("good:alice", Some("signed_out_at")),
        ("good:mallory", None),
        ("late:alice", None),
        ("bad", None),
        ("keys down", None),
    ] {
        let dispatcher = dispatcher().await;
        // The client of another user's token goes on.
        dispatcher.outbox.refuse_closing("c1");
        let limited = FrameOutcome::Refused(ErrorCode::RateLimited);
        for n in 0..dispatcher.bucket().burst {
            if let Some(operation) = fails {
                dispatcher.store.fail_next(operation);
            }
            let (_, outcome) = send(&dispatcher, "c1", &refresh(token)).await;
            assert_ne!(outcome, limited, "{token}: frame {n}");
        }
        let (_, outcome) = send(&dispatcher, "c1", &refresh(token)).await;
        assert_eq!(outcome, limited, "{token}, {fails:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_cannot_be_refreshed() {
    let dispatcher = dispatcher().await;
    let end = dispatcher.store.row("c1").unwrap().token_expires_at;
    dispatcher.clock.set(end.to_millis());
    let (_, outcome) = send(&dispatcher, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::TokenExpired));
}

/// A slow key server.
struct SlowVerifier(Duration);

impl TokenVerifier for SlowVerifier {
    async fn verify(
        &self,
        token: &str,
        now: UnixMillis,
    ) -> Result<crate::ports::Identity, VerifyError> {
        tokio::time::sleep(self.0).await;
        FakeVerifier.verify(token, now).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_keys_are_fetched_stays_ended() {
    let Dispatcher {
        authorizer,
        callee,
        store,
        outbox,
        clock,
        metrics,
        workers,
        random,
        rules,
        delivery,
        fanout,
        presence,
        max_message_bytes,
        messages_per_minute,
        connection_lifetime,
        ..
    } = dispatcher().await;
    let slow = Dispatcher {
        verifier: SlowVerifier(Duration::from_secs(2)),
        authorizer,
        callee,
        store,
        outbox,
        clock,
        metrics,
        workers,
        random,
        rules,
        delivery,
        fanout,
        presence,
        max_message_bytes,
        messages_per_minute,
        connection_lifetime,
    };
    let row = slow.store.row("c1").unwrap();
    slow.clock
        .set(UnixMillis(row.token_expires_at.to_millis().0 - 1_000));
    let answer = slow
        .handle(
            &connection_id("c1"),
            Some(&refresh("good:alice")),
            &request_id(),
        )
        .await;
    assert_eq!(
        answer.outcome,
        FrameOutcome::Closed(ErrorCode::TokenExpired)
    );
    let after = slow.store.row("c1").unwrap();
    assert_eq!(after.token_expires_at, row.token_expires_at);
}

#[tokio::test(start_paused = true)]
async fn a_pong_counts_as_life_and_is_not_answered() {
    let dispatcher = dispatcher().await;
    dispatcher.clock.advance(Duration::from_secs(3));
    let pong = r#"{"type":"pong","version":"1.0"}"#;
    let (frame, outcome) = send(&dispatcher, "c1", pong).await;
    assert_eq!((frame, outcome), (None, FrameOutcome::Served("pong")));
    let row = dispatcher.store.row("c1").unwrap();
    assert_eq!(row.last_seen_at, dispatcher.clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_refused_with_the_wait_and_then_closed() {
    let dispatcher = dispatcher().await;
    let frame = r#"{"type":"ping","version":"1.0","id":"7"}"#;
    for _ in 0..dispatcher.bucket().burst {
        let (_, outcome) = send(&dispatcher, "c1", frame).await;
        assert_eq!(outcome, FrameOutcome::Served("ping"));
    }
    let (refused, outcome) = send(&dispatcher, "c1", frame).await;
    let refused = refused.unwrap();
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::RateLimited));
    assert_eq!(refused["correlationId"], "7");
    let wait = refused["data"]["retryAfterMs"].as_u64().unwrap();
    assert_eq!(wait, 100);
    dispatcher.clock.advance(Duration::from_millis(wait));
    let (_, outcome) = send(&dispatcher, "c1", frame).await;
    assert_eq!(outcome, FrameOutcome::Served("ping"));
    // Everything it sends counts, even if it is not a frame.
    for text in [frame, "nonsense", &refresh("good:alice"), &refresh("bad")] {
        let (_, outcome) = send(&dispatcher, "c1", text).await;
        assert_eq!(
            outcome,
            FrameOutcome::Refused(ErrorCode::RateLimited),
            "{text}"
        );
    }
    for _ in 6..MAX_REFUSALS {
        let (_, outcome) = send(&dispatcher, "c1", frame).await;
        assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::RateLimited));
    }
    let (frame, outcome) = send(&dispatcher, "c1", frame).await;
    assert_eq!(
        (frame, outcome),
        (None, FrameOutcome::Closed(ErrorCode::RateLimited))
    );
    assert!(!dispatcher.outbox.is_open("c1"));
    let last = dispatcher.outbox.posted("c1").pop().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["data"]["code"], "RATE_LIMITED", "{last}");
    assert_eq!(last["data"]["retryAfterMs"], 100, "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_token_from_before_a_sign_out_extends_nothing() {
    let dispatcher = dispatcher().await;
    let now = dispatcher.clock.now();
    dispatcher
        .store
        .sign_out(&user_id("alice"), now.to_seconds(), now)
        .await
        .unwrap();
    let (frame, outcome) = send(&dispatcher, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, FrameOutcome::Refused(ErrorCode::SignedOut));
    assert!(
        frame.unwrap()["data"]["message"]
            .as_str()
            .unwrap()
            .contains("signed out")
    );
    dispatcher.clock.advance(Duration::from_secs(1));
    let (_, outcome) = send(&dispatcher, "c1", &refresh("good:alice")).await;
    assert_eq!(outcome, FrameOutcome::Served("auth.refresh"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_closes_even_if_that_user_was_signed_out() {
    let dispatcher = dispatcher().await;
    let now = dispatcher.clock.now();
    let mallory = user_id("mallory");
    dispatcher
        .store
        .sign_out(&mallory, now.to_seconds(), now)
        .await
        .unwrap();
    let (_, outcome) = send(&dispatcher, "c1", &refresh("good:mallory")).await;
    assert_eq!(outcome, FrameOutcome::Closed(ErrorCode::Unauthorized));
    assert!(!dispatcher.outbox.is_open("c1"));
}
