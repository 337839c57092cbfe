//! An issuer's signing key, held by a test.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Signs with RS256 or ES256.
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A key for RS256.
    ///
    /// # Panics
    /// If the system's cryptography fails.
    #[must_use]
    pub fn new(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: Pair::Rsa(KeyPair::generate(KeySize::Rsa2048).expect("a key")),
        }
    }

    /// A key for ES256.
    ///
    /// # Panics
    /// If the system's cryptography fails.
    #[must_use]
    pub fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self {
            kid: kid.to_owned(),
            pair: Pair::P256(pair),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public key, as a key set lists it (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> Value {
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = json!({"use": "sig", "alg": self.algorithm(), "kid": self.kid});
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                jwk["kty"] = "RSA".into();
                jwk["n"] = number(public.modulus().big_endian_without_leading_zero()).into();
                jwk["e"] = number(public.exponent().big_endian_without_leading_zero()).into();
            }
            Pair::P256(pair) => {
                // An uncompressed point: a prefix, then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                jwk["kty"] = "EC".into();
                jwk["crv"] = "P-256".into();
                jwk["x"] = number(x).into();
                jwk["y"] = number(y).into();
            }
        }
        jwk
    }

    /// A token with an ordinary header.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": self.kid}), claims)
    }

    /// A token with any header. The signature is that of the key whatever the
    /// header says.
    ///
    /// # Panics
    /// If the system's cryptography fails.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let (random, bytes) = (SystemRandom::new(), text.as_bytes());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                    .expect("a signature");
                signature
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&random, bytes).expect("a signature");
                signature.as_ref().to_vec()
            }
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
