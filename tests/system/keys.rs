//! Rotated signing keys, and a key server that misbehaves. The cache's own
//! tests cover its hours, with a manual clock.

use std::time::Duration;

use belfry_tests::{KeyAnswer, KeyServer, SigningKey, Stack, http, open, refused, unix_time};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

const ISSUER: &str = "https://issuer.test/pool";

/// A stack that verifies tokens with the keys of this server.
async fn stack_with(server: &KeyServer) -> Stack {
    Stack::builder()
        .parameter("TokenIssuer", ISSUER)
        .parameter("TokenJwksUrl", &server.url("/keys"))
        .parameter("CognitoClientIds", "web")
        .start()
        .await
}

/// A URL with a valid token, signed by this key.
fn url(stack: &Stack, key: &SigningKey) -> String {
    url_of(stack, key, ISSUER)
}

fn url_of(stack: &Stack, key: &SigningKey, issuer: &str) -> String {
    let token = key.token(&json!({
        "iss": issuer,
        "token_use": "access",
        "client_id": "web",
        "sub": "alice",
        "iat": unix_time().as_secs(),
        "exp": unix_time().as_secs() + 3_600,
    }));
    format!("{}?token={token}", stack.ready.websocket)
}

#[tokio::test]
async fn the_pool_id_determines_both_issuers_whatever_the_stacks_region_is() {
    let key = SigningKey::new("k");
    let server = KeyServer::start().await;
    server.answer("/keys", KeyAnswer::keys(&[&key]));
    let stack = Stack::builder()
        .parameter("TokenIssuer", "")
        .parameter("CognitoUserPoolId", "cn-north-1_AbC")
        .parameter("TokenJwksUrl", &server.url("/keys"))
        .parameter("CognitoClientIds", "web")
        .start()
        .await;
    let url = |issuer: &str| url_of(&stack, &key, issuer);
    let host = "cognito-idp.cn-north-1.amazonaws.com.cn";
    open(&url(&format!("https://{host}/cn-north-1_AbC")), &[]).await;
    open(&url(&format!("https://issuer-{host}/cn-north-1_AbC")), &[]).await;
    let other = url(&format!("https://{host}/cn-north-1_Other"));
    assert_eq!(refused(&other, &[]).await, 401);
}

#[tokio::test]
async fn another_provider_needs_no_token_use() {
    let (rsa, ec) = (SigningKey::new("rsa"), SigningKey::p256("ec"));
    let mut encryption = SigningKey::new("enc").jwk();
    encryption["use"] = "enc".into();
    encryption["alg"] = "RSA-OAEP".into();
    let unknown = json!({"kty": "AKP", "kid": "new", "alg": "ML-DSA-65", "pub": "AQAB"});
    let server = KeyServer::start().await;
    let keys = json!({"keys": [encryption, unknown, rsa.jwk(), ec.jwk()]});
    server.answer("/certs", KeyAnswer::text(keys.to_string()));
    let stack = Stack::builder()
        .parameter("TokenUse", "any")
        .parameter("TokenIssuer", ISSUER)
        .parameter("TokenJwksUrl", &server.url("/certs"))
        .parameter("CognitoClientIds", "web, https://api.test/v1")
        .start()
        .await;
    let url = |key: &SigningKey, client: serde_json::Value| {
        let now = unix_time().as_secs();
        let mut claims =
            json!({"iss": ISSUER, "sub": "auth0|alice", "iat": now, "exp": now + 3_600});
        for (name, value) in client.as_object().unwrap() {
            claims[name] = value.clone();
        }
        format!("{}?token={}", stack.ready.websocket, key.token(&claims))
    };
    for key in [&rsa, &ec] {
        for client in [
            json!({"azp": "web", "aud": ["web", "account"]}),
            json!({"azp": "web"}),
            json!({"aud": ["https://api.test/v1", "https://issuer.test/userinfo"]}),
            json!({"client_id": "web"}),
        ] {
            open(&url(key, client), &[]).await;
        }
        for stranger in [
            json!({"azp": "stranger", "aud": ["account"]}),
            json!({"azp": "web", "aud": "account"}),
        ] {
            assert_eq!(refused(&url(key, stranger), &[]).await, 401);
        }
    }
}

// The test waits the real minute between two fetches. A setting to shorten it
// could be set wrong in production.
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
    assert_eq!(
        server.requests("/keys"),
        1,
        "a second fetch within a minute"
    );

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
        (
            "a valid set that is huge",
            KeyAnswer::text(huge.to_string()),
        ),
        // Without a limit of its own, the function would time out: a 502.
        (
            "a valid set that takes long",
            good.clone().slowly(Duration::from_secs(15)),
        ),
    ] {
        server.answer("/keys", answer);
        assert_eq!(refused(&url(&stack, &key), &[]).await, 503, "{name}");
    }
    assert_eq!(server.requests("/moved"), 0, "a redirect was followed");
    assert_eq!(server.requests("/keys"), 9, "not one fetch per handshake");
    assert_eq!(stack.rows().await, 0);
    let reason = "the answer is longer than 65536 bytes";
    stack.logs.wait_for(&["[Connect]", reason, "503"]).await;

    server.answer("/keys", good);
    open(&url(&stack, &key), &[]).await;
    drop(server);
    open(&url(&stack, &key), &[]).await;
}

#[tokio::test]
async fn the_local_issuer_is_discovered_like_a_user_pool() {
    let stack = Stack::start().await;
    let fetch = async |url: &str| -> Value {
        let response = http().get(url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    };
    let issuer = &stack.ready.issuer;
    let document = fetch(&format!("{issuer}/.well-known/openid-configuration")).await;
    assert_eq!(document["issuer"], **issuer);
    let keys = fetch(document["jwks_uri"].as_str().unwrap()).await;
    assert_eq!(keys["keys"][0]["kty"], "RSA");
    for (field, value) in [
        ("response_types_supported", json!(["code", "token"])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(["RS256"])),
    ] {
        assert_eq!(document[field], value);
    }
    for endpoint in [
        "authorization",
        "token",
        "userinfo",
        "revocation",
        "end_session",
    ] {
        let url = document[format!("{endpoint}_endpoint")].as_str().unwrap();
        assert!(url.starts_with(&**issuer), "{url}");
    }
}
