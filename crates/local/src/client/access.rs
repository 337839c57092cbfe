//! Where `subscribe` and `publish` connect to, and with which token.

use serde_json::Value;
use url::Url;

use super::{ClientError, access_token, get};
use crate::cli::{ConnectArgs, TokenSource};

/// The URL of a stack and a token for it.
pub(super) struct Access {
    pub(super) url: Url,
    pub(super) token: String,
}

impl Access {
    /// Asks the local stack for what was not given. Wrong flags end the program,
    /// with exit code 2.
    pub(super) fn of(arguments: &ConnectArgs) -> Result<Self, ClientError> {
        let given = arguments.checked_url().unwrap_or_else(|error| error.exit());
        let source = arguments
            .token_source()
            .unwrap_or_else(|error| error.exit());
        let url = match given {
            Some(url) => url,
            None => {
                if matches!(source, TokenSource::Given(_)) {
                    let checked = arguments.check_endpoint();
                    checked.unwrap_or_else(|error| error.exit());
                }
                local(arguments)?
            }
        };
        let token = match source {
            TokenSource::Given(token) => token,
            TokenSource::Issuer(user) => {
                access_token(user, &arguments.content, &arguments.endpoint)?
            }
        };
        Ok(Self { url, token })
    }
}

/// The local stack's WebSocket URL: its path, at the address that was given. The
/// stack's own address may be unreachable from here.
fn local(arguments: &ConnectArgs) -> Result<Url, ClientError> {
    let endpoint = &arguments.endpoint;
    let answer = get(endpoint, &format!("{}/_local/stack", endpoint.endpoint))?;
    let stack: Value = serde_json::from_str(&answer).unwrap_or_default();
    let path = stack["websocket"].as_str().and_then(|url| {
        let url: Url = url.parse().ok()?;
        Some(url.path().to_owned())
    });
    let path = path.ok_or_else(|| ClientError::Refused(answer.clone()))?;
    let address = endpoint.endpoint.replacen("http", "ws", 1);
    format!("{address}{path}")
        .parse()
        .map_err(|error: url::ParseError| ClientError::Connect {
            url: address,
            cause: error.to_string(),
        })
}
