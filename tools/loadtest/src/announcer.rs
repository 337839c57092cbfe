//! Sends broadcast requests.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};

/// Where broadcast requests go.
#[derive(Debug, Clone)]
pub enum Announcer {
    /// A Lambda function, by name or ARN.
    Function {
        lambda: aws_sdk_lambda::Client,
        name: String,
    },
    /// A server that takes the same request as a POST.
    Server {
        client: reqwest::Client,
        url: String,
    },
}

/// How long one call waits for a report, in seconds, and how many calls do.
const WAIT_SECONDS: u32 = 20;
const WAITS: usize = 45;

/// Lambda's longest timeout: no answer can come later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

/// How long to wait if the broadcaster refused a request because the last
/// broadcast to everyone was too recent.
#[must_use]
pub fn retry_after(refusal: &str) -> Option<Duration> {
    let refusal: Value = serde_json::from_str(refusal).ok()?;
    if refusal["errorType"] != "RateLimited" {
        return None;
    }
    let (_, wait) = refusal["errorMessage"].as_str()?.rsplit_once("wait ")?;
    let seconds = match wait.strip_suffix("ms") {
        Some(millis) => millis.parse::<f64>().ok()? / 1_000.0,
        None => wait.strip_suffix('s')?.parse().ok()?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

impl Announcer {
    /// Sends a request and waits for the report of the finished broadcast. If
    /// the broadcast does not finish in time, returns the last report.
    ///
    /// # Errors
    /// A message for people.
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
    /// A message for people.
    pub async fn send(&self, request: &Value) -> Result<Value, String> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.call(request)).await;
        answer.unwrap_or_else(|_| Err("the broadcaster did not answer in time".into()))
    }

    async fn call(&self, request: &Value) -> Result<Value, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(kind: &str, message: &str) -> Option<f64> {
        let refusal = json!({"errorType": kind, "errorMessage": message}).to_string();
        retry_after(&refusal).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn only_a_rate_limit_says_how_long_to_wait() {
        let message = "target: one broadcast to all is allowed every 60s; wait 39s";
        assert_eq!(wait("RateLimited", message), Some(39.0));
        assert_eq!(wait("RateLimited", "wait 1.5s"), Some(1.5));
        assert_eq!(wait("RateLimited", "wait 250ms"), Some(0.25));
        assert_eq!(wait("Unavailable", message), None);
        for unclear in ["", "wait", "wait s", "wait -1s", "wait NaNs", "wait 3 days"] {
            assert_eq!(wait("RateLimited", unclear), None, "{unclear}");
        }
        assert_eq!(retry_after("service error"), None);
    }
}
