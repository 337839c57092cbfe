//! The commands that talk to a running stack: `token`, `invoke`, `subscribe`,
//! `publish` and `call`.

mod access;
mod advice;
mod call;
mod catch_up;
mod follower;
mod publish;
mod socket;
mod subscribe;
mod terminal;

use std::io::{self, Read};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cli;
use crate::issuer::{TokenRequest, Tokens};
use crate::terminal::commands;
pub(crate) use call::call;
pub(crate) use catch_up::{Position, Since};
pub(crate) use publish::{Publication, publish, publish_as};
use socket::MAX_MESSAGE_BYTES;
pub(crate) use subscribe::subscribe;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no local stack responds at {endpoint}: {cause}\nStart one with `{}`, or choose another with --endpoint.",
        commands::start()
    )]
    NoStack { endpoint: String, cause: String },
    #[error("the local stack refused: {0}")]
    Refused(String),
    #[error("cannot read {path}: {cause}")]
    File { path: String, cause: io::Error },
    #[error("{path} is not JSON: {cause}")]
    NotJson {
        path: String,
        cause: serde_json::Error,
    },
    #[error("{path} is larger than {limit} bytes, the most that API Gateway carries")]
    TooLarge { path: String, limit: u64 },
    #[error("the function returned an error")]
    Function,
    #[error("cannot connect to {url}: {cause}")]
    Connect { url: String, cause: String },
    #[error("{url} refused the connection: {status}\n{advice}")]
    Handshake {
        url: String,
        status: http::StatusCode,
        advice: &'static str,
    },
    /// The text says what happened and what to do.
    #[error("{0}")]
    Ended(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(crate) fn token(arguments: &cli::TokenArgs) -> Result<(), ClientError> {
    let cli::TokenArgs {
        user,
        content,
        endpoint,
    } = arguments;
    println!("{}", access_token(user, content, endpoint)?);
    Ok(())
}

/// An access token of the local issuer.
fn access_token(
    user: &str,
    content: &cli::TokenContentArgs,
    endpoint: &cli::EndpointArgs,
) -> Result<String, ClientError> {
    let claims = content.claims.iter();
    let claims: Map<String, Value> = claims
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    let request = TokenRequest {
        user: user.to_owned(),
        ttl: content.ttl,
        groups: content.groups.clone(),
        claims,
    };
    let url = format!("{}/_local/tokens", endpoint.endpoint);
    let (_, body) = post(endpoint, &url, json!(request).to_string().as_bytes())?;
    let tokens: Tokens =
        serde_json::from_str(&body).map_err(|_| ClientError::Refused(body.clone()))?;
    Ok(tokens.access_token)
}

/// Invokes a function and prints its response.
pub(crate) fn invoke(arguments: &cli::InvokeArgs) -> Result<(), ClientError> {
    let event = read(&arguments.file, u64::MAX).map_err(|cause| ClientError::File {
        path: shown(&arguments.file),
        cause,
    })?;
    let url = format!(
        "{}/2015-03-31/functions/{}/invocations",
        arguments.endpoint.endpoint, arguments.function
    );
    let (is_error, body) = post(&arguments.endpoint, &url, &event)?;
    println!("{body}");
    if is_error {
        Err(ClientError::Function)
    } else {
        Ok(())
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn shown(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".into()
    } else {
        path.display().to_string()
    }
}

/// Reads at most so many bytes of a file, or of standard input if it is `-`.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_stdin(path) {
        io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(path)?;
        file.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The JSON of a file that becomes the `data` of a frame, unchanged: a number keeps
/// all of its digits.
fn frame_data(file: &Path) -> Result<Box<RawValue>, ClientError> {
    let path = || shown(file);
    let bytes = read(file, MAX_MESSAGE_BYTES + 1).map_err(|cause| ClientError::File {
        path: path(),
        cause,
    })?;
    if bytes.len() as u64 > MAX_MESSAGE_BYTES {
        return Err(ClientError::TooLarge {
            path: path(),
            limit: MAX_MESSAGE_BYTES,
        });
    }
    serde_json::from_slice(&bytes).map_err(|cause| ClientError::NotJson {
        path: path(),
        cause,
    })
}

/// Posts JSON. Returns whether the response is a function's error, and its body.
fn post(
    endpoint: &cli::EndpointArgs,
    url: &str,
    body: &[u8],
) -> Result<(bool, String), ClientError> {
    let request = agent().post(url).content_type("application/json");
    answer(endpoint, request.send(body))
}

fn get(endpoint: &cli::EndpointArgs, url: &str) -> Result<String, ClientError> {
    let (_, body) = answer(endpoint, agent().get(url).call())?;
    Ok(body)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

fn answer(
    endpoint: &cli::EndpointArgs,
    response: Result<http::Response<ureq::Body>, ureq::Error>,
) -> Result<(bool, String), ClientError> {
    let no_stack = |error: ureq::Error| ClientError::NoStack {
        endpoint: endpoint.endpoint.clone(),
        cause: error.to_string(),
    };
    let mut response = response.map_err(no_stack)?;
    let text = response.body_mut().read_to_string().map_err(no_stack)?;
    if !response.status().is_success() {
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = json["message"].as_str().unwrap_or(&text);
        return Err(ClientError::Refused(format!(
            "{} {message}",
            response.status()
        )));
    }
    Ok((
        response.headers().contains_key("X-Amz-Function-Error"),
        text,
    ))
}
