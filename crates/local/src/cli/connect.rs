//! The flags of every command that connects to a stack.

use clap::Args;
use clap::error::ErrorKind;
use url::{Host, Url};

use super::{EndpointArgs, TokenContentArgs, usage};

/// The variable with the token, which other users of the machine cannot see.
const TOKEN_VARIABLE: &str = "BELFRY_TOKEN";

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// User: get a token of this user from the local stack, like `belfry token`
    #[arg(long)]
    pub user: Option<String>,

    #[command(flatten)]
    pub content: TokenContentArgs,

    /// Access token [default: the variable BELFRY_TOKEN, which keeps it out of the list of processes]
    #[arg(long, conflicts_with = "user")]
    pub token: Option<String>,

    #[command(flatten)]
    pub endpoint: EndpointArgs,

    /// WebSocket URL of a stack, like wss://abc123.execute-api.eu-west-1.amazonaws.com/dev [default: the local stack's]
    #[arg(long, conflicts_with_all = ["user", "endpoint"])]
    pub url: Option<String>,
}

/// Where a connection's token comes from.
#[derive(Debug)]
pub(crate) enum TokenSource<'a> {
    Given(String),
    /// A token of this user from the local issuer.
    Issuer(&'a str),
}

impl ConnectArgs {
    /// The URL that was given. Not checked by a value parser, whose errors would
    /// repeat a token in it.
    pub(crate) fn checked_url(&self) -> Result<Option<Url>, clap::Error> {
        let url = self.url.as_deref().map(websocket_url).transpose();
        url.map_err(|problem| usage(ErrorKind::ValueValidation, &format!("--url: {problem}")))
    }

    /// Checks that a token that was given may go to this endpoint. Those of the
    /// local issuer are worth nothing elsewhere.
    pub(crate) fn check_endpoint(&self) -> Result<(), clap::Error> {
        let endpoint = self.endpoint.endpoint.replacen("http", "ws", 1);
        match websocket_url(&endpoint) {
            Ok(_) => Ok(()),
            Err(_) => Err(usage(
                ErrorKind::ValueValidation,
                "--endpoint: a token goes to https:// or to this machine only; give the stack's URL with --url wss://…",
            )),
        }
    }

    /// The token's source: a flag before the environment.
    pub(crate) fn token_source(&self) -> Result<TokenSource<'_>, clap::Error> {
        if let Some(user) = &self.user {
            return Ok(TokenSource::Issuer(user));
        }
        let variable = || std::env::var(TOKEN_VARIABLE).ok();
        let token = self.token.clone().or_else(variable);
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(TokenSource::Given(token)),
            None => Err(usage(
                ErrorKind::MissingRequiredArgument,
                &format!(
                    "a token is missing: give a user of the local stack with --user, or a token with --token or {TOKEN_VARIABLE}"
                ),
            )),
        }
    }
}

/// The URL of a stack, to which a token may be sent.
fn websocket_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| "must be a URL like wss://…/dev")?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("must be a URL like wss://…/dev".into()),
    };
    match url.scheme() {
        "wss" => {}
        "ws" if is_loopback => {}
        "ws" => return Err("ws:// would send the token unencrypted; use wss://".into()),
        _ => return Err("must begin with wss://, or with ws:// on this machine".into()),
    }
    let is_plain = url.query().is_none() && url.fragment().is_none();
    if !is_plain || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "must have no query, fragment or user name; give the token with --token or {TOKEN_VARIABLE}"
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_only_to_an_encrypted_url_or_to_this_machine() {
        for good in [
            "wss://abc.execute-api.eu-west-1.amazonaws.com/dev",
            "ws://127.0.0.1:3001/dev",
            "ws://[::1]:3001/dev",
            "ws://localhost/dev",
        ] {
            assert_eq!(websocket_url(good).unwrap().as_str(), good);
        }
        for (wrong, problem) in [
            ("ws://example.com/dev", "unencrypted"),
            ("ws://127.0.0.1.example.com/dev", "unencrypted"),
            ("https://example.com/dev", "must begin with wss://"),
            ("example.com/dev", "must be a URL"),
            ("", "must be a URL"),
            ("wss://example.com/dev?token=x", "no query"),
            ("wss://user:secret@example.com/dev", "user name"),
        ] {
            let error = websocket_url(wrong).unwrap_err();
            assert!(error.contains(problem), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
