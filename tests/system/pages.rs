//! Web pages in a developer's browser reach every local port. None may use the
//! stack behind it.

use belfry_tests::{Stack, http, open};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

const PAGE: &str = "http://evil.example";

/// A request that a page could send: the method, the URL, its headers and body.
struct Call {
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
}

/// One call of each API on each port.
fn calls(stack: &Stack) -> Vec<Call> {
    let lambda = &stack.ready.lambda;
    let json = vec![("content-type", "application/json")];
    // Needs no preflight.
    let text = vec![("content-type", "text/plain")];
    let call = |method, url: String, headers: &Vec<_>, body| Call {
        method,
        url,
        headers: headers.clone(),
        body,
    };
    let invoke = "2015-03-31/functions/Operator/invocations";
    let sign_out = r#"{"action":"signOut","userId":"alice"}"#;
    let connection = format!("{}/@connections/R0oXAdfD0kwCH6w=", stack.ready.management);
    let target = vec![
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", "DynamoDB_20120810.ListTables"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=x/20261126/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=x",
        ),
        ("x-amz-date", "20261126T000000Z"),
    ];
    vec![
        call("POST", stack.ready.dynamodb.clone(), &target, "{}"),
        call("POST", format!("{lambda}/{invoke}"), &text, sign_out),
        call("POST", connection.clone(), &text, "hello"),
        call("DELETE", connection.clone(), &vec![], ""),
        call("GET", connection, &vec![], ""),
        call("GET", stack.ready.management.clone(), &vec![], ""),
        call(
            "POST",
            format!("{lambda}/_local/tokens"),
            &json,
            r#"{"user":"alice"}"#,
        ),
        call("GET", format!("{lambda}/_local/dead-letters"), &vec![], ""),
        call("GET", format!("{lambda}/_local/connections"), &vec![], ""),
        call(
            "POST",
            format!("{lambda}/_local/publish"),
            &json,
            r#"{"user":"alice","channel":"demo:a","kind":"k","data":1}"#,
        ),
        call("GET", format!("{lambda}/_local/"), &vec![], ""),
        call(
            "GET",
            format!("{}/.well-known/jwks.json", stack.ready.issuer),
            &vec![],
            "",
        ),
        call(
            "POST",
            format!("{lambda}/_local/faults"),
            &json,
            r#"{"fault":"post-410"}"#,
        ),
        call("GET", format!("{lambda}/_local/faults"), &vec![], ""),
        call("DELETE", format!("{lambda}/_local/faults"), &vec![], ""),
        call(
            "GET",
            format!("{lambda}/_runtime/x/2018-06-01/runtime/invocation/next"),
            &vec![],
            "",
        ),
        call("GET", format!("{lambda}/"), &vec![], ""),
    ]
}

impl Call {
    async fn send(&self, more: &[(&'static str, &str)]) -> (u16, HeaderMap, String) {
        let method = self.method.parse().unwrap();
        let mut request = http().request(method, &self.url).body(self.body);
        for (name, value) in self.headers.iter().chain(more) {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.text().await.unwrap())
    }

    /// The request that a browser sends first if a page needs permission.
    fn preflight(&self) -> Self {
        Self {
            method: "OPTIONS",
            url: self.url.clone(),
            headers: vec![
                ("access-control-request-method", self.method),
                (
                    "access-control-request-headers",
                    "content-type,x-amz-target",
                ),
            ],
            body: "",
        }
    }
}

fn has_cors(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("access-control-"))
}

#[tokio::test]
async fn a_foreign_page_cannot_use_any_port() {
    let stack = Stack::start().await;
    let rebound = [("host", "evil.example:3001")];
    let foreign = [("origin", PAGE)];
    let without_origin = [("origin", "null")];
    let cross_site = [("sec-fetch-site", "cross-site")];
    for call in calls(&stack) {
        for attack in [rebound, foreign, without_origin, cross_site] {
            for request in [&call, &call.preflight()] {
                let (status, headers, body) = request.send(&attack).await;
                let what = format!("{} {} with {attack:?}: {body}", request.method, request.url);
                assert_eq!(status, 403, "{what}");
                assert!(!has_cors(&headers), "{what}: {headers:?}");
                let body: Value = serde_json::from_str(&body).unwrap();
                let message = body["message"].as_str().unwrap();
                let reason = if attack == rebound {
                    "--allowed-host"
                } else {
                    "another origin"
                };
                assert!(message.contains(reason), "{what}");
            }
        }
    }
    let (_, faults) = stack.local("GET", "faults", None).await;
    assert_eq!(faults, json!([]));
}

#[tokio::test]
async fn a_tool_and_a_local_page_get_through_and_no_page_gets_permission_to_read() {
    let stack = Stack::start().await;
    let local_page = [
        ("origin", "http://localhost:5173"),
        ("sec-fetch-site", "same-site"),
    ];
    for call in calls(&stack) {
        for from in [&[][..], &[("host", "localhost:3001")], &local_page] {
            let (_, headers, body) = call.send(from).await;
            let what = format!("{} {} with {from:?}: {body}", call.method, call.url);
            assert!(!body.contains("Forbidden: "), "{what}");
            assert!(!has_cors(&headers), "{what}: {headers:?}");
        }
        let (_, headers, _) = call.preflight().send(&local_page).await;
        assert!(!has_cors(&headers), "{} {headers:?}", call.url);
    }
}

#[tokio::test]
async fn connect_decides_about_pages_and_the_host_is_still_checked() {
    let stack = Stack::builder()
        .parameter("AllowedOrigins", PAGE)
        .start()
        .await;
    let authorization = format!("Bearer {}", stack.token("alice").await);
    let page = [
        ("Authorization", authorization.as_str()),
        ("Origin", PAGE),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    open(&stack.ready.websocket, &page).await.close().await;
    let rebound = http()
        .get(stack.ready.websocket.replacen("ws", "http", 1))
        .header("Host", "evil.example")
        .header("Authorization", &authorization)
        .header("Origin", PAGE)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = rebound.send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("--allowed-host"));
}

#[tokio::test]
async fn a_large_request_is_read_before_it_is_refused() {
    let stack = Stack::start().await;
    for url in [&stack.ready.lambda, &stack.ready.dynamodb] {
        let request = http().post(url).header("host", "evil.example");
        let response = request.body("x".repeat(8 * 1024 * 1024)).send().await;
        assert_eq!(response.unwrap().status(), 403, "{url}");
    }
}

#[tokio::test]
async fn a_flag_allows_a_further_host() {
    let builder = Stack::builder()
        .argument("--allowed-host")
        .argument("Stack.Internal");
    let stack = builder.start().await;
    let status = async |url: &str, host: &str| {
        let request = http().get(url).header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    let faults = format!("{}/_local/faults", stack.ready.lambda);
    assert_eq!(status(&faults, "stack.internal:3001").await, 200);
    assert_eq!(status(&faults, "other.internal:3001").await, 403);
    assert_eq!(status(&stack.ready.dynamodb, "stack.internal").await, 200);
}

/// The database's own server, behind the proxy, has no guard.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_other_port_listens_at_a_known_address() {
    let stack = Stack::start().await;
    let known: Vec<u16> = [&stack.ready.lambda, &stack.ready.dynamodb]
        .map(|url| reqwest::Url::parse(url).unwrap().port().unwrap())
        .to_vec();
    // An answer comes from behind the proxy.
    http().get(&stack.ready.dynamodb).send().await.unwrap();
    let listening = listening(stack.pid());
    assert!(listening.len() >= 3, "{listening:?}");
    for address in listening {
        let is_known = known.contains(&address.port());
        let is_hidden = address.ip().is_loopback() && address.ip() != std::net::Ipv4Addr::LOCALHOST;
        assert!(is_known || is_hidden, "{address} is open to pages");
    }
}

/// The IPv4 addresses at which a process listens.
#[cfg(target_os = "linux")]
fn listening(process: u32) -> Vec<std::net::SocketAddr> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .map(|link| link.display().to_string())
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let address = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let own = sockets.contains(&format!("socket:[{}]", fields[9]));
        let (ip, port) = fields[1].split_once(':').unwrap();
        let ip = u32::from_str_radix(ip, 16).unwrap().to_le_bytes();
        let port = u16::from_str_radix(port, 16).unwrap();
        (own && fields[3] == "0A").then(|| (ip, port).into())
    };
    table.lines().skip(1).filter_map(address).collect()
}
