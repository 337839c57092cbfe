//! Tokens of a Cognito user pool, or of another OpenID provider that signs with
//! RS256 and publishes its keys.

mod jwks;
mod jwks_url;
mod verifier;

pub use jwks::{FetchJwks, HttpJwks, JwksCache};
pub use jwks_url::{InvalidJwksUrl, JwksUrl};
pub use verifier::{CognitoVerifier, TokenPolicy, TokenUse, UnknownTokenUse};

/// The issuer of a Cognito user pool's tokens (AWS: "Verifying JSON web
/// tokens"); its keys are at `/.well-known/jwks.json` below it.
#[must_use]
pub fn pool_issuer(region: &str, pool_id: &str) -> String {
    format!("https://cognito-idp.{region}.amazonaws.com/{pool_id}")
}
