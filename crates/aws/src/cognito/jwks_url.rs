use std::str::FromStr;

use url::{Host, Url};

/// The address of signing keys: https, or http on loopback, where nobody can
/// intercept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// Keys may not be fetched from this address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an https URL (http only on a loopback address or localhost), without user or password"
)]
pub struct InvalidJwksUrl;

impl JwksUrl {
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for JwksUrl {
    type Err = InvalidJwksUrl;

    fn from_str(text: &str) -> Result<Self, InvalidJwksUrl> {
        let url: Url = text.parse().map_err(|_| InvalidJwksUrl)?;
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let secure = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        let anonymous = url.username().is_empty() && url.password().is_none();
        if secure && anonymous && url.host().is_some() {
            Ok(Self(url))
        } else {
            Err(InvalidJwksUrl)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_only_on_loopback() {
        for good in [
            "https://cognito-idp.eu-west-1.amazonaws.com/p/.well-known/jwks.json",
            "http://127.0.0.1:4566/p/.well-known/jwks.json",
            "http://[::1]/k",
            "http://localhost/k",
            "http://127.0.0.5:3001/k",
        ] {
            assert!(good.parse::<JwksUrl>().is_ok(), "{good}");
        }
        for wrong in [
            "",
            "keys",
            "http://example.com/k",
            "http://127.0.0.1.example.com/k",
            "http://128.0.0.1/k",
            "http://[::2]/k",
            "http://localhost@example.com/k",
            "https://user:secret@example.com/k",
            "file:///etc/passwd",
            "ftp://localhost/k",
        ] {
            assert!(wrong.parse::<JwksUrl>().is_err(), "{wrong}");
        }
    }
}
