//! Tokens and key sets in the shapes of other OpenID providers.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use super::*;

static EC_KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

/// A provider's key set around the RSA key `rsa` and the EC key `ec`.
struct Provider(Value);

impl FetchJwks for Provider {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        Ok(self.0.to_string().into_bytes())
    }
}

/// The public key with other members of a JSON Web Key.
fn rsa(more: Value) -> Value {
    let public = KEYS[0].public_key();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    merged(
        json!({
            "kty": "RSA",
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        }),
        more,
    )
}

fn ec(more: Value) -> Value {
    // An uncompressed point: 4, then both coordinates.
    let (x, y) = EC_KEY.public_key().as_ref()[1..].split_at(32);
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    merged(
        json!({"kty": "EC", "crv": "P-256", "x": number(x), "y": number(y)}),
        more,
    )
}

fn merged(mut all: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

fn auth0() -> Value {
    json!({"keys": [
        rsa(json!({"use": "sig", "alg": "RS256", "kid": "rsa", "x5t": "bm90aGluZw", "x5c": ["MIIDBTCCAe2gAwIBAgIJ"]})),
        rsa(json!({"use": "sig", "alg": "RS256", "kid": "next", "x5t": "bm90aGluZw", "x5c": ["MIIDBTCCAe2gAwIBAgIJ"]})),
    ]})
}

fn keycloak() -> Value {
    let certificate = json!({"x5c": ["MIICmzCCAYMCBgF"], "x5t": "bm90", "x5t#S256": "aGluZw"});
    json!({"keys": [
        merged(rsa(json!({"kid": "enc", "alg": "RSA-OAEP", "use": "enc"})), certificate.clone()),
        merged(rsa(json!({"kid": "rsa", "alg": "RS256", "use": "sig"})), certificate),
        ec(json!({"kid": "ec", "alg": "ES256", "use": "sig"})),
        {"kty": "OKP", "kid": "ed", "alg": "EdDSA", "use": "sig", "crv": "Ed25519", "x": "AQAB"},
        {"kty": "AKP", "kid": "ml", "alg": "ML-DSA-65", "use": "sig", "pub": "AQAB"},
    ]})
}

fn okta() -> Value {
    json!({"keys": [rsa(json!({"alg": "RS256", "kid": "rsa", "use": "sig"}))]})
}

fn without_alg() -> Value {
    json!({"keys": [
        rsa(json!({"kid": "rsa", "use": "sig", "issuer": "https://id.test/v2.0"})),
        ec(json!({"kid": "ec"})),
    ]})
}

fn any(keys: Value) -> CognitoVerifier<Provider> {
    let policy = TokenPolicy {
        kept_claims: vec!["custom:teams".into()],
        issuers: vec!["https://id.test/".into()],
        client_ids: vec!["web".into(), "https://api.test".into()],
        token_use: TokenUse::Any,
        user_id_claim: "sub".into(),
    };
    CognitoVerifier::new(policy, JwksCache::new(Provider(keys)))
}

/// Claims that every provider sets, and some more.
fn claims(more: Value) -> Value {
    merged(
        json!({"iss": "https://id.test/", "sub": "alice", "iat": NOW_S, "exp": NOW_S + 60}),
        more,
    )
}

fn by_rsa(claims: &Value) -> String {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"});
    signed_by(&KEYS[0], &header, claims)
}

fn by_ec(header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let signature = EC_KEY.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn reason(keys: Value, token: &str) -> Option<VerifyError> {
    any(keys).verify(token, NOW).await.err()
}

#[tokio::test]
async fn tokens_of_other_providers_are_accepted() {
    for (name, keys, more) in [
        (
            "Auth0 access token",
            auth0(),
            json!({"aud": ["https://api.test", "https://id.test/userinfo"], "azp": "other", "scope": "openid", "gty": "password"}),
        ),
        (
            "Auth0 ID token",
            auth0(),
            json!({"aud": "web", "nonce": "n", "sid": "s"}),
        ),
        (
            "Keycloak access token",
            keycloak(),
            json!({"aud": ["web", "account"], "azp": "web", "typ": "Bearer", "acr": "1"}),
        ),
        (
            "Keycloak access token of a user without roles",
            keycloak(),
            json!({"azp": "web", "typ": "Bearer", "acr": "1"}),
        ),
        (
            "Keycloak ID token",
            keycloak(),
            json!({"aud": "web", "azp": "web", "typ": "ID"}),
        ),
        (
            "Okta access token",
            okta(),
            json!({"aud": "https://api.test", "cid": "0oa", "ver": 1, "scp": ["openid"]}),
        ),
        (
            "RFC 9068 access token",
            without_alg(),
            json!({"aud": "https://api.test", "client_id": "other"}),
        ),
        (
            "Cognito access token",
            okta(),
            json!({"token_use": "access", "client_id": "web"}),
        ),
    ] {
        let token = by_rsa(&claims(more));
        assert_eq!(reason(keys, &token).await, None, "{name}");
    }
}

#[tokio::test]
async fn the_client_must_be_named() {
    for more in [
        json!({}),
        json!({"aud": "stranger", "azp": "stranger", "client_id": "stranger"}),
        json!({"aud": []}),
        json!({"aud": [["web"]]}),
        json!({"aud": {"0": "web"}}),
        json!({"aud": "web account"}),
        json!({"aud": ["WEB", "web ", "", null, 7]}),
        json!({"azp": ["web"]}),
        json!({"client_id": ["web"]}),
        json!({"cid": "web"}),
    ] {
        let token = by_rsa(&claims(more.clone()));
        let refused = Some(VerifyError::Rejected("another client"));
        assert_eq!(reason(okta(), &token).await, refused, "{more}");
    }
}

#[tokio::test]
async fn a_foreign_audience_is_refused_whichever_client_is_named() {
    for aud in [
        json!("account"),
        json!("https://other.test"),
        json!(["https://other.test", "account"]),
        json!([]),
        json!(""),
        json!(null),
        json!({"web": "web"}),
    ] {
        let more = json!({"aud": aud, "azp": "web", "client_id": "web"});
        let refused = Some(VerifyError::Rejected("another client"));
        let token = by_rsa(&claims(more));
        assert_eq!(reason(keycloak(), &token).await, refused, "{aud}");
    }
}

#[tokio::test]
async fn without_an_audience_no_other_client_may_be_named() {
    for (more, accepted) in [
        (json!({"client_id": "web"}), true),
        (json!({"azp": "web"}), true),
        (json!({"client_id": "web", "azp": "web"}), true),
        (json!({"client_id": "web", "azp": "stranger"}), false),
        (json!({"client_id": "stranger", "azp": "web"}), false),
        (json!({"client_id": null, "azp": "web"}), false),
    ] {
        let refused = Some(VerifyError::Rejected("another client"));
        let expected = if accepted { None } else { refused };
        let token = by_rsa(&claims(more.clone()));
        assert_eq!(reason(keycloak(), &token).await, expected, "{more}");
    }
}

#[tokio::test]
async fn issuer_and_times_are_still_demanded() {
    for (more, why) in [
        (json!({"iss": "https://id.test"}), "another issuer"),
        (json!({"iss": "https://evil.test/"}), "another issuer"),
        (json!({"exp": null}), "no expiry"),
        (json!({"exp": NOW_S - 5}), "expired"),
        (json!({"iat": null}), "no time of issue"),
        (
            json!({"exp": NOW_S + 86_401}),
            "valid for more than 24 hours",
        ),
    ] {
        let token = by_rsa(&merged(claims(json!({"aud": "web"})), more.clone()));
        let refused = Some(VerifyError::Rejected(why));
        assert_eq!(reason(okta(), &token).await, refused, "{more}");
    }
}

#[tokio::test]
async fn a_token_for_another_purpose_is_refused() {
    let web = claims(json!({"aud": "web"}));
    for (typ, accepted) in [
        (json!("JWT"), true),
        (json!("jwt"), true),
        (json!("at+jwt"), true),
        (json!("application/at+JWT"), true),
        (json!("logout+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!("secevent+jwt"), false),
        (json!(""), false),
    ] {
        let header = json!({"alg": "RS256", "kid": "rsa", "typ": typ});
        let token = signed_by(&KEYS[0], &header, &web);
        let refused = Some(VerifyError::Rejected("another type of token"));
        let expected = if accepted { None } else { refused };
        assert_eq!(reason(okta(), &token).await, expected, "{typ}");
    }
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let token = by_rsa(&merged(web, json!({"events": event})));
    let refused = Some(VerifyError::Rejected("another type of token"));
    assert_eq!(reason(okta(), &token).await, refused);
}

#[tokio::test]
async fn es256_is_accepted_with_a_key_of_that_kind() {
    let web = claims(json!({"aud": "web"}));
    let header = json!({"alg": "ES256", "kid": "ec"});
    for keys in [keycloak(), without_alg()] {
        assert_eq!(reason(keys, &by_ec(&header, &web)).await, None);
    }
    // Cognito's claims with it, too: the key set decides.
    assert_eq!(reason(keycloak(), &by_rsa(&web)).await, None);
}

#[tokio::test]
async fn the_token_does_not_choose_the_algorithm() {
    let web = claims(json!({"aud": "web"}));
    let rsa = |alg: &str, kid: &str| signed_by(&KEYS[0], &json!({"alg": alg, "kid": kid}), &web);
    let ec = |alg: &str, kid: &str| by_ec(&json!({"alg": alg, "kid": kid}), &web);
    let tampered = {
        let token = ec("ES256", "ec");
        let (head, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let other = merged(web.clone(), json!({"sub": "root"}));
        format!("{head}.{}.{signature}", part(&other))
    };
    let zeros = {
        let token = ec("ES256", "ec");
        let (signed, _) = token.rsplit_once('.').unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]))
    };
    for (token, why) in [
        (rsa("ES256", "rsa"), "another algorithm than the key's"),
        (rsa("RS256", "ec"), "another algorithm than the key's"),
        (rsa("ES256", "ec"), "bad signature or payload"),
        (ec("RS256", "rsa"), "bad signature or payload"),
        (ec("RS256", "ec"), "another algorithm than the key's"),
        (ec("ES256", "rsa"), "another algorithm than the key's"),
        (rsa("RS256", "enc"), "unknown signing key"),
        (rsa("PS256", "rsa"), "not signed with RS256 or ES256"),
        (ec("ES384", "ec"), "not signed with RS256 or ES256"),
        (tampered, "bad signature or payload"),
        (zeros, "bad signature or payload"),
    ] {
        let refused = Some(VerifyError::Rejected(why));
        assert_eq!(reason(keycloak(), &token).await, refused, "{token}");
    }
}
