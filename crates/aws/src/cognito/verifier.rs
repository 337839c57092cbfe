#[cfg(test)]
mod tests;

use std::str::FromStr;

use belfry_core::channels::Claims;
use belfry_core::ports::{CLOCK_LEEWAY, Identity, MAX_TOKEN_LIFETIME, TokenVerifier, VerifyError};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::UserId;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::jwks::SigningKey;
use super::{FetchJwks, JwksCache};

/// Maximum length of a token, in bytes. API Gateway allows 10 KB for all headers.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Which of the issuer's tokens are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// Access tokens: the client is in `client_id`.
    Access,
    /// ID tokens: the client is in `aud`.
    Id,
    /// Tokens of any OpenID provider, which have no claim `token_use`: the
    /// client is in `aud`, or without that in `client_id` or `azp`.
    Any,
}

/// The text is not a token use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be access, id or any")]
pub struct UnknownTokenUse;

impl TokenUse {
    /// The value of `token_use`, if the claim is demanded.
    fn claim(self) -> Option<&'static str> {
        match self {
            Self::Access => Some("access"),
            Self::Id => Some("id"),
            Self::Any => None,
        }
    }
}

impl FromStr for TokenUse {
    type Err = UnknownTokenUse;

    fn from_str(text: &str) -> Result<Self, UnknownTokenUse> {
        match text {
            "access" => Ok(Self::Access),
            "id" => Ok(Self::Id),
            "any" => Ok(Self::Any),
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
    pub token_use: TokenUse,
    /// The claim that holds the user's id.
    pub user_id_claim: String,
    /// Claims that channel rules name.
    pub kept_claims: Vec<String>,
}

/// Verifies RS256 and ES256 tokens against a provider's published keys.
pub struct CognitoVerifier<F> {
    policy: TokenPolicy,
    keys: JwksCache<F>,
}

impl<F: FetchJwks> CognitoVerifier<F> {
    pub fn new(policy: TokenPolicy, keys: JwksCache<F>) -> Self {
        Self { policy, keys }
    }
}

/// Lets the library check the signature alone. The claims are checked below
/// against the given time.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

impl<F: FetchJwks> TokenVerifier for CognitoVerifier<F> {
    async fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Rejected("too long"));
        }
        let header = header(token)?;
        if self.policy.token_use == TokenUse::Any && !may_open_a_session(header.typ.as_deref()) {
            return Err(VerifyError::Rejected("another type of token"));
        }
        let kid = header.kid.ok_or(VerifyError::Rejected("no key id"))?;
        let SigningKey { key, algorithm } = self.keys.key(&kid, now).await?;
        if header.alg != algorithm {
            return Err(VerifyError::Rejected("another algorithm than the key's"));
        }
        let claims = decode::<Map<String, Value>>(token, &key, &signature_only(algorithm))
            .map_err(|_| VerifyError::Rejected("bad signature or payload"))?
            .claims;
        self.policy.check(&claims, now)
    }
}

/// Reads the header. Only the key id, the type and the algorithm are used: keys
/// and addresses inside a token are the sender's own.
fn header(token: &str) -> Result<Header, VerifyError> {
    let header = decode_header(token).map_err(|_| VerifyError::Rejected("not a signed token"))?;
    // Before the key is looked up, which can cost a fetch.
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(VerifyError::Rejected("not signed with RS256 or ES256"));
    }
    // RFC 7515, section 4.1.11: unsupported critical extensions must be refused.
    if header.crit.is_some() {
        return Err(VerifyError::Rejected("critical header extensions"));
    }
    Ok(header)
}

/// Whether a header's `typ` is that of access tokens or ID tokens. Providers
/// sign other things with the same keys, such as logout tokens (RFC 8725,
/// section 3.11).
fn may_open_a_session(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| {
        let typ = typ.to_ascii_lowercase();
        matches!(
            typ.strip_prefix("application/").unwrap_or(&typ),
            "jwt" | "at+jwt"
        )
    })
}

impl TokenPolicy {
    fn check(&self, claims: &Map<String, Value>, now: UnixMillis) -> Result<Identity, VerifyError> {
        let rejected = |reason| Err(VerifyError::Rejected(reason));
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if !text("iss").is_some_and(|issuer| self.issuers.iter().any(|known| known == issuer)) {
            return rejected("another issuer");
        }
        let demanded = self.token_use.claim();
        if demanded.is_some() && text("token_use") != demanded {
            return rejected("another token use");
        }
        // A logout token or another security event (RFC 8417) opens nothing.
        if self.token_use == TokenUse::Any && claims.contains_key("events") {
            return rejected("another type of token");
        }
        if !self.names_a_client(claims) {
            return rejected("another client");
        }
        let Some(expires_at) = claims.get("exp").and_then(numeric_date) else {
            return rejected("no expiry");
        };
        if expires_at.has_passed(now.minus(CLOCK_LEEWAY)) {
            return rejected("expired");
        }
        match claims.get("nbf").map(numeric_date) {
            None => {}
            Some(Some(not_before)) if not_before.has_passed(now.plus(CLOCK_LEEWAY)) => {}
            Some(_) => return rejected("not yet valid"),
        }
        // A sign-out voids the tokens that were issued before it, and is
        // remembered for a while. It would miss a token from the future, and a
        // token that outlived the memory of it would be accepted again.
        let Some(issued_at) = claims.get("iat").and_then(numeric_date) else {
            return rejected("no time of issue");
        };
        if !issued_at.has_passed(now.plus(CLOCK_LEEWAY)) {
            return rejected("issued in the future");
        }
        if expires_at.to_millis() > issued_at.to_millis().plus(MAX_TOKEN_LIFETIME) {
            return rejected("valid for more than 24 hours");
        }
        let kept = self.kept_claims.iter().map(String::as_str);
        let Ok(kept) = Claims::keep(claims, kept) else {
            return rejected("the claims that channel rules name take more than 2 KB");
        };
        match text(&self.user_id_claim).map(UserId::parse) {
            Some(Ok(user_id)) => Ok(Identity {
                user_id,
                issued_at,
                expires_at,
                claims: kept,
            }),
            _ => rejected("no usable user id"),
        }
    }

    /// Whether the token is meant for one of the clients. An audience that names
    /// none of them is final (RFC 7519, section 4.1.3), whichever client asked
    /// for the token.
    fn names_a_client(&self, claims: &Map<String, Value>) -> bool {
        let is_client = |value: &Value| {
            let id = value.as_str();
            id.is_some_and(|id| self.client_ids.iter().any(|known| known == id))
        };
        let audience = claims.get("aud").map(|audience| match audience {
            Value::Array(all) => all.iter().any(is_client),
            one => is_client(one),
        });
        let client = |claim: &str| claims.get(claim).map(is_client);
        match self.token_use {
            // Cognito sets `aud` if the client asked for a token for one resource.
            TokenUse::Access => client("client_id") == Some(true) && audience != Some(false),
            TokenUse::Id => claims.get("aud").is_some_and(is_client),
            TokenUse::Any => audience.unwrap_or_else(|| {
                let named = [client("client_id"), client("azp")];
                named.contains(&Some(true)) && !named.contains(&Some(false))
            }),
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
