//! A token issuer for development that behaves like a Cognito user pool. Its key
//! lives as long as the process.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ids;

/// The user pool's id: the path below the local stack's URL.
pub(crate) const POOL: &str = "local_belfry";

/// The app client's id.
pub(crate) const CLIENT_ID: &str = "local";

/// A token's default lifetime, in seconds.
pub(crate) const DEFAULT_TTL: i64 = 3_600;

/// The longest lifetime that a Cognito app client can have, in seconds.
pub(crate) const MAX_TTL: i64 = 86_400;

/// Signs tokens, and publishes the key that verifies them.
#[derive(Clone)]
pub(crate) struct Issuer {
    url: String,
    kid: String,
    key: Arc<KeyPair>,
}

/// The body of `POST /_local/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// The claims `sub` and `username`.
    pub user: String,
    /// Lifetime in seconds; a negative one makes an expired token.
    #[serde(default = "default_ttl")]
    pub ttl: i64,
    /// The claim `cognito:groups`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Claims to add to both tokens or to override; null removes a claim.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

fn default_ttl() -> i64 {
    DEFAULT_TTL
}

/// The response to a [`TokenRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tokens {
    pub access_token: String,
    pub id_token: String,
    /// In seconds.
    pub expires_in: i64,
}

/// The system's cryptography failed.
#[derive(Debug, thiserror::Error)]
#[error("the token issuer cannot create or use its signing key")]
pub(crate) struct SigningError;

impl Issuer {
    /// An issuer with a new key, below the local stack's URL.
    pub(crate) fn new(stack_url: &str) -> Result<Self, SigningError> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningError)?;
        Ok(Self {
            url: format!("{stack_url}/{POOL}"),
            kid: ids::uuid(),
            key: Arc::new(key),
        })
    }

    /// The tokens' `iss`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The key set (RFC 7517) that verifies the tokens.
    pub(crate) fn jwks(&self) -> Value {
        let public = self.key.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        }]})
    }

    /// The discovery document (OpenID Connect Discovery 1.0) with the fields of
    /// Cognito's. The local stack has no login pages: nothing answers at the
    /// OAuth endpoints.
    pub(crate) fn openid_configuration(&self) -> Value {
        let at = |path: &str| format!("{}/{path}", self.url);
        json!({
            "issuer": self.url,
            "jwks_uri": at(".well-known/jwks.json"),
            "authorization_endpoint": at("oauth2/authorize"),
            "token_endpoint": at("oauth2/token"),
            "userinfo_endpoint": at("oauth2/userInfo"),
            "revocation_endpoint": at("oauth2/revoke"),
            "end_session_endpoint": at("logout"),
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "token"],
            "scopes_supported": ["openid", "email", "phone", "profile"],
            "subject_types_supported": ["public"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        })
    }

    /// Issues an access token and an ID token with Cognito's claims.
    pub(crate) fn issue(&self, request: &TokenRequest) -> Result<Tokens, SigningError> {
        let now = jiff::Timestamp::now().as_second();
        let mut common = json!({
            "sub": request.user,
            "iss": self.url,
            "iat": now,
            "auth_time": now,
            "exp": now.saturating_add(request.ttl),
            "jti": ids::uuid(),
        });
        if !request.groups.is_empty() {
            common["cognito:groups"] = json!(request.groups);
        }
        let access = json!({"token_use": "access", "client_id": CLIENT_ID, "scope": "openid", "username": request.user});
        let id = json!({"token_use": "id", "aud": CLIENT_ID, "cognito:username": request.user});
        let token = |own: &Value| {
            let layers = [common.as_object(), own.as_object(), Some(&request.claims)];
            let mut claims: Map<String, Value> = layers
                .into_iter()
                .flatten()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            claims.retain(|_, value| !value.is_null());
            self.sign(&Value::Object(claims))
        };
        Ok(Tokens {
            access_token: token(&access)?,
            id_token: token(&id)?,
            expires_in: request.ttl,
        })
    }

    /// Signs claims (RFC 7515, RS256).
    fn sign(&self, claims: &Value) -> Result<String, SigningError> {
        let header = json!({"alg": "RS256", "kid": self.kid});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .map_err(|_| SigningError)?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(token: &str) -> Value {
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn tokens_have_cognitos_claims_and_the_callers_override_them() {
        let issuer = Issuer::new("http://127.0.0.1:1").unwrap();
        let request = json!({"user": "alice", "ttl": -5, "groups": ["staff"], "claims": {"client_id": "x", "jti": null, "custom:a": "b"}});
        let tokens = issuer
            .issue(&serde_json::from_value(request).unwrap())
            .unwrap();
        let access = claims(&tokens.access_token);
        assert_eq!(access["sub"], "alice");
        assert_eq!(access["username"], "alice");
        assert_eq!(access["token_use"], "access");
        assert_eq!(access["iss"], "http://127.0.0.1:1/local_belfry");
        assert_eq!(access["cognito:groups"], json!(["staff"]));
        assert_eq!(access["client_id"], "x");
        assert_eq!(access["custom:a"], "b");
        assert_eq!(access.get("jti"), None);
        assert_eq!(
            access["exp"].as_i64().unwrap(),
            access["iat"].as_i64().unwrap() - 5
        );
        let id = claims(&tokens.id_token);
        assert_eq!(
            (&id["token_use"], &id["aud"]),
            (&json!("id"), &json!("local"))
        );
    }
}
