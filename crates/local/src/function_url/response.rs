//! What a function's output means as an HTTP response.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::assumed;

/// Ends a streamed response's prelude.
const DELIMITER: [u8; 8] = [0; 8];

/// Headers about the connection, which is Lambda's.
const DROPPED: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The output is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the output is not JSON")]
    NotJson,
    #[error("statusCode is not a status from 100 to 999")]
    Status,
    #[error("headers is not a mapping of header names to values")]
    Headers,
    #[error("cookies is not a list of header values")]
    Cookies,
    #[error("body is not a string, or not base64 although isBase64Encoded is true")]
    Body,
    #[error("the prelude does not end within its first 16 KB")]
    Prelude,
}

/// The response that a complete output means. JSON without a `statusCode` is
/// itself the body.
pub(super) fn complete(output: &Bytes) -> Result<Response<Body>, Malformed> {
    let value = serde_json::from_slice(output).map_err(|_| Malformed::NotJson)?;
    match value {
        Value::Object(fields) if has(&fields, "statusCode") => {
            let body = body(&fields)?;
            let mut response = head(&fields)?.map(|()| Body::from(body));
            default_type(response.headers_mut(), "application/json");
            Ok(response)
        }
        // A string loses its quotes.
        Value::String(text) => Ok(json(text.into())),
        _ => Ok(json(output.clone())),
    }
}

/// A body that no function has described.
fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    default_type(response.headers_mut(), "application/json");
    response
}

/// A complete output behind a URL that streams.
pub(super) fn unstreamed(output: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(output));
    default_type(response.headers_mut(), assumed::UNSTREAMED_TYPE);
    response
}

/// The prelude of a streamed response as it arrives.
#[derive(Default)]
pub(super) struct Prelude(Vec<u8>);

impl Prelude {
    /// Adds a chunk. If it ends the prelude, returns the response's head and the
    /// chunk's rest.
    pub(super) fn add(
        &mut self,
        mut chunk: Bytes,
    ) -> Result<Option<(Response<()>, Bytes)>, Malformed> {
        let known = self.0.len();
        // Of a large chunk, only what a prelude may have.
        let room = assumed::MAX_PRELUDE_BYTES + DELIMITER.len() - known;
        self.0.extend_from_slice(&chunk[..chunk.len().min(room)]);
        let end = self
            .0
            .windows(DELIMITER.len())
            .position(|bytes| bytes == DELIMITER);
        let Some(end) = end else {
            let is_full = self.0.len() >= assumed::MAX_PRELUDE_BYTES + DELIMITER.len();
            return if is_full {
                Err(Malformed::Prelude)
            } else {
                Ok(None)
            };
        };
        let rest = chunk.split_off(end + DELIMITER.len() - known);
        let fields = serde_json::from_slice(&self.0[..end]).map_err(|_| Malformed::NotJson)?;
        let mut head = head(&fields)?;
        default_type(head.headers_mut(), assumed::STREAMED_TYPE);
        Ok(Some((head, rest)))
    }
}

/// The head of a streamed response without a prelude.
pub(super) fn bare_head(content_type: Option<HeaderValue>) -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut()
        .extend(content_type.map(|value| (CONTENT_TYPE, value)));
    default_type(head.headers_mut(), assumed::STREAMED_TYPE);
    head
}

fn has(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

fn head(fields: &Map<String, Value>) -> Result<Response<()>, Malformed> {
    let mut head = Response::new(());
    *head.status_mut() = status(fields.get("statusCode"))?;
    match fields.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(headers)) => {
            for (name, values) in headers {
                add(head.headers_mut(), name, values).ok_or(Malformed::Headers)?;
            }
        }
        Some(_) => return Err(Malformed::Headers),
    }
    match fields.get("cookies") {
        None | Some(Value::Null) => {}
        Some(Value::Array(cookies)) => {
            for cookie in cookies {
                let cookie = scalar(cookie).ok_or(Malformed::Cookies)?;
                head.headers_mut().append(SET_COOKIE, cookie);
            }
        }
        Some(_) => return Err(Malformed::Cookies),
    }
    Ok(head)
}

/// The status, a number or a string of one. Absent, it is 200.
fn status(value: Option<&Value>) -> Result<StatusCode, Malformed> {
    let number = match value {
        None | Some(Value::Null) => return Ok(StatusCode::OK),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let status = number.and_then(|number| u16::try_from(number).ok());
    // An interim status would leave the client waiting.
    let status = status.filter(|status| *status >= 200);
    status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or(Malformed::Status)
}

/// Adds a header with one value or a list of values.
fn add(headers: &mut HeaderMap, name: &str, values: &Value) -> Option<()> {
    let name = name.to_ascii_lowercase();
    if DROPPED.contains(&&*name) {
        return Some(());
    }
    let name = if assumed::REMAPPED.contains(&&*name) {
        format!("x-amzn-remapped-{name}")
    } else {
        name
    };
    let name = HeaderName::try_from(name).ok()?;
    match values {
        Value::Null => {}
        Value::Array(values) => {
            for value in values {
                headers.append(&name, scalar(value)?);
            }
        }
        value => {
            headers.append(name, scalar(value)?);
        }
    }
    Some(())
}

fn scalar(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => return None,
    };
    HeaderValue::try_from(text).ok()
}

fn body(fields: &Map<String, Value>) -> Result<Bytes, Malformed> {
    let text = match fields.get("body") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Malformed::Body),
    };
    if fields.get("isBase64Encoded") == Some(&Value::Bool(true)) {
        let bytes = STANDARD.decode(text).map_err(|_| Malformed::Body)?;
        return Ok(bytes.into());
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

fn default_type(headers: &mut HeaderMap, content_type: &'static str) {
    headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static(content_type));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn parts(output: &str) -> (u16, Vec<(String, String)>, String) {
        let output = Bytes::copy_from_slice(output.as_bytes());
        let (head, body) = complete(&output).unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        });
        let mut headers: Vec<_> = headers.collect();
        headers.sort();
        let body = String::from_utf8_lossy(&body).into_owned();
        (head.status.as_u16(), headers, body)
    }

    fn header(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[tokio::test]
    async fn json_without_a_status_is_the_body() {
        for (output, body) in [
            (r#"{"hello": "world"}"#, r#"{"hello": "world"}"#),
            (r#"["hello",3,true]"#, r#"["hello",3,true]"#),
            ("\"hello\"", "hello"),
            ("3.1", "3.1"),
            ("null", "null"),
            (r#"{"statusCode":null}"#, r#"{"statusCode":null}"#),
        ] {
            let expected = (
                200,
                vec![header("content-type", "application/json")],
                body.to_owned(),
            );
            assert_eq!(parts(output).await, expected, "{output}");
        }
    }

    #[tokio::test]
    async fn a_response_has_its_status_headers_cookies_and_body() {
        let output = r#"{
            "statusCode": 201,
            "headers": {"Content-Type": "text/plain", "X-A": "1", "x-b": 2, "X-C": ["3", true], "X-D": null},
            "cookies": ["a=1; Secure", "b=2"],
            "body": "hello"
        }"#;
        let headers = [
            ("content-type", "text/plain"),
            ("set-cookie", "a=1; Secure"),
            ("set-cookie", "b=2"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("x-c", "3"),
            ("x-c", "true"),
        ];
        let headers = headers.map(|(name, value)| header(name, value)).to_vec();
        assert_eq!(parts(output).await, (201, headers, "hello".into()));
        let json = vec![header("content-type", "application/json")];
        let encoded = r#"{"statusCode": "418", "body": "aGk=", "isBase64Encoded": true}"#;
        assert_eq!(parts(encoded).await, (418, json.clone(), "hi".into()));
        assert_eq!(
            parts(r#"{"statusCode":204}"#).await,
            (204, json, String::new())
        );
    }

    #[tokio::test]
    async fn headers_of_the_connection_are_lambdas() {
        let output = r#"{"statusCode": 401, "headers": {
            "WWW-Authenticate": "Bearer", "Content-Length": "7", "Transfer-Encoding": "chunked"
        }}"#;
        let (_, headers, _) = parts(output).await;
        let expected = [
            header("content-type", "application/json"),
            header("x-amzn-remapped-content-length", "7"),
            header("x-amzn-remapped-www-authenticate", "Bearer"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn anything_else_is_malformed() {
        for (output, expected) in [
            ("", Malformed::NotJson),
            ("hello", Malformed::NotJson),
            (r#"{"statusCode": 101}"#, Malformed::Status),
            (r#"{"statusCode": 1000}"#, Malformed::Status),
            (r#"{"statusCode": "x"}"#, Malformed::Status),
            (r#"{"statusCode": [200]}"#, Malformed::Status),
            (r#"{"statusCode": 200, "headers": []}"#, Malformed::Headers),
            (
                r#"{"statusCode": 200, "headers": {"a b": "1"}}"#,
                Malformed::Headers,
            ),
            (
                r#"{"statusCode": 200, "headers": {"a": "1\r\nb: 2"}}"#,
                Malformed::Headers,
            ),
            (
                r#"{"statusCode": 200, "headers": {"a": {}}}"#,
                Malformed::Headers,
            ),
            (
                r#"{"statusCode": 200, "cookies": "a=1"}"#,
                Malformed::Cookies,
            ),
            (
                r#"{"statusCode": 200, "cookies": ["a\n"]}"#,
                Malformed::Cookies,
            ),
            (r#"{"statusCode": 200, "body": {}}"#, Malformed::Body),
            (
                r#"{"statusCode": 200, "body": "?", "isBase64Encoded": true}"#,
                Malformed::Body,
            ),
        ] {
            let output = Bytes::copy_from_slice(output.as_bytes());
            assert_eq!(complete(&output).unwrap_err(), expected, "{output:?}");
        }
    }

    const STREAM: &[u8] = b"{\"statusCode\":201,\"headers\":{\"content-type\":\"text/plain\"}}\0\0\0\0\0\0\0\0body\0\0\0\0\0\0\0\0";

    proptest! {
        #[test]
        fn a_prelude_may_arrive_in_any_pieces(cuts in proptest::collection::vec(0..STREAM.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut prelude, mut at, mut body) = (Prelude::default(), 0, Vec::new());
            let mut head = None;
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                let chunk = Bytes::from_static(&STREAM[at..cut]);
                at = cut;
                if head.is_some() {
                    body.extend_from_slice(&chunk);
                } else if let Some((found, rest)) = prelude.add(chunk).unwrap() {
                    head = Some(found);
                    body.extend_from_slice(&rest);
                }
            }
            let head = head.unwrap();
            prop_assert_eq!(head.status(), 201);
            prop_assert_eq!(&head.headers()[CONTENT_TYPE], "text/plain");
            prop_assert_eq!(body, b"body\0\0\0\0\0\0\0\0");
        }

        #[test]
        fn any_output_is_a_response_or_malformed(output in "\\{\"(statusCode|headers|cookies|body)\":.{0,40}\\}|(?s).{0,60}") {
            let _ = complete(&output.clone().into());
            let _ = Prelude::default().add((output + "\0\0\0\0\0\0\0\0").into());
        }
    }

    #[test]
    fn a_prelude_is_json_and_bounded() {
        let add = |bytes: Vec<u8>| {
            Prelude::default()
                .add(bytes.into())
                .map(|found| found.is_some())
        };
        assert_eq!(add(b"{}\0\0\0\0\0\0\0\0".to_vec()), Ok(true));
        assert_eq!(add(b"{}\0\0\0\0\0\0\0".to_vec()), Ok(false));
        assert_eq!(add(b"x\0\0\0\0\0\0\0\0".to_vec()), Err(Malformed::NotJson));
        assert_eq!(add(vec![b' '; assumed::MAX_PRELUDE_BYTES]), Ok(false));
        assert_eq!(add(vec![b' '; 1024 * 1024]), Err(Malformed::Prelude));
    }

    #[test]
    fn a_stream_without_a_prelude_has_the_runtimes_type() {
        let text = Some(HeaderValue::from_static("text/plain"));
        assert_eq!(bare_head(text).headers()[CONTENT_TYPE], "text/plain");
        assert_eq!(
            bare_head(None).headers()[CONTENT_TYPE],
            assumed::STREAMED_TYPE
        );
    }
}
