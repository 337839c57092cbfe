//! The event of a request to a function URL: API Gateway's payload format 2.0
//! ("Invoking Lambda function URLs" in the Lambda developer guide).

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, HeaderName, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::assumed;
use crate::template::API_ID;

/// Headers of one connection, which say nothing to the function.
const HOP_HEADERS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("te"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Lambda's placeholder where API Gateway has a route or a stage.
const DEFAULT: &str = "$default";

/// Where and how a request arrived.
pub(super) struct Arrival<'a> {
    /// The function URL's own address.
    pub(super) address: SocketAddr,
    pub(super) client: IpAddr,
    /// The id of the invocation, and its X-Ray header.
    pub(super) request_id: &'a str,
    pub(super) trace: &'a str,
}

/// The event for a request.
pub(super) fn event(request: &Parts, body: &Bytes, arrival: &Arrival<'_>) -> Value {
    let path = request.uri.path();
    let query = request.uri.query().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let mut event = json!({
        "version": "2.0",
        "routeKey": DEFAULT,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers(&request.headers, arrival),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": API_ID,
            "domainName": arrival.address.to_string(),
            "domainPrefix": API_ID,
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version),
                "sourceIp": arrival.client.to_string(),
            },
            "requestId": arrival.request_id,
            "routeKey": DEFAULT,
            "stage": DEFAULT,
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now.as_millisecond(),
        },
        "isBase64Encoded": false,
    });
    if let Some(agent) = request.headers.get(USER_AGENT) {
        event["requestContext"]["http"]["userAgent"] = text(agent).into();
    }
    // These are absent, not empty, if there is nothing to say.
    let cookies = cookies(&request.headers);
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !query.is_empty() {
        event["queryStringParameters"] = query_parameters(query);
    }
    if !body.is_empty() {
        let plain = is_text(&request.headers)
            .then(|| std::str::from_utf8(body).ok())
            .flatten();
        event["isBase64Encoded"] = plain.is_none().into();
        event["body"] = plain
            .map_or_else(|| STANDARD.encode(body), str::to_owned)
            .into();
    }
    event
}

/// Names in lower case, values of one name joined by commas.
fn headers(received: &HeaderMap, arrival: &Arrival<'_>) -> Value {
    let mut headers = Map::new();
    let mut add = |name: &str, value: &str| match headers.get_mut(name) {
        Some(Value::String(values)) => {
            values.push(',');
            values.push_str(value);
        }
        _ => {
            headers.insert(name.to_owned(), value.into());
        }
    };
    for (name, value) in received {
        if *name != COOKIE && *name != TRACE && !HOP_HEADERS.contains(name) {
            add(name.as_str(), &text(value));
        }
    }
    add(TRACE.as_str(), arrival.trace);
    add("x-forwarded-for", &arrival.client.to_string());
    add("x-forwarded-port", &arrival.address.port().to_string());
    add("x-forwarded-proto", "http");
    headers.into()
}

const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(text).collect();
    let cookies = lines.iter().flat_map(|line| line.split(';'));
    let cookies = cookies.map(str::trim).filter(|cookie| !cookie.is_empty());
    cookies.map(str::to_owned).collect()
}

/// Names and values decoded, values of one name joined by commas.
fn query_parameters(query: &str) -> Value {
    let mut parameters = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match parameters.get_mut(&*name) {
            Some(Value::String(values)) => {
                values.push(',');
                values.push_str(&value);
            }
            _ => {
                parameters.insert(name.into_owned(), value.into_owned().into());
            }
        }
    }
    parameters.into()
}

fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(text).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence.starts_with("text/")
        || assumed::TEXT_TYPES.contains(&&*essence)
        || assumed::TEXT_SUFFIXES
            .iter()
            .any(|suffix| essence.ends_with(suffix))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use proptest::prelude::*;

    use super::*;

    fn event_of(request: axum::http::request::Builder, body: Bytes) -> Value {
        let (parts, body) = request.body(body).unwrap().into_parts();
        let arrival = Arrival {
            address: ([127, 0, 0, 1], 3101).into(),
            client: [127, 0, 0, 1].into(),
            request_id: "id",
            trace: "Root=1-a-b",
        };
        event(&parts, &body, &arrival)
    }

    #[test]
    fn a_bare_request_has_no_optional_fields() {
        let event = event_of(Request::get("/"), Bytes::new());
        let fields: Vec<_> = event.as_object().unwrap().keys().collect();
        let expected = [
            "headers",
            "isBase64Encoded",
            "rawPath",
            "rawQueryString",
            "requestContext",
            "routeKey",
            "version",
        ];
        assert_eq!(fields, expected);
        assert_eq!(event["rawQueryString"], "");
        let http =
            json!({"method": "GET", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"});
        assert_eq!(event["requestContext"]["http"], http);
    }

    #[test]
    fn paths_and_queries_are_raw_and_parameters_decoded() {
        let event = event_of(
            Request::get("/a%2Fb/%41?q=1&r=%2Fx&r=y+z&%C3%BC&q="),
            Bytes::new(),
        );
        assert_eq!(event["rawPath"], "/a%2Fb/%41");
        assert_eq!(event["rawQueryString"], "q=1&r=%2Fx&r=y+z&%C3%BC&q=");
        let expected = json!({"q": "1,", "r": "/x,y z", "ü": ""});
        assert_eq!(event["queryStringParameters"], expected);
    }

    #[test]
    fn headers_are_joined_and_cookies_apart() {
        let request = Request::get("/")
            .header("X-A", "1")
            .header("x-a", "2")
            .header("Cookie", "a=1; b=2")
            .header("Cookie", "c=3;")
            .header("Connection", "keep-alive")
            .header("X-Forwarded-For", "192.0.2.1")
            .header("X-Amzn-Trace-Id", "forged")
            .header("User-Agent", "test");
        let event = event_of(request, Bytes::new());
        let headers = json!({
            "user-agent": "test",
            "x-a": "1,2",
            "x-amzn-trace-id": "Root=1-a-b",
            "x-forwarded-for": "192.0.2.1,127.0.0.1",
            "x-forwarded-port": "3101",
            "x-forwarded-proto": "http",
        });
        assert_eq!(event["headers"], headers);
        assert_eq!(event["cookies"], json!(["a=1", "b=2", "c=3"]));
        assert_eq!(event["requestContext"]["http"]["userAgent"], "test");
    }

    proptest! {
        #[test]
        fn any_request_becomes_an_event_that_says_the_same(
            query in "[!-\"$-~]{0,40}",
            header in prop::collection::vec(any::<u8>().prop_filter("allowed in a header", |byte| {
                HeaderValue::from_bytes(&[*byte]).is_ok()
            }), 0..20),
            body in prop::collection::vec(any::<u8>(), 0..40),
            is_text in any::<bool>(),
        ) {
            let Ok(uri) = format!("/?{query}").parse::<axum::http::Uri>() else {
                return Ok(());
            };
            let content_type = if is_text { "text/plain" } else { "image/png" };
            let request = Request::post(uri)
                .header("x-a", HeaderValue::from_bytes(&header).unwrap())
                .header("cookie", HeaderValue::from_bytes(&header).unwrap())
                .header("content-type", content_type);
            let event = event_of(request, body.clone().into());
            prop_assert_eq!(&event["rawQueryString"], &query);
            let sent = event["body"].as_str().unwrap_or_default();
            let decoded = if event["isBase64Encoded"] == true {
                STANDARD.decode(sent).unwrap()
            } else {
                sent.as_bytes().to_vec()
            };
            prop_assert_eq!(decoded, body);
        }
    }

    #[test]
    fn a_body_that_is_no_text_is_base64() {
        let body = |content_type: &str, body: &'static [u8]| {
            let request = Request::post("/").header("Content-Type", content_type);
            let event = event_of(request, Bytes::from_static(body));
            (event["body"].clone(), event["isBase64Encoded"] == true)
        };
        for text in [
            "text/plain",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
            "application/xml",
        ] {
            assert_eq!(body(text, "ü".as_bytes()), (json!("ü"), false), "{text}");
        }
        for binary in [
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=text/plain",
            "",
        ] {
            assert_eq!(body(binary, b"a"), (json!("YQ=="), true), "{binary}");
        }
        assert_eq!(body("text/plain", b"\xff"), (json!("/w=="), true));
    }
}
