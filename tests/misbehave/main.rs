//! A Lambda function that does what its event tells it to: the gateway is
//! tested with it. A handshake says it in the query parameter `do`, a message
//! is the word itself.

use std::process::exit;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

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
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let event = event.payload;
    let told = event["queryStringParameters"]["do"]
        .as_str()
        .or(event["body"].as_str());
    match told.unwrap_or("ok") {
        "crash" => exit(7),
        "panic" => panic!("told to panic"),
        "hang" => std::future::pending().await,
        "nonsense" => Ok(json!([1, "two"])),
        "error" => Err("told to fail".into()),
        "refuse" => Ok(json!({"statusCode": 418, "body": "short and stout"})),
        "pid" => answer(&std::process::id().to_string()),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer(&std::process::id().to_string())
        }
        "silent" => Ok(json!({"statusCode": 200})),
        "event" => answer(&event.to_string()),
        "environment" => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            answer(&json!(names).to_string())
        }
        other => answer(other),
    }
}

fn answer(body: &str) -> Result<Value, Error> {
    Ok(json!({"statusCode": 200, "body": body}))
}
