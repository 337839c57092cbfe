//! A Lambda function that does what its event tells it to, for tests of the
//! local stack and of API Gateway. A handshake and a request to a function URL
//! carry the order in the query parameter `do`, a message and any other event in
//! `body`.
//!
//! If a client's `User-Agent` is `watched-by:ID`, the function posts every
//! event of that connection to the connection ID. API Gateway puts the user
//! agent in each event, so a test can see the events wherever this runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use lambda_runtime::streaming::{self, Body};
use lambda_runtime::{
    Error, FunctionResponse, LambdaEvent, MetadataPrelude, StreamResponse, run, service_fn,
};
use serde_json::{Value, json};

/// Attempts of the order `fail` in this process.
static FAILURES: AtomicU32 = AtomicU32::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("START").as_deref() {
        Ok("fail") => {
            eprintln!("told not to start");
            exit(3);
        }
        Ok("hang") => {
            eprintln!("told to hang at the start");
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .load()
        .await;
    let management = aws_sdk_apigatewaymanagement::config::Builder::from(&config)
        .endpoint_url(std::env::var("WEBSOCKET_API_ENDPOINT").unwrap_or_default())
        .build();
    let clients = Clients {
        management: aws_sdk_apigatewaymanagement::Client::from_conf(management),
        lambda: aws_sdk_lambda::Client::new(&config),
    };
    run(service_fn(|event| handle(&clients, event))).await
}

struct Clients {
    management: aws_sdk_apigatewaymanagement::Client,
    lambda: aws_sdk_lambda::Client,
}

type Response = FunctionResponse<Value, Body>;

async fn handle(clients: &Clients, event: LambdaEvent<Value>) -> Result<Response, Error> {
    let order = order(&event.payload).to_owned();
    match order.split_once(' ').unwrap_or((&order, "")) {
        ("stream", order) => Ok(Response::StreamingResponse(stream(order)?)),
        _ => obey(clients, event).await.map(Response::BufferedResponse),
    }
}

fn order(event: &Value) -> &str {
    event["queryStringParameters"]["do"]
        .as_str()
        .or(event["body"].as_str())
        .unwrap_or("ok")
}

async fn obey(clients: &Clients, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let agent = event["requestContext"]["identity"]["userAgent"].as_str();
    if let Some(watcher) = agent.and_then(|agent| agent.strip_prefix("watched-by:")) {
        let report = clients
            .management
            .post_to_connection()
            .connection_id(watcher)
            .data(Blob::new(event.to_string()));
        report.send().await?;
    }
    if let Some(source) = event["source"].as_str() {
        eprintln!("ticked: {source} {event}");
    }
    let order = order(&event);
    match order.split_once(' ').unwrap_or((order, "")) {
        ("crash", _) => exit(7),
        ("panic", _) => panic!("told to panic"),
        ("hang", _) => std::future::pending().await,
        ("nonsense", _) => Ok(json!([1, "two"])),
        ("raw", end) => {
            stream_raw(&context.request_id, end)?;
            Ok(Value::Null)
        }
        ("return", output) => Ok(serde_json::from_str(output)?),
        ("error", _) => {
            eprintln!("told to fail: {}", context.request_id);
            Err("told to fail".into())
        }
        ("fail", times) => {
            let before = FAILURES.fetch_add(1, Ordering::Relaxed);
            eprintln!("attempt {} of {}", before + 1, context.request_id);
            if before < times.parse()? {
                return Err("told to fail a few times".into());
            }
            answer("well in the end")
        }
        ("refuse", _) => Ok(json!({"statusCode": 418, "body": "short and stout"})),
        ("protocol", protocol) => {
            Ok(json!({"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": protocol}}))
        }
        ("pid", _) => answer(&std::process::id().to_string()),
        ("slow", ms) => {
            tokio::time::sleep(Duration::from_millis(ms.parse()?)).await;
            answer(&std::process::id().to_string())
        }
        ("wait", file) => {
            eprintln!("waiting at the gate");
            while !Path::new(file).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answer(&std::process::id().to_string())
        }
        ("large", bytes) => answer(&"x".repeat(bytes.parse()?)),
        ("silent", _) => Ok(json!({"statusCode": 200})),
        ("event", _) => answer(&event.to_string()),
        ("trace", _) => answer(&context.xray_trace_id.unwrap_or_default()),
        ("client", _) => {
            let client = json!(context.client_context).to_string();
            eprintln!("told the client context: {client}");
            answer(&client)
        }
        ("relay", order) => {
            let event = json!({"body": order}).to_string();
            let call = clients.lambda.invoke().function_name("Misbehave");
            let output = call.payload(Blob::new(event)).send().await?;
            let payload = output.payload().ok_or("no payload")?;
            Ok(serde_json::from_slice(payload.as_ref())?)
        }
        ("chatter", _) => loop {
            println!("x");
        },
        ("child", _) => {
            let child = Command::new("sleep").arg("300").spawn()?;
            answer(&child.id().to_string())
        }
        ("environment", _) => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            answer(&json!(names).to_string())
        }
        ("variable", name) => answer(&std::env::var(name)?),
        _ => answer(order),
    }
}

fn answer(body: &str) -> Result<Value, Error> {
    Ok(json!({"statusCode": 200, "body": body}))
}

/// Streams a response without the runtime, which cannot end one badly.
fn stream_raw(request_id: &str, end: &str) -> Result<(), Error> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
    let api = api.trim_start_matches("http://");
    let (host, path) = api.split_once('/').unwrap_or((api, ""));
    let mut stream = TcpStream::connect(host)?;
    write!(
        stream,
        "POST /{path}/2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\n\
         Host: {host}\r\nConnection: close\r\nExpect: 100-continue\r\n\
         Content-Type: text/html\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\
         Transfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n\r\n"
    )?;
    // Someone reads the response now.
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on)?;
    stream.write_all(b"6\r\nfirst \r\n")?;
    match end {
        // The request is never finished.
        "abort" => return Ok(()),
        "trailers" => {
            stream.write_all(b"0\r\nLambda-Runtime-Function-Error-Type: Told.ToFail\r\n\r\n")?;
        }
        _ => stream.write_all(b"0\r\n\r\n")?,
    }
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A response that is streamed as the order says.
fn stream(order: &str) -> Result<StreamResponse<Body>, Error> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
    let metadata_prelude = MetadataPrelude {
        status_code: StatusCode::CREATED,
        headers,
        cookies: vec!["a=1".into(), "b=2".into()],
    };
    let (mut body, stream) = streaming::channel();
    let order = order.to_owned();
    tokio::spawn(async move {
        match order.split_once(' ').unwrap_or((&order, "")) {
            ("nothing", _) => {}
            // The rest comes when the gate opens.
            ("wait", file) => {
                let _ = body.send_data("first ".into()).await;
                eprintln!("waiting at the gate");
                while !Path::new(file).exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if body.send_data("last".into()).await.is_ok() {
                    eprintln!("streamed to the end");
                }
            }
            ("crash", _) => {
                let _ = body.send_data("first ".into()).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                exit(7);
            }
            ("pour", bytes) => {
                let mut left: usize = bytes.parse().unwrap_or_default();
                while left > 0 {
                    let chunk = left.min(64 * 1024);
                    if body.send_data("x".repeat(chunk).into()).await.is_err() {
                        return;
                    }
                    left -= chunk;
                }
                eprintln!("poured everything");
            }
            (text, _) => {
                let _ = body.send_data(text.to_owned().into()).await;
            }
        }
    });
    Ok(StreamResponse {
        metadata_prelude,
        stream,
    })
}
