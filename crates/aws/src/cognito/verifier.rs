#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::time::Duration;

use belfry_core::ports::{Identity, TokenVerifier, VerifyError};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::UserId;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{FetchJwks, JwksCache};

/// Tolerated clock difference to the issuer at the handshake.
const LEEWAY: Duration = Duration::from_secs(5);

/// Maximum length of a token, in bytes. API Gateway allows 10 KB for all headers.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Which of a pool's tokens are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// Access tokens: the client is in `client_id`.
    Access,
    /// ID tokens: the client is in `aud`.
    Id,
}

/// The text is not a token use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be access or id")]
pub struct UnknownTokenUse;

impl TokenUse {
    fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Id => "id",
        }
    }
}

impl FromStr for TokenUse {
    type Err = UnknownTokenUse;

    fn from_str(text: &str) -> Result<Self, UnknownTokenUse> {
        match text {
            "access" => Ok(Self::Access),
            "id" => Ok(Self::Id),
            _ => Err(UnknownTokenUse),
        }
    }
}

/// Which tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// The accepted values of `iss`.
    pub issuers: Vec<String>,
    /// The app clients whose tokens are accepted.
    pub client_ids: Vec<String>,
    /// The value of `token_use`.
    pub token_use: TokenUse,
    /// The claim that holds the user's id.
    pub user_id_claim: String,
}

/// Verifies RS256 tokens against a provider's published keys.
pub struct CognitoVerifier<F> {
    policy: TokenPolicy,
    keys: JwksCache<F>,
    signature_only: Validation,
}

impl<F: FetchJwks> CognitoVerifier<F> {
    pub fn new(policy: TokenPolicy, keys: JwksCache<F>) -> Self {
        // The library checks the signature. The claims are checked below
        // against the given time.
        let mut signature_only = Validation::new(Algorithm::RS256);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_nbf = false;
        signature_only.validate_aud = false;
        Self {
            policy,
            keys,
            signature_only,
        }
    }
}

impl<F: FetchJwks> TokenVerifier for CognitoVerifier<F> {
    async fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Rejected("too long"));
        }
        let kid = key_id(token)?;
        let key = self.keys.key(&kid, now).await?;
        let claims = decode::<Map<String, Value>>(token, &key, &self.signature_only)
            .map_err(|_| VerifyError::Rejected("bad signature or payload"))?
            .claims;
        self.policy.check(&claims, now)
    }
}

/// Reads the header. Only the key id and the algorithm are used: keys and
/// addresses inside a token are the sender's own.
fn key_id(token: &str) -> Result<String, VerifyError> {
    let header = decode_header(token).map_err(|_| VerifyError::Rejected("not a signed token"))?;
    if header.alg != Algorithm::RS256 {
        return Err(VerifyError::Rejected("not signed with RS256"));
    }
    // RFC 7515, section 4.1.11: unsupported critical extensions must be refused.
    if header.crit.is_some() {
        return Err(VerifyError::Rejected("critical header extensions"));
    }
    header.kid.ok_or(VerifyError::Rejected("no key id"))
}

impl TokenPolicy {
    fn check(&self, claims: &Map<String, Value>, now: UnixMillis) -> Result<Identity, VerifyError> {
        let rejected = |reason| Err(VerifyError::Rejected(reason));
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if !text("iss").is_some_and(|issuer| self.issuers.iter().any(|known| known == issuer)) {
            return rejected("another issuer");
        }
        if text("token_use") != Some(self.token_use.as_str()) {
            return rejected("another token use");
        }
        let client = match self.token_use {
            TokenUse::Access => text("client_id"),
            TokenUse::Id => text("aud"),
        };
        if !client.is_some_and(|client| self.client_ids.iter().any(|known| known == client)) {
            return rejected("another client");
        }
        let Some(expires_at) = claims.get("exp").and_then(numeric_date) else {
            return rejected("no expiry");
        };
        if expires_at.has_passed(now.minus(LEEWAY)) {
            return rejected("expired");
        }
        match claims.get("nbf").map(numeric_date) {
            None => {}
            Some(Some(not_before)) if not_before.has_passed(now.plus(LEEWAY)) => {}
            Some(_) => return rejected("not yet valid"),
        }
        // Cognito always sets `iat`. A token without it counts as infinitely old.
        let Some(issued_at) = claims.get("iat").map_or(Some(UnixSeconds(0)), numeric_date) else {
            return rejected("no time of issue");
        };
        // A sign-out voids the tokens that were issued before it. One from the
        // future would outlive it.
        if !issued_at.has_passed(now.plus(LEEWAY)) {
            return rejected("issued in the future");
        }
        match text(&self.user_id_claim).map(UserId::parse) {
            Some(Ok(user_id)) => Ok(Identity {
                user_id,
                issued_at,
                expires_at,
            }),
            _ => rejected("no usable user id"),
        }
    }
}

/// Reads a time in seconds (RFC 7519, section 2), which may have a fraction,
/// and rounds it down.
fn numeric_date(value: &Value) -> Option<UnixSeconds> {
    // From here on, a double skips whole seconds.
    const TOO_LARGE: f64 = 9_007_199_254_740_992.0;
    let seconds = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        (0.0..TOO_LARGE)
            .contains(&seconds)
            .then_some(seconds as u64)
    });
    seconds.map(UnixSeconds)
}
