//! Function URLs and pages of other origins.

use belfry_tests::{Stack, http};
use reqwest::{Method, RequestBuilder, Response};

use super::url;

const PAGE: &str = "https://app.example.com";

async fn send(request: RequestBuilder, origin: &str) -> Response {
    let request = request
        .header("Origin", origin)
        .header("Sec-Fetch-Site", "cross-site");
    request.send().await.unwrap()
}

/// The CORS headers of a response, sorted.
fn cors(response: &Response) -> Vec<String> {
    let headers = response
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("access-control-") || *name == "vary");
    let lines = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

fn preflight(stack: &Stack, function: &str) -> RequestBuilder {
    let request = http().request(
        Method::OPTIONS,
        format!("{}/?do=error", url(stack, function)),
    );
    request.header("Access-Control-Request-Method", "POST")
}

#[tokio::test]
async fn lambda_answers_a_preflight_as_the_url_is_configured() {
    let stack = Stack::with_urls().start().await;
    // The function would fail.
    let response = send(preflight(&stack, "ForPages"), PAGE).await;
    assert_eq!(response.status(), 200);
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: authorization,x-a",
        "access-control-allow-methods: GET,POST",
        "access-control-allow-origin: https://app.example.com",
        "access-control-max-age: 300",
        "vary: Origin",
    ];
    assert_eq!(cors(&response), expected);
    let foreign = send(preflight(&stack, "ForPages"), "https://evil.example").await;
    assert_eq!(foreign.status(), 200);
    assert_eq!(cors(&foreign), [""; 0]);
}

#[tokio::test]
async fn configured_headers_are_added_to_the_functions_own() {
    let stack = Stack::with_urls().start().await;
    let request = |order: &str| http().get(format!("{}/?do={order}", url(&stack, "ForPages")));
    let configured = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://app.example.com",
        "access-control-expose-headers: retry-after",
        "vary: Origin",
    ];
    // Errors of Lambda's own, too.
    for order in ["hello", "error"] {
        assert_eq!(
            cors(&send(request(order), PAGE).await),
            configured,
            "{order}"
        );
    }
    let own = r#"return+{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"*"}}"#;
    let twice = cors(&send(request(own), PAGE).await);
    assert!(
        twice.contains(&"access-control-allow-origin: *".to_owned()),
        "{twice:?}"
    );
    assert!(twice.contains(&configured[1].to_owned()), "{twice:?}");
    assert_eq!(
        cors(&send(request("hello"), "https://evil.example").await),
        [""; 0]
    );
}

#[tokio::test]
async fn without_a_configuration_pages_are_the_functions_business() {
    let stack = Stack::with_urls().start().await;
    let response = send(preflight(&stack, "Buffered"), PAGE).await;
    assert_eq!(
        response.status(),
        502,
        "the function ran, and failed as it was told"
    );
    let own = r#"return+{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"*"}}"#;
    let response = send(
        http().get(format!("{}/?do={own}", url(&stack, "Buffered"))),
        PAGE,
    )
    .await;
    assert_eq!(cors(&response), ["access-control-allow-origin: *"]);
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_refused() {
    let stack = Stack::with_urls().start().await;
    let request = http()
        .get(url(&stack, "Buffered"))
        .header("Host", "evil.example");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 403);
    let text = response.text().await.unwrap();
    assert!(text.contains("--allowed-host"), "{text}");
}
