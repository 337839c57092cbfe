//! Handshakes.

use belfry_tests::{http, node, open, refused, try_open};
use futures_util::future::join_all;
use serde_json::json;

use crate::target::Target;

#[tokio::test]
async fn the_upgrade_is_pending_until_connect_answers() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    // Long enough for the post, and half of the integration's time limit here.
    let url = target.url_with("slow 1500");
    let headers = [("User-Agent", agent.as_str())];
    let early = async {
        let event = watcher.event("CONNECT").await;
        let id = event["requestContext"]["connectionId"]
            .as_str()
            .unwrap()
            .to_owned();
        (target.post(&id, "too early").await, id)
    };
    let (mut socket, (early, id)) = tokio::join!(open(&url, &headers), early);
    assert_eq!(early, Err(410), "a post while the upgrade was pending");
    assert_eq!(target.post(&id, "now").await, Ok(()));
    assert_eq!(socket.receive_text().await, "now");
}

#[tokio::test]
async fn a_status_of_connect_becomes_the_handshakes() {
    let target = Target::start().await;
    assert_eq!(refused(&target.url_with("refuse"), &[]).await, 418);
}

#[tokio::test]
async fn a_failing_connect_is_a_502_and_the_next_one_works() {
    let target = Target::start().await;
    for what in ["crash", "panic", "nonsense", "error"] {
        assert_eq!(refused(&target.url_with(what), &[]).await, 502, "{what}");
        open(&target.url_with("ok"), &[]).await.close().await;
    }
}

#[tokio::test]
async fn a_connect_that_takes_too_long_is_a_504() {
    let target = Target::start().await;
    assert_eq!(refused(&target.url_with("hang"), &[]).await, 504);
}

#[tokio::test]
async fn a_get_without_upgrade_is_a_426() {
    let target = Target::start().await;
    let url = target.url.replacen("ws", "http", 1);
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 426);
}

#[tokio::test]
async fn the_url_may_have_a_slash_after_the_stage() {
    let target = Target::start().await;
    let url = format!("{}/", target.url);
    open(&url, &[]).await.close().await;
    let with_query = format!("{url}?do=refuse");
    assert_eq!(refused(&with_query, &[]).await, 418, "the query is read");
    let without_upgrade = http().get(url.replacen("ws", "http", 1)).send().await;
    assert_eq!(without_upgrade.unwrap().status(), 426);
}

#[tokio::test]
async fn a_handshake_on_any_other_path_is_a_403() {
    let target = Target::start().await;
    let (api, stage) = target.url.rsplit_once('/').unwrap();
    let other = ["", "/", "/nowhere", "/nowhere/", "/nowhere/more"].map(str::to_owned);
    let below =
        ["more", "more/", "/", "more/and/more", "$default"].map(|path| format!("/{stage}/{path}"));
    for path in other.iter().chain(&below) {
        assert_eq!(refused(&format!("{api}{path}"), &[]).await, 403, "{path}");
    }
}

#[tokio::test]
async fn a_get_without_upgrade_below_the_stage_is_a_426() {
    let target = Target::start().await;
    let url = target.url.replacen("ws", "http", 1);
    for path in ["more", "more/", "more/and/more?a=1"] {
        let response = http().get(format!("{url}/{path}")).send().await.unwrap();
        assert_eq!(response.status(), 426, "{path}");
    }
}

#[tokio::test]
#[cfg_attr(deployed, ignore = "would throttle the whole account")]
async fn connects_above_the_rate_are_a_429() {
    let target = Target::local(&["--connect-rate", "3"]).await;
    let connecting = (0..20).map(|_| try_open(&target.url, &[]));
    let statuses: Vec<_> = join_all(connecting)
        .await
        .into_iter()
        .map(Result::err)
        .collect();
    let accepted = statuses.iter().filter(|status| status.is_none()).count();
    let refused = statuses
        .iter()
        .filter(|status| **status == Some(429))
        .count();
    assert!(accepted >= 3 && refused >= 1, "{statuses:?}");
    assert_eq!(accepted + refused, statuses.len(), "{statuses:?}");
}

#[tokio::test]
async fn a_subprotocol_is_answered_by_the_function_or_not_at_all() {
    let target = Target::start().await;
    let offer = [("Sec-WebSocket-Protocol", "one, two")];
    // By hand: this client, like browsers, drops a connection that answers its
    // offer with none.
    let silent = handshake_by_hand(&target.url, &offer).await;
    assert_eq!(silent.status(), 101);
    assert!(!silent.headers().contains_key("sec-websocket-protocol"));
    let chosen = open(&target.url_with("protocol two"), &offer).await;
    assert_eq!(chosen.protocol.as_deref(), Some("two"));
}

async fn handshake_by_hand(url: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = http()
        .get(url.replacen("ws", "http", 1))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn connect_gets_the_headers_and_the_query() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    let agent = watcher.agent();
    let headers = [
        ("User-Agent", agent.as_str()),
        ("X-Custom", "one"),
        ("X-Custom", "two"),
    ];
    let _socket = open(&target.url, &headers).await;
    let event = watcher.event("CONNECT").await;
    let single = |name: &str| event["headers"][name].as_str();
    // This client sends names in lower case.
    assert_eq!(single("x-custom").or(single("X-Custom")), Some("two"));
    for name in [
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-Amzn-Trace-Id",
    ] {
        let value = single(name).or(single(&name.to_lowercase()));
        assert!(value.is_some(), "{name}: {event}");
    }
    assert_eq!(event.get("queryStringParameters"), None);
    assert_eq!(event.get("multiValueQueryStringParameters"), None);

    let url = format!("{}?a=1&a=2&b=%26", target.url);
    let _socket = open(&url, &headers[..1]).await;
    let event = watcher.event("CONNECT").await;
    assert_eq!(event["queryStringParameters"]["a"], "2");
    assert_eq!(event["queryStringParameters"]["b"], "&");
    assert_eq!(
        event["multiValueQueryStringParameters"]["a"],
        json!(["1", "2"])
    );
}

#[tokio::test]
async fn header_names_keep_the_clients_spelling() {
    let target = Target::start().await;
    let mut watcher = target.watcher().await;
    // Node's client sends names as they are written.
    let options =
        json!({"headers": {"User-Agent": watcher.agent(), "X-OddLy-Spelt": "1"}, "close": []});
    node("connect.mjs", &[&target.url, &options.to_string()]).await;
    let event = watcher.event("CONNECT").await;
    assert_eq!(event["headers"]["X-OddLy-Spelt"], "1", "{event}");
}

#[tokio::test]
async fn a_url_has_at_most_4096_characters() {
    let target = Target::start().await;
    let padded = |url: String, length: usize| {
        let missing = length - url.len();
        format!("{url}{}", "x".repeat(missing))
    };
    let begun = format!("{}?a=", target.url);
    open(&padded(begun.clone(), 4_096), &[]).await.close().await;
    assert_eq!(refused(&padded(begun, 4_097), &[]).await, 414);
}

#[tokio::test]
#[cfg_attr(deployed, ignore = "needs a deployment with Reserved=0")]
async fn a_throttled_connect_is_a_502() {
    let target = Target::local(&["--parameter", "Reserved=0"]).await;
    assert_eq!(refused(&target.url, &[]).await, 502);
}
