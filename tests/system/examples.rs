//! Which tokens the example in TypeScript accepts.

use std::process::Stdio;

use belfry_tests::{KeyAnswer, KeyServer, Logs, SigningKey, ended, http, repository, unix_time};
use serde_json::{Value, json};
use tokio::process::Command;

const ISSUER: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC";

#[tokio::test]
async fn the_upload_handler_accepts_both_issuers_of_a_pool_and_only_its_clients() {
    let key = SigningKey::new("k");
    let server = KeyServer::start().await;
    server.answer("/keys", KeyAnswer::keys(&[&key]));
    let folder = repository().join("examples/typescript");
    assert!(
        folder.join("node_modules").is_dir(),
        "the npm packages are missing; run `make test-tools`"
    );
    let build = ended(
        Command::new("npm")
            .args(["run", "--silent", "build"])
            .current_dir(&folder),
    )
    .await;
    assert!(build.status.success(), "{build:?}");
    let mut handler = Command::new("node")
        .arg("dist/serve.js")
        .current_dir(&folder)
        .envs([
            ("TOKEN_ISSUER", ISSUER),
            ("TOKEN_JWKS_URL", &server.url("/keys")),
            ("COGNITO_CLIENT_IDS", "web, https://uploads.test"),
            ("UPLOADS_BUCKET", "uploads"),
            ("BROADCASTER_FUNCTION", "Broadcaster"),
            ("PORT", "0"),
            ("AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED", "true"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = Logs::of(handler.stdout.take().unwrap());
    let url = output.wait_for(&["http://127.0.0.1:"]).await;

    let now = unix_time().as_secs();
    let post = async |changes: Value| {
        let mut claims = json!({
            "iss": ISSUER,
            "token_use": "access",
            "client_id": "web",
            "sub": "alice",
            "iat": now,
            "exp": now + 60,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let request = http().post(url.trim()).bearer_auth(key.token(&claims));
        request.send().await.unwrap().status().as_u16()
    };
    // Without ?file=, a request with a good token is answered 400.
    let newer = ISSUER.replace("cognito-idp", "issuer-cognito-idp");
    for (changes, status) in [
        (json!({}), 400),
        (json!({"iss": newer}), 400),
        (json!({"aud": "https://uploads.test"}), 400),
        (json!({"aud": ["web", "account"]}), 400),
        (json!({"iss": format!("{ISSUER}d")}), 401),
        (json!({"iss": format!("{newer}d")}), 401),
        (json!({"token_use": "id", "aud": "web"}), 401),
        (json!({"client_id": "stranger"}), 401),
        (json!({"aud": "https://other.test"}), 401),
        (json!({"aud": []}), 401),
        (json!({"exp": now - 1}), 401),
    ] {
        assert_eq!(post(changes.clone()).await, status, "{changes}");
    }
}
