//! Tokens of a Cognito user pool, or of another OpenID provider that signs with
//! RS256 or ES256 and publishes its keys.

mod jwks;
mod jwks_url;
mod user_pool;
mod verifier;

pub use jwks::{FetchJwks, HttpJwks, JwksCache};
pub use jwks_url::{InvalidJwksUrl, JwksUrl};
pub use user_pool::{InvalidUserPool, UserPool};
pub use verifier::{CognitoVerifier, TokenPolicy, TokenUse, UnknownTokenUse};
