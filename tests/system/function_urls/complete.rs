//! Requests as functions see them, and complete responses.

use belfry_tests::{Stack, http, soon};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use super::{order, url};

async fn send(request: RequestBuilder) -> Response {
    soon("a response", request.send()).await.unwrap()
}

/// The event of a request, which orders the function to return it.
async fn event(request: RequestBuilder) -> Value {
    let text = send(request).await.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not an event: {text}"))
}

#[tokio::test]
async fn a_request_becomes_an_event() {
    let stack = Stack::with_urls().start().await;
    let url = url(&stack, "Buffered");
    let host = url.strip_prefix("http://").unwrap();
    let request = http()
        .post(format!("{url}/a%2Fb?do=event&x=1&x=%2F2"))
        .header("User-Agent", "test")
        .header("X-A", "1")
        .header("x-a", "2")
        .header("Cookie", "a=1; b=2")
        .header("Content-Type", "application/octet-stream")
        .body(vec![0, 255]);
    let mut event = event(request).await;
    let mut taken = |path: &str| {
        event
            .pointer_mut(path)
            .unwrap_or_else(|| panic!("no {path}"))
            .take()
    };
    assert!(
        taken("/headers/x-amzn-trace-id")
            .as_str()
            .unwrap()
            .starts_with("Root=1-")
    );
    assert_eq!(
        taken("/requestContext/requestId").as_str().unwrap().len(),
        36
    );
    assert!(
        taken("/requestContext/time")
            .as_str()
            .unwrap()
            .ends_with(" +0000")
    );
    assert!(taken("/requestContext/timeEpoch").is_i64());
    let port = host.rsplit(':').next().unwrap();
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%2Fb",
        "rawQueryString": "do=event&x=1&x=%2F2",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "accept": "*/*",
            "content-length": "2",
            "content-type": "application/octet-stream",
            "host": host,
            "user-agent": "test",
            "x-a": "1,2",
            "x-amzn-trace-id": null,
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": port,
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"do": "event", "x": "1,/2"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": host,
            "domainPrefix": "local",
            "http": {
                "method": "POST",
                "path": "/a%2Fb",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test",
            },
            "requestId": null,
            "routeKey": "$default",
            "stage": "$default",
            "time": null,
            "timeEpoch": null,
        },
        "body": "AP8=",
        "isBase64Encoded": true,
    });
    assert_eq!(event, expected);
}

#[tokio::test]
async fn any_method_and_path_reach_the_function() {
    let stack = Stack::with_urls().start().await;
    let url = url(&stack, "Buffered");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = http().request(
            method.parse().unwrap(),
            format!("{url}/_local/stack?do=event"),
        );
        let event = event(request).await;
        assert_eq!(event["requestContext"]["http"]["method"], method);
        assert_eq!(event["rawPath"], "/_local/stack");
    }
    let head = send(http().head(format!("{url}/?do=hello"))).await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn a_text_body_is_plain() {
    let stack = Stack::with_urls().start().await;
    let request = http()
        .post(url(&stack, "Buffered"))
        .header("Content-Type", "text/plain;charset=UTF-8")
        .body("event");
    let event = event(request).await;
    assert_eq!(
        (&event["body"], &event["isBase64Encoded"]),
        (&json!("event"), &json!(false))
    );
}

#[tokio::test]
async fn a_response_has_the_functions_status_headers_cookies_and_body() {
    let stack = Stack::with_urls().start().await;
    let output = json!({
        "statusCode": 201,
        "headers": {"Content-Type": "image/png", "X-A": "1", "WWW-Authenticate": "Bearer"},
        "cookies": ["a=1; Secure", "b=2"],
        "body": "AP8=",
        "isBase64Encoded": true,
    });
    let request = http()
        .post(url(&stack, "Buffered"))
        .header("Content-Type", "text/plain");
    let response = send(request.body(format!("return {output}"))).await;
    assert_eq!(response.status(), 201);
    let header = |name: &str| {
        let values = response.headers().get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(header("content-type"), ["image/png"]);
    assert_eq!(header("x-a"), ["1"]);
    assert_eq!(header("set-cookie"), ["a=1; Secure", "b=2"]);
    assert_eq!(header("content-length"), ["2"]);
    assert_eq!(header("x-amzn-requestid").len(), 1);
    assert_eq!(header("www-authenticate"), [""; 0]);
    assert_eq!(header("x-amzn-remapped-www-authenticate"), ["Bearer"]);
    assert_eq!(&response.bytes().await.unwrap()[..], [0, 255]);
}

#[tokio::test]
async fn json_without_a_status_is_the_body() {
    let stack = Stack::with_urls().start().await;
    for (order, body) in [
        ("nonsense", r#"[1,"two"]"#),
        (r#"return {"hello":"world"}"#, r#"{"hello":"world"}"#),
        ("return \"hello\"", "hello"),
        ("return 3.1", "3.1"),
        ("return true", "true"),
    ] {
        let request = http()
            .post(url(&stack, "Buffered"))
            .header("Content-Type", "text/plain");
        let response = send(request.body(order)).await;
        assert_eq!(response.status(), 200, "{order}");
        assert_eq!(
            response.headers()["content-type"],
            "application/json",
            "{order}"
        );
        assert_eq!(response.text().await.unwrap(), body, "{order}");
    }
}

#[tokio::test]
async fn a_function_that_fails_or_answers_nonsense_is_a_502() {
    let stack = Stack::with_urls()
        .parameter("FunctionTimeout", "3")
        .start()
        .await;
    for order_text in [
        "error",
        "crash",
        "hang",
        "large 6300000",
        r#"return {"statusCode":99}"#,
        // A streamed response is not JSON as a whole.
        "stream hello",
    ] {
        let request = http()
            .post(url(&stack, "Buffered"))
            .header("Content-Type", "text/plain");
        let response = send(request.body(order_text)).await;
        assert_eq!(response.status(), 502, "{order_text}");
        assert_eq!(
            response.text().await.unwrap(),
            "Internal Server Error",
            "{order_text}"
        );
    }
    let response = send(order(&stack, "Buffered", "hello")).await;
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn an_event_has_at_most_6_mb() {
    let stack = Stack::with_urls().start().await;
    let send = |content_type: &str, bytes: usize| {
        let url = format!("{}/?do=hello", url(&stack, "Buffered"));
        let request = http().post(url).header("Content-Type", content_type);
        send(request.body(vec![b'x'; bytes]))
    };
    assert_eq!(send("text/plain", 6_200_000).await.status(), 200);
    for (content_type, bytes) in [
        ("text/plain", 6_300_000),
        // Base64 makes it longer.
        ("image/png", 4_800_000),
        ("text/plain", 12_000_000),
    ] {
        let refused = send(content_type, bytes).await;
        assert_eq!(refused.status(), 413, "{content_type} {bytes}");
    }
}

#[tokio::test]
async fn a_url_with_iam_refuses_unsigned_requests() {
    let stack = Stack::with_urls().start().await;
    let refused = send(order(&stack, "Signed", "hello")).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(
        refused.headers()["x-amzn-errortype"],
        "AccessDeniedException"
    );
    let text = refused.text().await.unwrap();
    assert!(text.starts_with(r#"{"Message":"Forbidden. "#), "{text}");
    let signature = "AWS4-HMAC-SHA256 Credential=local/20261126/us-east-1/lambda/aws4_request";
    let signed = order(&stack, "Signed", "hello").header("Authorization", signature);
    assert_eq!(send(signed).await.status(), 200);
}
