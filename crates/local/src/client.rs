//! The commands `token` and `invoke`, which talk to a running stack.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli;
use crate::issuer::{TokenRequest, Tokens};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no local stack responds at {endpoint}: {cause}\nStart one with `make run`, or choose another with --endpoint."
    )]
    NoStack { endpoint: String, cause: String },
    #[error("the local stack refused: {0}")]
    Refused(String),
    #[error("cannot read {path}: {cause}")]
    File { path: String, cause: std::io::Error },
    #[error("the function returned an error")]
    Function,
}

pub(crate) fn token(arguments: cli::TokenArgs) -> Result<(), ClientError> {
    let claims: Map<String, Value> = arguments
        .claims
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let request = TokenRequest {
        user: arguments.user,
        ttl: arguments.ttl,
        groups: arguments.groups,
        claims,
    };
    let url = format!("{}/_local/tokens", arguments.endpoint.endpoint);
    let (_, body) = post(
        &arguments.endpoint,
        &url,
        json!(request).to_string().as_bytes(),
    )?;
    let tokens: Tokens =
        serde_json::from_str(&body).map_err(|_| ClientError::Refused(body.clone()))?;
    println!("{}", tokens.access_token);
    Ok(())
}

/// Invokes a function and prints its response.
pub(crate) fn invoke(arguments: &cli::InvokeArgs) -> Result<(), ClientError> {
    let event = read(&arguments.file).map_err(|cause| ClientError::File {
        path: arguments.file.display().to_string(),
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

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path);
    }
    let mut event = Vec::new();
    std::io::stdin().read_to_end(&mut event)?;
    Ok(event)
}

/// Posts JSON. Returns whether the response is a function's error, and its body.
fn post(
    endpoint: &cli::EndpointArgs,
    url: &str,
    body: &[u8],
) -> Result<(bool, String), ClientError> {
    let no_stack = |error: ureq::Error| ClientError::NoStack {
        endpoint: endpoint.endpoint.clone(),
        cause: error.to_string(),
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut response = agent
        .post(url)
        .content_type("application/json")
        .send(body)
        .map_err(no_stack)?;
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
