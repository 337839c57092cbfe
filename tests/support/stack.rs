//! A local stack of its own for each test.

use std::collections::BTreeMap;
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
use crate::patience::PATIENCE;
use crate::peers::measured;

/// A fault with which transactions contend as in a large stack: fewer are under way
/// here, so each holds its items for longer than on AWS. How often two meet depends on
/// the product.
pub const CONTENTION: &str = "dynamodb-contention,delay=50ms";

/// The longest that a call through an SDK may take: longer than any function
/// of a test may run.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The addresses that `belfry run --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub websocket: String,
    /// The management API, with the stage.
    pub management: String,
    /// Lambda's API, and the local stack's own.
    pub lambda: String,
    pub dynamodb: String,
    pub issuer: String,
    /// The function URL of `Reader`, if the template has one.
    pub reader: Option<String>,
    /// Every function URL by its function's logical id.
    #[serde(rename = "functionUrls")]
    pub function_urls: BTreeMap<String, String>,
}

/// The settings of a stack before its start.
#[derive(Debug)]
pub struct StackBuilder {
    template: PathBuf,
    functions: PathBuf,
    arguments: Vec<String>,
}

/// A running stack. It ends when dropped.
pub struct Stack {
    pub ready: Ready,
    /// The log of the local stack and its functions.
    pub logs: Logs,
    process: Child,
    lambda: aws_sdk_lambda::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// The folder with the binaries of the same build as this test.
#[must_use]
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors()
        .nth(2)
        .expect("target/debug above deps")
        .to_owned()
}

/// The repository's template with further environment variables for one
/// function.
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

/// An SDK configuration with made-up credentials. It does not retry: tests
/// want to see the first answer.
fn sdk(endpoint: &str) -> aws_config::SdkConfig {
    let credentials =
        aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test");
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(
            credentials,
        ))
        .endpoint_url(endpoint)
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .timeout_config(timeouts)
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
    /// Uses another template.
    #[must_use]
    pub fn template(mut self, path: &Path) -> Self {
        self.template = path.to_owned();
        self
    }

    /// Uses another folder of binaries: the functions, and `belfry` beside
    /// them.
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

    /// Has a fault from the start, if there is one.
    #[must_use]
    pub fn fault(self, fault: Option<&str>) -> Self {
        match fault {
            Some(fault) => self.argument("--fault").argument(fault),
            None => self,
        }
    }

    /// Lets functions run for a minute, so that a test can keep them busy.
    #[must_use]
    pub fn patient(self) -> Self {
        self.parameter("IntegrationTimeout", "29000")
            .parameter("FunctionTimeout", "60")
    }

    /// The command itself, for tests that expect it to fail.
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
    /// If it does not start. The message contains its log.
    pub async fn start(self) -> Stack {
        let mut command = self.command();
        let mut process = command.arg("--json").spawn().unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build it with `cargo build --workspace --bins`, or `make bench` for benchmarks",
                self.functions.join("belfry").display()
            )
        });
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
    /// Starts the repository's template with its defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A stack of the repository's template that allows broadcasts to everyone
    /// at any rate.
    #[must_use]
    pub fn builder() -> StackBuilder {
        StackBuilder::default().parameter("BroadcastAllIntervalSeconds", "0")
    }

    /// A stack with a high message rate limit.
    #[must_use]
    pub fn talkative() -> StackBuilder {
        Self::builder().parameter("MessagesPerMinute", "60000")
    }

    /// A stack for benchmarks: the programs that they measure, without rate
    /// limits, with broadcasts in one invocation.
    #[must_use]
    pub fn for_crowds() -> StackBuilder {
        Self::for_crowds_at("0")
    }

    /// The same, with so many handshakes a second; 0 is any number.
    #[must_use]
    pub fn for_crowds_at(connects: &str) -> StackBuilder {
        Self::builder()
            .functions(&measured())
            .argument("--connect-rate")
            .argument(connects)
            .argument("--request-rate")
            .argument("0")
            .parameter("MaxConnections", "20000")
            .parameter("ConnectionsPerWorker", "20000")
            .parameter("PostsPerSecond", "100000")
            .parameter("MaxWorkers", "1")
    }

    /// A stack whose only function does what its event tells it to.
    #[must_use]
    pub fn misbehaving() -> StackBuilder {
        StackBuilder::default().template(&repository().join("tests/templates/misbehave.yaml"))
    }

    /// A stack whose functions, which do what their events tell them to, have
    /// URLs.
    #[must_use]
    pub fn with_urls() -> StackBuilder {
        StackBuilder::default().template(&repository().join("tests/templates/urls.yaml"))
    }

    /// The local stack's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id().expect("the stack runs")
    }

    /// Waits until `$disconnect` has run for a connection, and returns its line of
    /// the log. The row goes first, and then its subscriptions.
    pub async fn disconnected(&self, id: &str) -> String {
        let ended = ["[Disconnect]", "\"event\":\"connection.ended\"", id];
        self.logs.wait_for(&ended).await
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

    #[must_use]
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    #[must_use]
    pub fn lambda(&self) -> &aws_sdk_lambda::Client {
        &self.lambda
    }

    #[must_use]
    pub fn management(&self) -> aws_sdk_apigatewaymanagement::Client {
        aws_sdk_apigatewaymanagement::Client::new(&sdk(&self.ready.management))
    }

    /// Invokes the broadcaster.
    ///
    /// # Errors
    /// The function's own error.
    pub async fn broadcast(&self, request: &Value) -> Result<Value, Value> {
        self.invoke("Broadcaster", request).await
    }

    /// Invokes a function.
    ///
    /// # Errors
    /// The function's own error.
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

    /// Sends requests to this stack's broadcaster.
    #[must_use]
    pub fn announcer(&self) -> Announcer {
        Announcer::Function {
            lambda: self.lambda.clone(),
            name: "Broadcaster".into(),
        }
    }

    /// Sends a signal and waits until the local stack has ended.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub async fn stop(&mut self, signal: Signal, limit: Duration) -> ExitStatus {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("the stack runs");
        let ended = tokio::time::timeout(limit, self.process.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("not stopped after {} s", limit.as_secs()));
        ended.expect("the process can be waited for")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SIGTERM lets it end its functions. If it hangs, the kill on drop
        // follows.
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
            eprintln!("--- the stack's log:\n{}", self.logs.text());
        }
    }
}
