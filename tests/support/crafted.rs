//! Tokens that no issuer would issue.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::patience::http;
use crate::signing::SigningKey;
use crate::stack::Stack;

/// Takes a valid token apart and reassembles it wrongly.
pub struct Crafted {
    good: String,
    header: Value,
    claims: Value,
    jwks: Value,
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

impl Crafted {
    /// Starts from a valid token of the stack and its published keys.
    pub async fn new(stack: &Stack) -> Self {
        let good = stack.token("alice").await;
        let mut parts = good.split('.').map(decode_if_json);
        let (header, claims) = (
            parts.next().flatten().expect("a header"),
            parts.next().flatten().expect("claims"),
        );
        let url = format!("{}/.well-known/jwks.json", stack.ready.issuer);
        let jwks = http()
            .get(url)
            .send()
            .await
            .expect("keys")
            .text()
            .await
            .expect("keys");
        Self {
            good,
            header,
            claims,
            jwks: serde_json::from_str(&jwks).expect("JSON"),
        }
    }

    fn signature(&self) -> &str {
        self.good.rsplit_once('.').expect("a signature").1
    }

    /// `alg: none`, without a signature.
    #[must_use]
    pub fn unsigned(&self) -> String {
        let header = json!({"alg": "none", "kid": self.header["kid"]});
        format!("{}.{}.", encode(&header), encode(&self.claims))
    }

    /// HS256 with the public key as the secret.
    #[must_use]
    pub fn signed_with_the_public_key(&self) -> String {
        let header = json!({"alg": "HS256", "kid": self.header["kid"]});
        let text = format!("{}.{}", encode(&header), encode(&self.claims));
        let modulus = self.jwks["keys"][0]["n"].as_str().expect("a modulus");
        let key = hmac::Key::new(
            hmac::HMAC_SHA256,
            &URL_SAFE_NO_PAD.decode(modulus).expect("base64"),
        );
        format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()))
        )
    }

    /// Signed by an attacker's own key, under a header that names `kid`.
    #[must_use]
    pub fn signed_by_a_stranger(&self, kid: Option<&str>) -> String {
        let header =
            json!({"alg": "RS256", "kid": kid.map_or(self.header["kid"].clone(), Value::from)});
        SigningKey::new("stranger").sign(&header, &self.claims)
    }

    /// The valid signature under other claims.
    #[must_use]
    pub fn tampered(&self) -> String {
        let mut claims = self.claims.clone();
        claims["sub"] = json!("root");
        format!(
            "{}.{}.{}",
            encode(&self.header),
            encode(&claims),
            self.signature()
        )
    }

    /// The valid claims under a broken signature.
    #[must_use]
    pub fn broken(&self) -> String {
        let cut = &self.good[..self.good.len() - 8];
        format!("{cut}AAAAAAAA")
    }
}

fn decode_if_json(part: &str) -> Option<Value> {
    (part.starts_with("eyJ")).then(|| decode(part))
}
