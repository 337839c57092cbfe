//! The command line, and the plan that follows from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_lambda::config::Credentials;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belfry_loadtest::{Announcer, Ticket, user_of, users_for};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::Value;

/// Open files that the process needs beside its connections.
const OTHER_FILES: u64 = 50;

/// Connects many clients to a Belfry stack, sends frames, and prints how long
/// they took and how many were lost. Exits with 1 if any were lost or refused.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
pub(crate) struct Options {
    /// The stack's WebSocket URL, like wss://….amazonaws.com/dev or ws://127.0.0.1:3001/dev
    #[arg(long)]
    url: String,
    /// How many connections to open
    #[arg(long)]
    connections: usize,
    /// Notifications per second, or echoes if no function is given
    #[arg(long)]
    rate: usize,
    /// How long to send, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// New connections per second; AWS's quota for an account is 500, a stack's ConnectsPerSecond is 200
    #[arg(long, default_value_t = 150)]
    connect_rate: usize,
    /// A file with one token per line; connections are spread evenly over the tokens. Not needed for the local stack
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// The token's claim that holds the user id
    #[arg(long, default_value = "sub")]
    user_id_claim: String,
    /// The broadcaster's name or ARN, invoked with this shell's AWS credentials. Not needed for the local stack
    #[arg(long)]
    function: Option<String>,
}

/// A user's id, and the value of the header `Authorization`.
type User = (Arc<str>, Arc<str>);

/// Everything the run needs.
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) tickets: Vec<Ticket>,
    /// New connections per second.
    pub(crate) connect_rate: usize,
    /// Frames per second.
    pub(crate) rate: usize,
    pub(crate) over: Duration,
    /// If `None`, clients send echoes instead.
    pub(crate) announcer: Option<Announcer>,
}

impl Options {
    /// Checks the options and gets everything they need.
    pub(crate) async fn plan(self) -> Result<Plan, String> {
        if self.connections == 0 || self.rate == 0 || self.seconds == 0 || self.connect_rate == 0 {
            return Err("every number must be at least 1".into());
        }
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
        let most = files.saturating_sub(OTHER_FILES);
        if self.connections as u64 > most {
            return Err(format!(
                "this process may open {most} connections at most (ulimit -Hn); run several, on several machines"
            ));
        }
        let local = local_address(&self.url);
        let tokens = match (&self.tokens, &local) {
            (Some(file), _) => self.tokens_of(file)?,
            (None, Some(address)) => self.tokens_from(address).await?,
            (None, None) => {
                return Err("TOKENS is missing: a file with one access token per line; docs/OPERATIONS.md (\"Load test\") says how to get some".into());
            }
        };
        let url: Arc<str> = self.url.as_str().into();
        let owner = |connection| match self.tokens {
            // Evenly, since each user's connections are limited.
            Some(_) => connection % tokens.len(),
            None => user_of(connection, tokens.len()),
        };
        let tickets = (0..self.connections).map(|number| {
            let (user, authorization) = tokens[owner(number)].clone();
            Ticket {
                url: Arc::clone(&url),
                authorization: Some(authorization),
                user,
            }
        });
        Ok(Plan {
            tickets: tickets.collect(),
            announcer: self.announcer(local.as_deref()).await,
            url: self.url,
            connect_rate: self.connect_rate,
            rate: self.rate,
            over: Duration::from_secs(self.seconds),
        })
    }

    /// Users from a file of tokens.
    fn tokens_of(&self, file: &Path) -> Result<Vec<User>, String> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: Result<Vec<_>, String> = lines
            .enumerate()
            .map(|(number, token)| {
                let user = claim(token, &self.user_id_claim);
                let user = user.ok_or_else(|| {
                    let claim = &self.user_id_claim;
                    format!(
                        "{}: token {} has no claim {claim}",
                        file.display(),
                        number + 1
                    )
                })?;
                Ok((user.into(), format!("Bearer {token}").into()))
            })
            .collect();
        let tokens = tokens?;
        if tokens.is_empty() {
            return Err(format!("{}: no token", file.display()));
        }
        Ok(tokens)
    }

    /// Users with tokens of the local stack's own issuer.
    async fn tokens_from(&self, address: &str) -> Result<Vec<User>, String> {
        let client = reqwest::Client::new();
        let mut tokens = Vec::new();
        for number in 0..users_for(self.connections) {
            let user = format!("load-{number}");
            let request = client
                .post(format!("{address}/_local/tokens"))
                .header("content-type", "application/json")
                .body(serde_json::json!({"user": user}).to_string());
            let answer = request
                .send()
                .await
                .and_then(reqwest::Response::error_for_status);
            let answer = answer.map_err(|error| {
                format!("no stack runs at {address} (`make run` starts one): {error}")
            })?;
            let text = answer.text().await.map_err(|error| error.to_string())?;
            let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let token = answer["accessToken"]
                .as_str()
                .ok_or("the issuer gave no accessToken")?;
            tokens.push((user.into(), format!("Bearer {token}").into()));
        }
        Ok(tokens)
    }

    async fn announcer(&self, local: Option<&str>) -> Option<Announcer> {
        let name = match (&self.function, local) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => "Broadcaster".into(),
            (None, None) => return None,
        };
        // A retried invocation would be a second notification.
        let mut config =
            aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled());
        if let Some(address) = local {
            config = config
                .endpoint_url(address)
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("local", "local", None, None, "local"));
        }
        let lambda = aws_sdk_lambda::Client::new(&config.load().await);
        Some(Announcer::Function { lambda, name })
    }
}

impl Plan {
    /// The plan in one line.
    pub(crate) fn describe(&self) -> String {
        let what = match self.announcer {
            Some(_) => "notifications",
            None => "echoes (FUNCTION= is not given)",
        };
        format!(
            "{} connections to {}, {} a second; then {} {what} a second for {} s",
            self.tickets.len(),
            self.url,
            self.connect_rate,
            self.rate,
            self.over.as_secs()
        )
    }
}

/// The local stack's address, if the URL is on this machine.
fn local_address(url: &str) -> Option<String> {
    let rest = url.strip_prefix("ws://")?;
    let address = rest.split('/').next()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    ["127.0.0.1", "localhost", "[::1]"]
        .contains(&host)
        .then(|| format!("http://{address}"))
}

/// Reads a claim without verifying the token: the stack does that.
fn claim(token: &str, name: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(claims[name].as_str()?.to_owned())
}
