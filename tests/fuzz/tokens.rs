//! Tokens: everything the pool has not signed is rejected.

use std::sync::LazyLock;

use belfry_aws::cognito::{CognitoVerifier, FetchJwks, JwksCache, TokenPolicy, TokenUse};
use belfry_core::UnixMillis;
use belfry_core::ports::{Identity, TokenVerifier, VerifyError};
use belfry_tests::SigningKey;
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;
use crate::mutate::{Corpus, changed, changes, cut, cuts};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const NOW_S: u64 = NOW.0 / 1_000;

static POOL: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::new("k"));
static GOOD: LazyLock<String> = LazyLock::new(|| POOL.token(&claims()));
static EC: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::p256("ec"));
static GOOD_EC: LazyLock<String> = LazyLock::new(|| EC.token(&any_claims()));
static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::new("k"));
static STRANGER_EC: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::p256("ec"));

struct Published;

impl FetchJwks for Published {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        Ok(json!({"keys": [POOL.jwk(), EC.jwk()]}).to_string().into())
    }
}

thread_local! {
    // One for each test: sharing the cache could make `verify` wait.
    static VERIFIER: CognitoVerifier<Published> = verifier(TokenUse::Access);
    static OF_ANY_PROVIDER: CognitoVerifier<Published> = verifier(TokenUse::Any);
}

fn verifier(token_use: TokenUse) -> CognitoVerifier<Published> {
    let policy = TokenPolicy {
        kept_claims: vec!["cognito:groups".into()],
        issuers: vec!["https://issuer.test/pool".into()],
        client_ids: vec!["web".into()],
        token_use,
        user_id_claim: "sub".into(),
    };
    CognitoVerifier::new(policy, JwksCache::new(Published))
}

fn verify(token: &str) -> Result<Identity, VerifyError> {
    let verdict = VERIFIER.with(|verifier| verifier.verify(token, NOW).now_or_never());
    verdict.expect("nothing to wait for")
}

fn verify_any(token: &str) -> Result<Identity, VerifyError> {
    let verdict = OF_ANY_PROVIDER.with(|verifier| verifier.verify(token, NOW).now_or_never());
    verdict.expect("nothing to wait for")
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "k", "typ": "JWT"})
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.test/pool",
        "token_use": "access",
        "client_id": "web",
        "sub": "alice",
        "exp": NOW_S + 60,
        "nbf": NOW_S,
        "iat": NOW_S,
    })
}

/// The claims of another provider's token.
fn any_claims() -> Value {
    let mut claims = claims();
    claims["aud"] = json!(["web", "account"]);
    claims["azp"] = "other".into();
    for name in ["token_use", "client_id"] {
        claims.as_object_mut().expect("an object").remove(name);
    }
    claims
}

/// Headers and claims, and values that attackers put into them.
fn corpus() -> Corpus {
    let odd = json!({
        "alg": ["none", "None", "HS256", "RS512", "PS256", "ES256"],
        "kid": ["", "../../k", 7],
        "crit": ["exp"],
        "jwk": POOL.jwk(),
        "jku": "https://evil.test/keys",
        "x5u": "https://evil.test/chain",
        "x5c": ["MIIB"],
        "b64": false,
        "zip": "DEF",
        "exp": [NOW_S, NOW_S - 5, NOW_S - 4, NOW_S + 86_400, NOW_S + 86_401, u64::MAX, NOW_S as f64 + 0.5, "2000000000"],
        "nbf": [NOW_S + 5, NOW_S + 6, NOW_S as f64 + 5.5],
        "iat": [NOW_S + 5, NOW_S + 6, NOW_S - 86_340, NOW_S - 86_341, NOW_S as f64 - 0.5, -0.5, 9_007_199_254_740_992.0],
        "aud": ["web", ["web"], ["other", "web"]],
        "azp": "web",
        "typ": ["at+jwt", "logout+jwt"],
        "events": {},
    });
    let texts = [header(), claims(), odd].map(|json| json.to_string());
    Corpus::new(texts.into())
}

/// The whole seconds of a time, which may have a fraction.
fn whole(time: &Value) -> Option<u64> {
    let integer = time.as_u64();
    integer.or_else(|| {
        let seconds = time.as_f64()?;
        (seconds >= 0.0 && seconds < 2_f64.powi(53)).then(|| seconds.floor() as u64)
    })
}

/// Whether the claims are valid, by rules written independently of the
/// verifier.
fn are_valid(claims: &Value) -> bool {
    claims["token_use"] == "access"
        && claims["client_id"] == "web"
        && audience_is_web(claims) != Some(false)
        && are_in_time(claims)
}

/// Whether the audience names the client, if there is one.
fn audience_is_web(claims: &Value) -> Option<bool> {
    let web = json!("web");
    claims.get("aud").map(|audience| match audience {
        Value::Array(all) => all.contains(&web),
        one => *one == web,
    })
}

/// The same for [`TokenUse::Any`].
fn are_valid_for_any(claims: &Value) -> bool {
    let named = audience_is_web(claims).unwrap_or_else(|| {
        let clients = ["client_id", "azp"].map(|claim| claims.get(claim));
        let mut clients = clients.into_iter().flatten().peekable();
        clients.peek().is_some() && clients.all(|client| client == "web")
    });
    named && claims.get("events").is_none() && are_in_time(claims)
}

/// Whether the claims that every provider sets are valid.
fn are_in_time(claims: &Value) -> bool {
    let user = claims["sub"].as_str().unwrap_or("");
    claims["iss"] == "https://issuer.test/pool"
        && (1..=128).contains(&user.chars().count())
        && !user.contains(char::is_control)
        && matches!((whole(&claims["iat"]), whole(&claims["exp"])), (Some(iat), Some(exp))
            if iat <= NOW_S + 5 && exp > NOW_S - 5 && exp - 86_400 <= iat)
        && claims
            .get("nbf")
            .is_none_or(|nbf| whole(nbf).is_some_and(|nbf| nbf <= NOW_S + 5))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_good_token_with_any_character_changed_is_rejected(cuts in cuts()) {
        let token = cut(GOOD.clone(), &cuts);
        if token == *GOOD {
            prop_assert!(verify(&token).is_ok());
        } else {
            prop_assert!(matches!(verify(&token), Err(VerifyError::Rejected(_))), "{}", token);
        }
    }

    #[test]
    fn a_strangers_token_is_rejected(
        of_header in changes(&corpus()),
        of_claims in changes(&corpus()),
    ) {
        let token = STRANGER.sign(&changed(header(), &of_header), &changed(claims(), &of_claims));
        prop_assert!(matches!(verify(&token), Err(VerifyError::Rejected(_))), "{}", token);
    }

    #[test]
    fn the_pools_token_is_judged_by_its_claims(changes in changes(&corpus())) {
        let claims = changed(claims(), &changes);
        match verify(&POOL.sign(&header(), &claims)) {
            Ok(identity) => {
                prop_assert!(are_valid(&claims), "{}", claims);
                prop_assert_eq!(identity.user_id.as_str(), &claims["sub"]);
                prop_assert_eq!(Some(identity.expires_at.0), whole(&claims["exp"]));
                prop_assert_eq!(Some(identity.issued_at.0), whole(&claims["iat"]));
            }
            Err(VerifyError::Rejected(_)) => prop_assert!(!are_valid(&claims), "{}", claims),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn a_good_es256_token_with_any_character_changed_is_rejected(cuts in cuts()) {
        let token = cut(GOOD_EC.clone(), &cuts);
        if token == *GOOD_EC {
            prop_assert!(verify_any(&token).is_ok());
        } else {
            prop_assert!(matches!(verify_any(&token), Err(VerifyError::Rejected(_))), "{}", token);
        }
    }

    #[test]
    fn another_providers_token_is_judged_by_its_claims(
        changes in changes(&corpus()),
        with_rsa in any::<bool>(),
    ) {
        let claims = changed(any_claims(), &changes);
        let key = if with_rsa { &POOL } else { &EC };
        match verify_any(&key.token(&claims)) {
            Ok(identity) => {
                prop_assert!(are_valid_for_any(&claims), "{}", claims);
                prop_assert_eq!(identity.user_id.as_str(), &claims["sub"]);
            }
            Err(VerifyError::Rejected(_)) => prop_assert!(!are_valid_for_any(&claims), "{}", claims),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    // Each key signs only with its own algorithm, whatever a header says.
    #[test]
    fn a_header_never_chooses_the_algorithm(
        changes in changes(&corpus()),
        key in 0..4_usize,
        alg in prop::sample::select(vec!["RS256", "ES256", "HS256", "none", "PS256"]),
        kid in prop::sample::select(vec!["k", "ec"]),
    ) {
        let header = changed(json!({"alg": alg, "kid": kid, "typ": "JWT"}), &changes);
        let key = [&*POOL, &*EC, &*STRANGER, &*STRANGER_EC][key];
        let own = [(&*POOL, "RS256", "k"), (&*EC, "ES256", "ec")];
        let own = own.into_iter().any(|(own, alg, kid)| {
            std::ptr::eq(own, key) && header["alg"] == alg && header["kid"] == kid
        });
        if verify_any(&key.sign(&header, &any_claims())).is_ok() {
            prop_assert!(own, "{}", header);
        }
    }

    #[test]
    fn a_header_is_accepted_only_with_the_pools_key_and_rs256(changes in changes(&corpus())) {
        let header = changed(header(), &changes);
        if verify(&POOL.sign(&header, &claims())).is_ok() {
            prop_assert_eq!(&header["alg"], "RS256", "{}", header);
            prop_assert_eq!(&header["kid"], "k");
            prop_assert!(header.get("crit").is_none_or(Value::is_null), "{}", header);
        }
    }
}
