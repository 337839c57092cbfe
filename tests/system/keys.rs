//! Signing keys that come and go, and a key server that misbehaves. What is
//! a matter of time alone (an hour, four hours) is shown beside the cache.

use std::time::Duration;

use belfry_tests::{KeyAnswer, KeyServer, SigningKey, Stack, open, refused};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

const ISSUER: &str = "https://issuer.test/pool";

/// A stack whose tokens are signed by keys that this server publishes.
async fn stack_with(server: &KeyServer) -> Stack {
    Stack::builder()
        .parameter("TokenIssuer", ISSUER)
        .parameter("TokenJwksUrl", &server.url("/keys"))
        .parameter("CognitoClientIds", "web")
        .start()
        .await
}

/// A URL with a good token, signed by this key.
fn url(stack: &Stack, key: &SigningKey) -> String {
    let token = key.token(&json!({
        "iss": ISSUER,
        "token_use": "access",
        "client_id": "web",
        "sub": "alice",
        "exp": 4_102_444_800_u64,
    }));
    format!("{}?token={token}", stack.ready.websocket)
}

// The minute between two fetches is the real one, and nothing shortens it:
// a setting for that would be one that could be set wrong.
#[tokio::test]
async fn a_rotated_key_is_found_after_a_minute_and_the_withdrawn_one_refused() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let server = KeyServer::start().await;
    server.answer("/keys", KeyAnswer::keys(&[&old]));
    let stack = stack_with(&server).await;
    open(&url(&stack, &old), &[]).await;
    let fetched_before = Instant::now();

    server.answer("/keys", KeyAnswer::keys(&[&new]));
    for _ in 0..3 {
        assert_eq!(refused(&url(&stack, &new), &[]).await, 401);
        open(&url(&stack, &old), &[]).await;
    }
    assert_eq!(server.requests("/keys"), 1, "no second one in that minute");

    sleep_until(fetched_before + Duration::from_secs(60)).await;
    open(&url(&stack, &new), &[]).await;
    assert_eq!(refused(&url(&stack, &old), &[]).await, 401);
    assert_eq!(server.requests("/keys"), 2);
}

#[tokio::test]
async fn a_key_server_that_misbehaves_is_a_503_until_it_recovers() {
    let key = SigningKey::new("k");
    let good = KeyAnswer::keys(&[&key]);
    let server = KeyServer::start().await;
    server.answer("/moved", good.clone());
    let stack = stack_with(&server).await;
    let huge = json!({"keys": [key.jwk()], "more": "x".repeat(64 * 1024)});
    for (name, answer) in [
        ("nothing there", KeyAnswer::status("404 Not Found")),
        ("an error", KeyAnswer::status("500 Internal Server Error")),
        ("moved", KeyAnswer::status("302 Found\r\nLocation: /moved")),
        ("empty", KeyAnswer::text("")),
        ("no JSON", KeyAnswer::text("<html>")),
        ("another shape", KeyAnswer::text(key.jwk().to_string())),
        ("no keys", KeyAnswer::keys(&[])),
        ("a good set that is huge", KeyAnswer::text(huge.to_string())),
        // Waiting for the end would be a 502: the function's time is up at ten.
        (
            "a good set that takes long",
            good.clone().slowly(Duration::from_secs(15)),
        ),
    ] {
        server.answer("/keys", answer);
        assert_eq!(refused(&url(&stack, &key), &[]).await, 503, "{name}");
    }
    assert_eq!(server.requests("/moved"), 0, "no redirect is followed");
    assert_eq!(server.requests("/keys"), 9, "each handshake tried");
    assert_eq!(stack.rows().await, 0);
    let reason = "the key set has more than 65536 bytes";
    stack.logs.wait_for(&["[Connect]", reason, "503"]).await;

    server.answer("/keys", good);
    open(&url(&stack, &key), &[]).await;
    drop(server);
    open(&url(&stack, &key), &[]).await;
}
