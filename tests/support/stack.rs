//! A local stack of its own for each test.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use belfry_loadtest::Announcer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::logs::Logs;

/// How long anything that a test waits for may take. Far more than it needs:
/// a test that comes near it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What comes soon.
///
/// # Panics
/// If it does not.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.expect("it comes soon")
}

/// Waits for something that no event tells of.
///
/// # Panics
/// If it does not come to be so.
pub async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Where everything is: the line that `belfry run --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// The WebSocket URL.
    pub websocket: String,
    /// The management API with its stage.
    pub management: String,
    /// Lambda's API, and the local one.
    pub lambda: String,
    /// The embedded DynamoDB.
    pub dynamodb: String,
    /// The tokens' issuer.
    pub issuer: String,
}

/// A stack that is being described.
#[derive(Debug)]
pub struct StackBuilder {
    template: PathBuf,
    functions: PathBuf,
    arguments: Vec<String>,
}

/// A running stack; it ends when dropped.
pub struct Stack {
    /// Where everything is.
    pub ready: Ready,
    /// What the gateway and the functions say.
    pub logs: Logs,
    process: Child,
    lambda: aws_sdk_lambda::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

/// The folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// The folder of the binaries that were built with this test.
#[must_use]
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors()
        .nth(2)
        .expect("target/debug above deps")
        .to_owned()
}

/// The repository's template with more environment variables for one function.
#[must_use]
pub fn template_with(function: &str, variables: &[(&str, &str)]) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(repository().join("template.yaml")).expect("the template");
    let start = text
        .find(&format!(
            "\n  {function}:\n    Type: AWS::Serverless::Function"
        ))
        .expect("the function");
    let marker = "        Variables:\n";
    let at = start + text[start..].find(marker).expect("its variables") + marker.len();
    let lines: String = variables
        .iter()
        .map(|(name, value)| format!("          {name}: \"{value}\"\n"))
        .collect();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a temporary file");
    std::fs::write(
        file.path(),
        format!("{}{lines}{}", &text[..at], &text[at..]),
    )
    .expect("written");
    file
}

/// An SDK configuration with made-up credentials. It tries everything once:
/// tests want to see what was answered.
fn sdk(endpoint: &str) -> aws_config::SdkConfig {
    let credentials =
        aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(
            credentials,
        ))
        .endpoint_url(endpoint)
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .build()
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            template: repository().join("template.yaml"),
            functions: binaries(),
            arguments: Vec::new(),
        }
    }
}

impl StackBuilder {
    /// Runs another template.
    #[must_use]
    pub fn template(mut self, path: &Path) -> Self {
        self.template = path.to_owned();
        self
    }

    /// Runs other builds of the functions, with the gateway beside them.
    #[must_use]
    pub fn functions(mut self, folder: &Path) -> Self {
        self.functions = folder.to_owned();
        self
    }

    /// Sets a template parameter.
    #[must_use]
    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.argument("--parameter")
            .argument(&format!("{name}={value}"))
    }

    /// Adds an argument of `belfry run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The command, for tests that want to see it fail.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.functions.join("belfry"));
        command
            .args(["run", "--metrics", "--port", "0", "--dynamodb-port", "0"])
            .arg("--template")
            .arg(&self.template)
            .arg("--functions")
            .arg(&self.functions)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the stack and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start; the message holds what it said.
    pub async fn start(self) -> Stack {
        let mut process = self
            .command()
            .arg("--json")
            .spawn()
            .expect("target/debug/belfry: build it with `cargo build --workspace --bins`");
        let logs = Logs::of(process.stderr.take().expect("piped"));
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            panic!("the stack did not start:\n{}", logs.text())
        };
        let ready: Ready = serde_json::from_str(&line).expect("the ready line is JSON");
        Stack {
            logs,
            process,
            lambda: aws_sdk_lambda::Client::new(&sdk(&ready.lambda)),
            dynamodb: aws_sdk_dynamodb::Client::new(&sdk(&ready.dynamodb)),
            ready,
        }
    }
}

impl Stack {
    /// The repository's template with its defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A stack of the repository's template, described step by step. Everyone
    /// may be told something as often as a test likes.
    #[must_use]
    pub fn builder() -> StackBuilder {
        StackBuilder::default().parameter("BroadcastAllIntervalSeconds", "0")
    }

    /// A stack whose clients may say as much as they like.
    #[must_use]
    pub fn talkative() -> StackBuilder {
        Self::builder().parameter("MessagesPerMinute", "60000")
    }

    /// A stack for benchmarks: optimised, for so many clients as there are
    /// files, as fast as it can, with broadcasts in one invocation.
    #[must_use]
    pub fn for_crowds() -> StackBuilder {
        Self::builder()
            .functions(&repository().join("target/release"))
            .argument("--connect-rate")
            .argument("0")
            .argument("--request-rate")
            .argument("0")
            .parameter("MaxConnections", "20000")
            .parameter("ConnectionsPerWorker", "20000")
            .parameter("PostsPerSecond", "100000")
            .parameter("MaxWorkers", "1")
    }

    /// A stack whose function does what its event tells it to.
    #[must_use]
    pub fn misbehaving() -> StackBuilder {
        StackBuilder::default().template(&repository().join("tests/templates/misbehave.yaml"))
    }

    /// The process id of the gateway.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id().expect("the gateway runs")
    }

    /// Invokes a function asynchronously and returns the request id.
    pub async fn invoke_later(&self, function: &str, payload: &Value) -> String {
        use aws_sdk_lambda::operation::RequestId;
        let output = self
            .lambda()
            .invoke()
            .function_name(function)
            .invocation_type(aws_sdk_lambda::types::InvocationType::Event)
            .payload(aws_sdk_lambda::primitives::Blob::new(payload.to_string()))
            .send()
            .await
            .expect("Invoke");
        assert_eq!(output.status_code(), 202);
        output.request_id().expect("a request id").to_owned()
    }

    /// A client for the embedded DynamoDB.
    #[must_use]
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    /// A client for Lambda.
    #[must_use]
    pub fn lambda(&self) -> &aws_sdk_lambda::Client {
        &self.lambda
    }

    /// A client for the management API.
    #[must_use]
    pub fn management(&self) -> aws_sdk_apigatewaymanagement::Client {
        aws_sdk_apigatewaymanagement::Client::new(&sdk(&self.ready.management))
    }

    /// Invokes the broadcaster. A function's error is `Err`.
    pub async fn broadcast(&self, request: &Value) -> Result<Value, Value> {
        self.invoke("Broadcaster", request).await
    }

    /// Invokes a function. A function's error is `Err`.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, Value> {
        let payload = aws_sdk_lambda::primitives::Blob::new(payload.to_string());
        let output = self
            .lambda()
            .invoke()
            .function_name(function)
            .payload(payload)
            .send()
            .await
            .expect("Invoke");
        let answer = output
            .payload()
            .map(|blob| blob.as_ref().to_vec())
            .unwrap_or_default();
        let answer = serde_json::from_slice(&answer).expect("JSON");
        if output.function_error().is_some() {
            Err(answer)
        } else {
            Ok(answer)
        }
    }

    /// The way to the broadcaster.
    #[must_use]
    pub fn announcer(&self) -> Announcer {
        Announcer::Function {
            lambda: self.lambda.clone(),
            name: "Broadcaster".into(),
        }
    }

    /// Sends the gateway a signal and waits until it has ended.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub async fn stop(&mut self, signal: Signal, limit: Duration) -> ExitStatus {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the gateway runs");
        let ended = tokio::time::timeout(limit, self.process.wait()).await;
        ended
            .expect("it ends in time")
            .expect("it can be waited for")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Politely, so that it ends its functions; the kill that follows is
        // for a gateway that hangs.
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            for _ in 0..100 {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the stack said:\n{}", self.logs.text());
        }
    }
}
