//! Whoever tells a crowd something.

use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};

/// The way to a broadcaster.
#[derive(Debug, Clone)]
pub enum Announcer {
    /// A Lambda function.
    Function {
        /// The way to Lambda.
        lambda: aws_sdk_lambda::Client,
        /// Its name or ARN.
        name: String,
    },
    /// A server that takes the same request as a POST.
    Server {
        /// Its client.
        client: reqwest::Client,
        /// Its address.
        url: String,
    },
}

/// How long a report is waited for at a time, in seconds, and how often.
const WAIT_SECONDS: u32 = 20;
const WAITS: usize = 45;

impl Announcer {
    /// Sends a request and returns the report of a broadcast that is over, or
    /// the last one before patience is.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn send_and_wait(&self, request: &Value) -> Result<Value, String> {
        let mut report = self.send(request).await?;
        for _ in 0..WAITS {
            if report["status"] != "running" {
                break;
            }
            let id = &report["messageId"];
            let inquiry = json!({"action": "report", "messageId": id, "waitSeconds": WAIT_SECONDS});
            report = self.send(&inquiry).await?;
        }
        Ok(report)
    }

    /// Sends a request and returns the report.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn send(&self, request: &Value) -> Result<Value, String> {
        match self {
            Self::Function { lambda, name } => {
                let invoke = lambda.invoke().function_name(name);
                let invoke = invoke.payload(Blob::new(request.to_string()));
                let output = invoke.send().await;
                let output = output.map_err(|error| {
                    aws_sdk_lambda::error::DisplayErrorContext(error).to_string()
                })?;
                let answer = output.payload().map(Blob::as_ref).unwrap_or_default();
                if output.function_error().is_some() {
                    return Err(String::from_utf8_lossy(answer).into_owned());
                }
                serde_json::from_slice(answer).map_err(|error| error.to_string())
            }
            Self::Server { client, url } => {
                let post = client.post(url).header("content-type", "application/json");
                let answer = post.body(request.to_string()).send().await;
                let answer = answer.and_then(reqwest::Response::error_for_status);
                let answer = answer.map_err(|error| error.to_string())?;
                let text = answer.text().await.map_err(|error| error.to_string())?;
                Ok(serde_json::from_str(&text).unwrap_or_default())
            }
        }
    }
}
