//! Node programs that talk in lines of JSON.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::stack::{Ready, repository};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// A Node program that answers each line of its input with one line.
pub struct Program {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    process: Child,
}

impl Program {
    /// Starts a script of a folder.
    ///
    /// # Panics
    /// If Node is missing.
    #[must_use]
    pub fn start(folder: &Path, script: &str) -> Self {
        let mut process = Command::new("node")
            .arg(script)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node starts");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self {
            input: process.stdin.take().expect("piped"),
            output,
            process,
        }
    }

    /// The next line.
    ///
    /// # Panics
    /// If there is none in time, or it is not JSON.
    pub async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("an answer in time").expect("readable");
        serde_json::from_str(&line.expect("an answer")).expect("JSON")
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Panics
    /// If there is none.
    pub async fn ask(&mut self, command: &Value) -> Value {
        let line = format!("{command}\n");
        self.input.write_all(line.as_bytes()).await.expect("sent");
        self.line().await
    }

    /// Ends its input and waits until it ends by itself. `None` if it does not
    /// within this time.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub async fn end(mut self, limit: Duration) -> Option<ExitStatus> {
        drop(self.input);
        let ended = tokio::time::timeout(limit, self.process.wait()).await;
        ended.ok().map(|status| status.expect("a status"))
    }
}

/// Many clients of `@belfry/client` in one Node process: see
/// `tests/node/clients`. Needs the built client, and the packages of
/// `tests/node`.
pub struct Clients(Program);

impl Clients {
    /// Connects clients, `{"user", "channels": [{"channel", "isPresent"}]}` each,
    /// spread over a time, and waits until they are subscribed. Returns what the
    /// program has counted.
    ///
    /// # Panics
    /// If the client is not built.
    pub async fn open(stack: &Ready, members: &[Value], over: Duration) -> (Self, Value) {
        let client = repository().join("clients/typescript/dist/index.js");
        assert!(client.exists(), "build the client with `make clients`");
        let folder = repository().join("tests/node/clients");
        let mut program = Program::start(&folder, "main.mjs");
        let stack = json!({"websocket": stack.websocket, "api": stack.lambda});
        let over = u64::try_from(over.as_millis()).expect("not for ages");
        let open = json!({"command": "open", "stack": stack, "members": members, "overMs": over});
        let opened = program.ask(&open).await;
        (Self(program), opened)
    }

    /// Begins what each act says. Returns what the program has counted.
    pub async fn act(&mut self, acts: &[Value]) -> Value {
        self.0.ask(&json!({"command": "act", "acts": acts})).await
    }

    /// Waits until each promise is settled and each client has one more message
    /// of each of its logs.
    pub async fn settle(&mut self, limit: Duration) -> Value {
        let settle = json!({"command": "settle", "seconds": limit.as_secs()});
        self.0.ask(&settle).await
    }

    /// Settles, and checks that no client has missed anything or got it wrong.
    ///
    /// # Panics
    /// If one has.
    pub async fn expect_nothing_missed(&mut self, limit: Duration) -> Value {
        let settled = self.settle(limit).await;
        for name in ["unsettled", "behind", "wrong"] {
            assert_eq!(settled[name], json!([]), "{name}: {settled}");
        }
        assert_eq!(settled["losses"], 0, "{settled}");
        settled
    }

    /// Everything that was published and that clients were told.
    pub async fn verdict(&mut self) -> Value {
        self.0.ask(&json!({"command": "verdict"})).await
    }

    /// When each client's last connection was opened, since 1970.
    ///
    /// # Panics
    /// If a client has had none.
    pub async fn last_opened(&mut self) -> Vec<Duration> {
        let verdict = self.verdict().await;
        let members = verdict["members"].as_array().expect("a list").iter();
        let last = |member: &Value| {
            let opened = member["opened"].as_array().expect("a list");
            let at = opened.last().and_then(|one| one["at"].as_u64());
            Duration::from_millis(at.expect("a time"))
        };
        members.map(last).collect()
    }

    /// Closes every client. Returns what they have left behind.
    pub async fn close(mut self) -> Vec<String> {
        let closed = self.0.ask(&json!({"command": "close"})).await;
        let held = closed["held"].as_array().expect("a list").iter();
        let mut left: Vec<_> = held.map(|user| format!("{user} is not let go")).collect();
        match self.0.end(Duration::from_secs(20)).await {
            Some(status) if status.success() => {}
            status => left.push(format!(
                "the process of the clients does not end: {status:?}"
            )),
        }
        left
    }
}
