//! Which handshakes are accepted, and the status of those that are refused.

use belfry_tests::{Crafted, Stack, http, open, refused, unix_time};
use serde_json::json;

const PING: &str = r#"{"type":"ping","version":"1.0"}"#;

#[tokio::test]
async fn a_token_is_accepted_from_each_source() {
    let stack = Stack::start().await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);

    let mut socket = open(&format!("{url}?token={token}"), &[]).await;
    assert_eq!(socket.protocol, None);
    assert_eq!(socket.ask(PING).await["type"], "pong");

    for name in ["Authorization", "authorization"] {
        let mut socket = open(url, &[(name, &format!("Bearer {token}"))]).await;
        assert_eq!(socket.ask(PING).await["type"], "pong");
    }

    let offer = format!("belfry.v1, bearer.{token}");
    let mut socket = open(url, &[("Sec-WebSocket-Protocol", &offer)]).await;
    assert_eq!(
        socket.protocol.as_deref(),
        Some("belfry.v1"),
        "the answer must be belfry.v1 alone"
    );
    assert_eq!(socket.ask(PING).await["type"], "pong");
}

#[tokio::test]
async fn more_than_one_token_source_is_a_400() {
    let stack = Stack::start().await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);
    let bearer = format!("Bearer {token}");
    let offer = format!("belfry.v1, bearer.{token}");
    let with_query = format!("{url}?token={token}");
    assert_eq!(
        refused(&with_query, &[("Authorization", &bearer)]).await,
        400
    );
    assert_eq!(
        refused(&with_query, &[("Sec-WebSocket-Protocol", &offer)]).await,
        400
    );
    assert_eq!(
        refused(
            url,
            &[
                ("Authorization", &bearer),
                ("Sec-WebSocket-Protocol", &offer)
            ]
        )
        .await,
        400
    );
    assert_eq!(
        refused(&format!("{with_query}&token={token}"), &[]).await,
        400
    );
    assert_eq!(stack.rows().await, 0);
}

#[tokio::test]
async fn offers_without_the_servers_subprotocol_are_a_400() {
    let stack = Stack::start().await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);
    let offer = format!("bearer.{token}");
    let bearer = format!("Bearer {token}");
    let with_query = format!("{url}?token={token}");
    let other = ("Sec-WebSocket-Protocol", "graphql-ws, belfry.v2");
    for (url, headers) in [
        (url, &[("Sec-WebSocket-Protocol", offer.as_str())][..]),
        (&with_query, &[other]),
        (url, &[("Authorization", &bearer), other]),
    ] {
        assert_eq!(refused(url, headers).await, 400);
    }
    assert_eq!(stack.rows().await, 0);
    let reason = "the offered subprotocols do not include belfry.v1";
    stack.logs.wait_for(&["[Connect]", reason, "400"]).await;
    assert!(!stack.logs.text().contains(&token), "a token was logged");
}

#[tokio::test]
async fn every_invalid_token_is_a_401_and_leaves_no_row() {
    let stack = Stack::start().await;
    let url = &stack.ready.websocket;
    let crafted = Crafted::new(&stack).await;
    let issued = async |claims| {
        stack
            .token_with(json!({"user": "alice", "claims": claims}))
            .await
    };
    let now = unix_time().as_secs();
    let id_token = stack.tokens(json!({"user": "alice"})).await["idToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let cases = [
        ("empty", String::new()),
        ("garbage", "garbage".into()),
        ("three parts of garbage", "a.b.c".into()),
        (
            "expired",
            stack.token_with(json!({"user": "alice", "ttl": -6})).await,
        ),
        ("not yet valid", issued(json!({"nbf": now + 60})).await),
        (
            "issued in the future",
            issued(json!({"iat": now + 60})).await,
        ),
        (
            "another issuer",
            issued(json!({"iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_other"}))
                .await,
        ),
        (
            "another client",
            issued(json!({"client_id": "stranger"})).await,
        ),
        ("no client", issued(json!({"client_id": null})).await),
        ("no expiry", issued(json!({"exp": null})).await),
        ("no time of issue", issued(json!({"iat": null})).await),
        (
            "valid for more than 24 hours",
            issued(json!({"exp": now + 86_500})).await,
        ),
        ("no user", issued(json!({"sub": null})).await),
        ("an ID token", id_token),
        ("alg none", crafted.unsigned()),
        (
            "HS256 with the public key",
            crafted.signed_with_the_public_key(),
        ),
        (
            "an unknown kid",
            crafted.signed_by_a_stranger(Some("unknown")),
        ),
        (
            "a known kid over a stranger's signature",
            crafted.signed_by_a_stranger(None),
        ),
        ("a tampered payload", crafted.tampered()),
        ("a broken signature", crafted.broken()),
    ];
    for (name, token) in &cases {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            refused(url, &[("Authorization", &bearer)]).await,
            401,
            "{name}, in the header"
        );
        assert_eq!(
            refused(&format!("{url}?token={token}"), &[]).await,
            401,
            "{name}, in the query"
        );
    }
    assert_eq!(refused(url, &[]).await, 401, "no token at all");
    assert_eq!(
        refused(url, &[("Authorization", "Basic YWxpY2U6c2VjcmV0")]).await,
        401,
        "another scheme"
    );
    assert_eq!(stack.rows().await, 0, "none of them left a row");

    let line = stack
        .logs
        .wait_for(&["[Connect]", "\"event\":\"connection.refused\"", "no token"])
        .await;
    assert!(line.contains("\"statusCode\":401"), "{line}");
    let logs = stack.logs.text();
    for (name, token) in cases.iter().filter(|(_, token)| token.len() > 20) {
        assert!(!logs.contains(token), "{name}: a token reached the logs");
        let signature = token.rsplit('.').next().unwrap();
        assert!(
            signature.len() < 20 || !logs.contains(signature),
            "{name}: a signature reached the logs"
        );
    }
}

#[tokio::test]
async fn an_origin_must_be_on_the_list() {
    let stack = Stack::builder()
        .parameter(
            "AllowedOrigins",
            "https://app.example.com, https://*.example.org, https://bücher.example",
        )
        .start()
        .await;
    let (url, token) = (&stack.ready.websocket, stack.token("alice").await);
    let bearer = format!("Bearer {token}");
    for origin in [
        "https://app.example.com",
        "https://a.example.org",
        "https://app.example.com:443",
        "https://xn--bcher-kva.example",
    ] {
        let mut socket = open(url, &[("Authorization", &bearer), ("Origin", origin)]).await;
        assert_eq!(socket.ask(PING).await["type"], "pong", "{origin}");
    }
    open(url, &[("Authorization", &bearer)]).await.close().await;

    // A page cannot set the header, so the server's own origin with it is no
    // page's; without it, it may be one's.
    let host = url
        .strip_prefix("ws://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let with_query = format!("{url}?token={token}");
    for scheme in ["http", "https", "ws", "wss"] {
        let own = format!("{scheme}://{host}");
        let headers = [("Authorization", bearer.as_str()), ("Origin", &own)];
        open(url, &headers).await.close().await;
        assert_eq!(refused(&with_query, &headers[1..]).await, 403, "{own}");
        let offer = format!("belfry.v1, bearer.{token}");
        let headers = [("Sec-WebSocket-Protocol", offer.as_str()), headers[1]];
        assert_eq!(refused(url, &headers).await, 403, "{own}");
    }
    for origin in [
        "https://evil.example.net",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.net",
        "https://a.b.example.org",
        "https://example.org",
        "null",
        "",
    ] {
        let status = refused(url, &[("Authorization", &bearer), ("Origin", origin)]).await;
        assert_eq!(status, 403, "{origin}");
    }
    let line = stack
        .logs
        .wait_for(&[
            "[Connect]",
            "\"event\":\"connection.refused\"",
            "origin not allowed",
            "https://evil.example.net",
        ])
        .await;
    assert!(line.contains("\"sourceIp\":\"127.0.0.1\""), "{line}");
}

#[tokio::test]
async fn a_missing_origin_can_be_refused() {
    let stack = Stack::builder()
        .parameter("AllowMissingOrigin", "false")
        .start()
        .await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    assert_eq!(
        refused(&stack.ready.websocket, &[("Authorization", &bearer)]).await,
        403
    );
    assert_eq!(stack.rows().await, 0);
}

#[tokio::test]
async fn the_user_id_claim_and_the_token_use_can_be_configured() {
    let stack = Stack::builder()
        .parameter("TokenUse", "id")
        .parameter("UserIdClaim", "custom:member")
        .start()
        .await;
    let tokens = stack
        .tokens(json!({"user": "alice", "claims": {"custom:member": "m-7"}}))
        .await;
    let url = &stack.ready.websocket;
    let mut socket = open(
        &format!("{url}?token={}", tokens["idToken"].as_str().unwrap()),
        &[],
    )
    .await;
    let welcome = socket.ask(r#"{"type":"hello","version":"1.0"}"#).await;
    assert_eq!(welcome["data"]["userId"], "m-7");
    let access = tokens["accessToken"].as_str().unwrap();
    assert_eq!(refused(&format!("{url}?token={access}"), &[]).await, 401);
}

#[tokio::test]
async fn a_plain_get_is_a_426_and_another_stage_a_403() {
    let stack = Stack::start().await;
    let url = stack.ready.websocket.replacen("ws://", "http://", 1);
    assert_eq!(http().get(url).send().await.unwrap().status(), 426);
    let elsewhere = stack.ready.websocket.replace("/dev", "/prod");
    assert_eq!(refused(&elsewhere, &[]).await, 403);
}

#[tokio::test]
async fn unreachable_keys_are_a_503() {
    let stack = Stack::builder()
        .parameter("TokenJwksUrl", "http://127.0.0.1:9/keys")
        .start()
        .await;
    let bearer = format!("Bearer {}", stack.token("alice").await);
    assert_eq!(
        refused(&stack.ready.websocket, &[("Authorization", &bearer)]).await,
        503
    );
    stack
        .logs
        .wait_for(&[
            "[Connect]",
            "signing keys unavailable",
            "refused (os error",
            "503",
        ])
        .await;
}
