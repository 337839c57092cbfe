mod providers;

use super::*;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use belfry_core::testing::{TestTokens, verifier_contract};
use serde_json::json;
use std::sync::LazyLock;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const NOW_S: u64 = NOW.0 / 1_000;

/// The pool's key, and one that the pool does not know.
static KEYS: LazyLock<[KeyPair; 2]> =
    LazyLock::new(|| std::array::from_fn(|_| KeyPair::generate(KeySize::Rsa2048).unwrap()));

fn jwks() -> String {
    let public = KEYS[0].public_key();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let n = part(public.modulus().big_endian_without_leading_zero());
    let e = part(public.exponent().big_endian_without_leading_zero());
    json!({"keys": [{"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256", "n": n, "e": e}]})
        .to_string()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed_by(key: &KeyPair, header: &Value, claims: &Value) -> String {
    signed_text(key, &format!("{}.{}", part(header), part(claims)))
}

fn signed_text(key: &KeyPair, text: &str) -> String {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

struct Fixed;

impl FetchJwks for Fixed {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        Ok(jwks().into_bytes())
    }
}

fn verifier(token_use: TokenUse, user_id_claim: &str) -> CognitoVerifier<Fixed> {
    let policy = TokenPolicy {
        kept_claims: vec!["custom:teams".into()],
        issuers: vec![
            "https://issuer.test/pool".into(),
            "https://new-issuer.test/pool".into(),
        ],
        client_ids: vec!["web".into(), "app".into()],
        token_use,
        user_id_claim: user_id_claim.into(),
    };
    CognitoVerifier::new(policy, JwksCache::new(Fixed))
}

fn claims() -> Value {
    json!({"iss": "https://issuer.test/pool", "token_use": "access", "client_id": "web", "sub": "alice", "iat": NOW_S, "exp": NOW_S + 60})
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "k"})
}

fn sign(claims: &Value) -> String {
    signed_by(&KEYS[0], &header(), claims)
}

async fn verify(token: &str) -> Result<Identity, VerifyError> {
    verifier(TokenUse::Access, "sub").verify(token, NOW).await
}

/// The claims with some replaced; null removes one.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    all
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let token = |exp| sign(&with(json!({"iat": NOW_S, "exp": exp})));
    let unknown = signed_by(&KEYS[1], &header(), &claims());
    let tokens = TestTokens {
        valid: token(NOW_S + 3_600),
        late: token(NOW_S - 1),
        invalid: vec![String::new(), "not a token".into(), unknown, token(0)],
    };
    verifier_contract(&verifier(TokenUse::Access, "sub"), &tokens, NOW).await;
}

#[tokio::test]
async fn a_valid_token_names_its_user_and_its_end() {
    let identity = verify(&sign(&claims())).await.unwrap();
    assert_eq!(identity.user_id.as_str(), "alice");
    assert_eq!(identity.expires_at, UnixSeconds(NOW_S + 60));
}

#[tokio::test]
async fn the_claims_that_rules_name_are_kept() {
    let teams = |teams: Value| sign(&with(json!({"custom:teams": teams})));
    let kept = verify(&teams(json!(["a", "b"]))).await.unwrap().claims;
    assert_eq!(kept.to_json(), r#"{"custom:teams":["a","b"]}"#);
    assert!(verify(&sign(&claims())).await.unwrap().claims.is_empty());
    let many = verify(&teams(json!(vec!["group"; 300]))).await;
    let reason = "the claims that channel rules name take more than 2 KB";
    assert_eq!(many, Err(VerifyError::Rejected(reason)));
}

#[tokio::test]
async fn each_issuer_is_accepted() {
    let token = sign(&with(json!({"iss": "https://new-issuer.test/pool"})));
    assert!(verify(&token).await.is_ok());
}

#[tokio::test]
async fn each_claim_is_checked() {
    for (changes, reason) in [
        (
            json!({"iss": "https://issuer.test/other"}),
            "another issuer",
        ),
        (json!({"iss": null}), "another issuer"),
        (
            json!({"iss": ["https://issuer.test/pool"]}),
            "another issuer",
        ),
        (
            json!({"token_use": "id", "aud": "web"}),
            "another token use",
        ),
        (json!({"token_use": null}), "another token use"),
        (json!({"client_id": "stranger"}), "another client"),
        (json!({"client_id": null, "aud": "web"}), "another client"),
        (json!({"exp": null}), "no expiry"),
        (json!({"exp": "9999999999"}), "no expiry"),
        (json!({"exp": -1}), "no expiry"),
        (json!({"exp": NOW_S - 5}), "expired"),
        (json!({"nbf": NOW_S + 6}), "not yet valid"),
        (json!({"nbf": "0"}), "not yet valid"),
        (json!({"iat": NOW_S + 6}), "issued in the future"),
        (json!({"iat": "0"}), "no time of issue"),
        (json!({"iat": null}), "no time of issue"),
        (json!({"iat": 0}), "valid for more than 24 hours"),
        (
            json!({"exp": NOW_S + 86_401}),
            "valid for more than 24 hours",
        ),
        (json!({"sub": null}), "no usable user id"),
        (json!({"sub": ""}), "no usable user id"),
        (json!({"sub": 7}), "no usable user id"),
        (json!({"sub": "x".repeat(257)}), "no usable user id"),
    ] {
        let outcome = verify(&sign(&with(changes.clone()))).await;
        assert_eq!(outcome, Err(VerifyError::Rejected(reason)), "{changes}");
    }
}

#[tokio::test]
async fn a_time_is_a_number_that_is_neither_negative_nor_huge() {
    for exp in [
        json!(true),
        json!([NOW_S + 60]),
        json!({"$numberLong": "9999999999"}),
        json!(1e300),
        json!(9_007_199_254_740_992.0),
        json!(-1_800_000_000.5),
        json!(-0.5),
        json!("soon"),
        json!("1800000000.5"),
        json!("NaN"),
        json!("Infinity"),
    ] {
        for claim in ["exp", "iat", "nbf"] {
            let outcome = verify(&sign(&with(json!({claim: exp})))).await;
            assert!(
                matches!(outcome, Err(VerifyError::Rejected(_))),
                "{claim} {exp}"
            );
        }
    }
    for nbf in [json!(u64::MAX), json!(1e300), json!(-1), json!([0])] {
        let outcome = verify(&sign(&with(json!({"nbf": nbf})))).await;
        assert!(matches!(outcome, Err(VerifyError::Rejected(_))), "{nbf}");
    }
}

#[tokio::test]
async fn a_fraction_of_a_time_is_rounded_down() {
    let second = NOW_S as f64;
    let times = json!({"exp": second + 60.999, "iat": second - 6.001, "nbf": second + 5.9});
    let identity = verify(&sign(&with(times))).await.unwrap();
    assert_eq!(identity.expires_at, UnixSeconds(NOW_S + 60));
    assert_eq!(identity.issued_at, UnixSeconds(NOW_S - 7));
    for (wrong, reason) in [
        (json!({"exp": second - 4.001}), "expired"),
        (json!({"nbf": second + 6.0}), "not yet valid"),
    ] {
        let outcome = verify(&sign(&with(wrong.clone()))).await;
        assert_eq!(outcome, Err(VerifyError::Rejected(reason)), "{wrong}");
    }
    let as_exponent = sign(&with(json!({"exp": 1.767_225_7e9})));
    let identity = verify(&as_exponent).await.unwrap();
    assert_eq!(identity.expires_at, UnixSeconds(1_767_225_700));
}

#[tokio::test]
async fn huge_claims_are_read_up_to_the_longest_token() {
    let groups = |bytes: usize| sign(&with(json!({"cognito:groups": ["x".repeat(bytes)]})));
    assert!(verify(&groups(5_000)).await.is_ok());
    let refused = verify(&groups(6_000)).await;
    assert_eq!(refused, Err(VerifyError::Rejected("too long")));
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let claims = claims()
        .to_string()
        .replacen('{', &format!("{{\"deep\":{deep},"), 1);
    let text = format!("{}.{}", part(&header()), URL_SAFE_NO_PAD.encode(claims));
    let refused = verify(&signed_text(&KEYS[0], &text)).await;
    assert_eq!(
        refused,
        Err(VerifyError::Rejected("bad signature or payload"))
    );
}

#[tokio::test]
async fn a_key_inside_a_token_is_not_trusted() {
    let public = KEYS[1].public_key();
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "RSA",
        "kid": "k",
        "n": number(public.modulus().big_endian_without_leading_zero()),
        "e": number(public.exponent().big_endian_without_leading_zero()),
    });
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/chain")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("abc")),
    ] {
        let mut header = header();
        header[name] = value;
        // Signed by a key that the token itself brings.
        let outcome = verify(&signed_by(&KEYS[1], &header, &claims())).await;
        let refused = Err(VerifyError::Rejected("bad signature or payload"));
        assert_eq!(outcome, refused, "{name}");
        // Signed by the pool: the rest of the header is ignored.
        let outcome = verify(&signed_by(&KEYS[0], &header, &claims())).await;
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn only_the_keys_own_algorithm_is_accepted() {
    for alg in ["RS384", "RS512", "PS256", "ES384", "EdDSA", "HS512"] {
        let token = signed_by(&KEYS[0], &json!({"alg": alg, "kid": "k"}), &claims());
        let refused = Err(VerifyError::Rejected("not signed with RS256 or ES256"));
        assert_eq!(verify(&token).await, refused, "{alg}");
    }
    let refused = Err(VerifyError::Rejected("another algorithm than the key's"));
    let token = signed_by(&KEYS[0], &json!({"alg": "ES256", "kid": "k"}), &claims());
    assert_eq!(verify(&token).await, refused);
    for alg in [
        json!("rs256"),
        json!("None"),
        json!(""),
        json!(null),
        json!(["RS256"]),
    ] {
        let token = signed_by(&KEYS[0], &json!({"alg": alg, "kid": "k"}), &claims());
        let refused = Err(VerifyError::Rejected("not a signed token"));
        assert_eq!(verify(&token).await, refused, "{alg}");
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"RS256","kid":"k"}"#);
    let token = signed_text(&KEYS[0], &format!("{twice}.{}", part(&claims())));
    let refused = Err(VerifyError::Rejected("not a signed token"));
    assert_eq!(verify(&token).await, refused);
}

#[tokio::test]
async fn an_unknown_key_id_is_refused() {
    for kid in [
        "",
        "K",
        "k ",
        "k\u{0}",
        "../k",
        "/dev/null",
        "https://evil.test/k",
        "' OR 1=1 --",
        &"k".repeat(4_000),
    ] {
        let token = signed_by(&KEYS[0], &json!({"alg": "RS256", "kid": kid}), &claims());
        let refused = Err(VerifyError::Rejected("unknown signing key"));
        assert_eq!(verify(&token).await, refused, "{kid}");
    }
    for kid in [json!(7), json!(["k"]), json!({"k": 1}), json!(true)] {
        let token = signed_by(&KEYS[0], &json!({"alg": "RS256", "kid": kid}), &claims());
        let refused = Err(VerifyError::Rejected("not a signed token"));
        assert_eq!(verify(&token).await, refused, "{kid}");
    }
}

#[tokio::test]
async fn no_token_is_valid_for_more_than_24_hours() {
    let second = NOW_S as f64;
    for (times, accepted) in [
        (json!({"iat": NOW_S, "exp": NOW_S + 86_400}), true),
        (json!({"iat": NOW_S + 5, "exp": NOW_S + 86_405}), true),
        (json!({"iat": NOW_S - 86_400, "exp": NOW_S}), true),
        (json!({"iat": NOW_S - 86_404, "exp": NOW_S - 4}), true),
        (json!({"iat": second + 0.7, "exp": second + 86_400.7}), true),
        (json!({"iat": NOW_S, "exp": NOW_S + 86_401}), false),
        (json!({"iat": NOW_S - 86_400, "exp": NOW_S + 1}), false),
        (json!({"iat": NOW_S - 86_405, "exp": NOW_S - 4}), false),
        (json!({"exp": u64::MAX}), false),
        (json!({"iat": 0}), false),
    ] {
        let outcome = verify(&sign(&with(times.clone()))).await;
        let refused = Some(VerifyError::Rejected("valid for more than 24 hours"));
        let expected = if accepted { None } else { refused };
        assert_eq!(outcome.err(), expected, "{times}");
    }
}

#[tokio::test]
async fn a_token_has_one_form() {
    let good = sign(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("three parts")
    };
    let json_form = json!({
        "payload": body,
        "signatures": [
            {"protected": head, "signature": signature},
            {"protected": head, "signature": "AAAA"},
        ],
    });
    // 256 bytes leave four bits of the last character over, and zero is
    // how they are written: with others it decodes to the same bytes.
    let (start, last) = signature.split_at(signature.len() - 1);
    let trailing_bits = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        _ => "x",
    };
    for wrong in [
        format!("{head}.{body}.{start}{trailing_bits}"),
        json_form.to_string(),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{good}="),
        format!("{head}=.{body}.{signature}"),
        format!("{head}.{body}==.{signature}"),
        format!("{head}.{body}.{}+/", &signature[..signature.len() - 2]),
        format!("{head}.{body} .{signature}"),
        format!("{head}.{body}"),
        format!("{body}.{head}.{signature}"),
        format!("{head}..{signature}"),
        "..".into(),
        "....".into(),
        "\u{0}".repeat(100),
    ] {
        let outcome = verify(&wrong).await;
        assert!(
            matches!(outcome, Err(VerifyError::Rejected(_))),
            "{wrong}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn clocks_may_differ_by_five_seconds() {
    for changes in [
        json!({"exp": NOW_S - 5}),
        json!({"nbf": NOW_S + 6}),
        json!({"iat": NOW_S + 6}),
        json!({"iat": NOW_S + 86_400, "exp": NOW_S + 90_000}),
    ] {
        assert!(
            verify(&sign(&with(changes.clone()))).await.is_err(),
            "{changes}"
        );
    }
    for changes in [
        json!({"exp": NOW_S - 4}),
        json!({"nbf": NOW_S + 5}),
        json!({"iat": NOW_S + 5}),
        json!({"iat": NOW_S as f64 + 5.9}),
    ] {
        assert!(
            verify(&sign(&with(changes.clone()))).await.is_ok(),
            "{changes}"
        );
    }
}

#[tokio::test]
async fn id_tokens_and_other_claims_can_be_configured() {
    let token = sign(&with(
        json!({"token_use": "id", "aud": "app", "client_id": null, "custom:account": "acme-7"}),
    ));
    let identity = verifier(TokenUse::Id, "custom:account")
        .verify(&token, NOW)
        .await
        .unwrap();
    assert_eq!(identity.user_id.as_str(), "acme-7");
}

#[tokio::test]
async fn an_access_token_for_another_resource_is_refused() {
    for (aud, accepted) in [
        (json!("web"), true),
        (json!("app"), true),
        (json!(["https://other.test", "web"]), true),
        (json!("https://other.test"), false),
        (json!(["https://other.test"]), false),
        (json!([]), false),
        (json!(7), false),
    ] {
        let outcome = verify(&sign(&with(json!({"aud": aud})))).await;
        let refused = Some(VerifyError::Rejected("another client"));
        let expected = if accepted { None } else { refused };
        assert_eq!(outcome.err(), expected, "{aud}");
    }
}

#[tokio::test]
async fn an_id_token_has_one_audience() {
    for (changes, accepted) in [
        (json!({"aud": "web"}), true),
        (json!({"aud": "stranger", "azp": "web"}), false),
        (json!({"aud": ["web"]}), false),
        (json!({}), false),
    ] {
        let mut id = with(json!({"token_use": "id"}));
        for (name, value) in changes.as_object().unwrap() {
            id[name] = value.clone();
        }
        let outcome = verifier(TokenUse::Id, "sub").verify(&sign(&id), NOW).await;
        let refused = Some(VerifyError::Rejected("another client"));
        let expected = if accepted { None } else { refused };
        assert_eq!(outcome.err(), expected, "{changes}");
    }
}

#[tokio::test]
async fn a_token_that_the_pool_did_not_sign_is_refused() {
    let good = sign(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let tampered = format!("{head}.{}.{signature}", part(&with(json!({"sub": "bob"}))));
    let none = format!(
        "{}.{}.",
        part(&json!({"alg": "none", "kid": "k"})),
        part(&claims())
    );
    let hmac_text = format!(
        "{}.{}",
        part(&json!({"alg": "HS256", "kid": "k"})),
        part(&claims())
    );
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, jwks().as_bytes());
    let hmac = format!(
        "{hmac_text}.{}",
        URL_SAFE_NO_PAD.encode(hmac::sign(&hmac_key, hmac_text.as_bytes()))
    );
    let with_header = |header: Value| signed_by(&KEYS[0], &header, &claims());
    for (token, reason) in [
        (String::new(), "not a signed token"),
        ("garbage".into(), "not a signed token"),
        ("a.b.c".into(), "not a signed token"),
        ("x".repeat(8_193), "too long"),
        (none, "not a signed token"),
        (hmac, "not signed with RS256 or ES256"),
        (
            with_header(json!({"alg": "RS256", "kid": "k", "crit": ["b64"]})),
            "critical header extensions",
        ),
        (with_header(json!({"alg": "RS256"})), "no key id"),
        (
            with_header(json!({"alg": "RS256", "kid": "other"})),
            "unknown signing key",
        ),
        (tampered, "bad signature or payload"),
        (
            signed_by(&KEYS[1], &header(), &claims()),
            "bad signature or payload",
        ),
        (format!("{signed}."), "bad signature or payload"),
        (
            sign(&json!(["not", "an", "object"])),
            "bad signature or payload",
        ),
    ] {
        assert_eq!(
            verify(&token).await,
            Err(VerifyError::Rejected(reason)),
            "{token}"
        );
    }
}
