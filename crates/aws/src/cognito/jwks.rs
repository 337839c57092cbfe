use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use belfry_core::UnixMillis;
use belfry_core::ports::VerifyError;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::JwksUrl;
use crate::http::Http;
use crate::sdk_error::chain;

/// A key set older than this is fetched again.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// A key set may be used this long while the key server cannot be reached. Keys
/// rotate rarely, but a withdrawn key must not be used for days.
const MAX_STALENESS: Duration = Duration::from_secs(4 * 60 * 60);

/// Minimum interval between two fetches while there is a key set: tokens with
/// made-up key ids must not become a flood of requests.
const REFETCH_INTERVAL: Duration = Duration::from_secs(60);

const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum size of a key set, in bytes. Cognito's has about one kilobyte.
const MAX_BYTES: usize = 64 * 1024;

/// Where key sets come from.
pub trait FetchJwks: Send + Sync {
    /// Fetches the key set's JSON text.
    ///
    /// # Errors
    /// What went wrong, for the operator's log.
    fn fetch(&self) -> impl Future<Output = Result<Vec<u8>, String>> + Send;
}

/// Fetches a key set over HTTP.
#[derive(Debug)]
pub struct HttpJwks {
    http: Http,
    url: JwksUrl,
}

impl HttpJwks {
    #[must_use]
    pub fn new(http: Http, url: JwksUrl) -> Self {
        Self { http, url }
    }
}

impl FetchJwks for HttpJwks {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let url = self.url.url().as_str();
        let body = self.http.get(url, FETCH_TIMEOUT, MAX_BYTES).await;
        body.map_err(|error| chain(&error))
    }
}

/// A signing key, and the one algorithm that it signs with. A token has no say
/// in that: its header is the sender's own.
#[derive(Clone)]
pub(super) struct SigningKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Caches the keys by their id.
pub struct JwksCache<F> {
    source: F,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, SigningKey>,
    fetched_at: Option<UnixMillis>,
    tried_at: Option<UnixMillis>,
    /// Why the last fetch failed, if it did.
    failure: Option<String>,
}

impl<F: FetchJwks> JwksCache<F> {
    /// An empty cache. The first token fills it.
    pub fn new(source: F) -> Self {
        Self {
            source,
            state: Mutex::default(),
        }
    }

    /// The key with this id.
    ///
    /// The key set is fetched if there is none, if it is older than an hour, or
    /// if the id is unknown, but at most once a minute while there is one. A
    /// stale key set is used for four hours while fetching fails.
    ///
    /// # Errors
    /// [`VerifyError::Rejected`] if the current key set does not have the key,
    /// [`VerifyError::KeysUnavailable`] if that cannot be decided.
    pub(super) async fn key(&self, kid: &str, now: UnixMillis) -> Result<SigningKey, VerifyError> {
        let mut state = self.state.lock().await;
        let age = state.fetched_at.map(|at| now.since(at));
        let current = age.is_some_and(|age| age < MAX_AGE) && state.keys.contains_key(kid);
        let may_fetch = age.is_none()
            || state
                .tried_at
                .is_none_or(|at| now.since(at) >= REFETCH_INTERVAL);
        if !current && may_fetch {
            state.refresh(&self.source, now).await;
        }
        let usable = state
            .fetched_at
            .is_some_and(|at| now.since(at) < MAX_STALENESS);
        match (state.keys.get(kid), &state.failure) {
            (Some(key), _) if usable => Ok(key.clone()),
            (None, None) => Err(VerifyError::Rejected("unknown signing key")),
            (_, failure) => {
                let why = failure.as_deref().unwrap_or("the cached keys are too old");
                Err(VerifyError::KeysUnavailable(why.to_owned()))
            }
        }
    }
}

impl State {
    async fn refresh<F: FetchJwks>(&mut self, source: &F, now: UnixMillis) {
        self.tried_at = Some(now);
        let keys = source.fetch().await.and_then(|text| parse(&text));
        match keys {
            Ok(keys) => {
                self.keys = keys;
                self.fetched_at = Some(now);
                self.failure = None;
            }
            Err(failure) => {
                tracing::warn!(event = "keys.fetch-failed", reason = %failure, "could not fetch the signing keys");
                self.failure = Some(failure);
            }
        }
    }
}

/// Reads the RS256 and ES256 signing keys of a key set (RFC 7517). A provider
/// may publish keys of other kinds beside them; they are skipped.
fn parse(text: &[u8]) -> Result<HashMap<String, SigningKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let set: Set =
        serde_json::from_slice(text).map_err(|_| "the key set is not a JSON Web Key Set")?;
    let keys: HashMap<_, _> = set
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
        .filter_map(|jwk| {
            let key = SigningKey {
                algorithm: algorithm(&jwk)?,
                key: DecodingKey::from_jwk(&jwk).ok()?,
            };
            Some((jwk.common.key_id?, key))
        })
        .collect();
    if keys.is_empty() {
        return Err("the key set has no RS256 or ES256 signing key".into());
    }
    Ok(keys)
}

/// The algorithm that a key of the set signs with, if Belfry accepts it.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let named = common.key_algorithm.is_none_or(|own| own == name);
    (signs && verifies && named).then_some(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Server {
        answer: StdMutex<Result<String, String>>,
        fetches: AtomicUsize,
    }

    impl Server {
        fn set(&self, answer: Result<String, &str>) {
            *self.answer.lock().unwrap() = answer.map_err(Into::into);
        }

        fn fetches(&self) -> usize {
            self.fetches.swap(0, Ordering::SeqCst)
        }
    }

    impl FetchJwks for &Server {
        async fn fetch(&self) -> Result<Vec<u8>, String> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.answer.lock().unwrap().clone().map(String::into_bytes)
        }
    }

    fn jwk(kid: &str) -> String {
        format!(r#"{{"kty":"RSA","kid":"{kid}","use":"sig","alg":"RS256","n":"AQAB","e":"AQAB"}}"#)
    }

    const POINT: &str = r#""x":"AQAB","y":"AQAB""#;

    fn jwks(kids: &[&str]) -> String {
        let keys: Vec<_> = kids.iter().map(|kid| jwk(kid)).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    fn server(kids: &[&str]) -> Server {
        Server {
            answer: StdMutex::new(Ok(jwks(kids))),
            fetches: AtomicUsize::new(0),
        }
    }

    const UNKNOWN: VerifyError = VerifyError::Rejected("unknown signing key");

    fn at(minutes: u64) -> UnixMillis {
        UnixMillis(1_767_225_600_000 + minutes * 60_000)
    }

    async fn outcome(
        cache: &JwksCache<&Server>,
        kid: &str,
        minutes: u64,
    ) -> Result<(), VerifyError> {
        cache.key(kid, at(minutes)).await.map(drop)
    }

    #[tokio::test]
    async fn one_fetch_serves_an_hour() {
        let server = server(&["a", "b"]);
        let cache = JwksCache::new(&server);
        for minutes in [0, 1, 59] {
            assert_eq!(outcome(&cache, "a", minutes).await, Ok(()));
            assert_eq!(outcome(&cache, "b", minutes).await, Ok(()));
        }
        assert_eq!(server.fetches(), 1);
        assert_eq!(outcome(&cache, "a", 60).await, Ok(()));
        assert_eq!(server.fetches(), 1);
    }

    #[test]
    fn a_byte_order_mark_before_a_key_set_is_ignored() {
        let text = format!("\u{feff}{}", jwks(&["a"]));
        assert!(parse(text.as_bytes()).unwrap().contains_key("a"));
    }

    #[tokio::test]
    async fn an_unknown_key_id_fetches_at_most_once_a_minute() {
        let server = server(&["a"]);
        let cache = JwksCache::new(&server);
        assert_eq!(outcome(&cache, "a", 0).await, Ok(()));
        for kid in ["x", "y", "z"] {
            assert_eq!(outcome(&cache, kid, 0).await, Err(UNKNOWN));
        }
        assert_eq!(server.fetches(), 1);
        server.set(Ok(jwks(&["a", "x"])));
        assert_eq!(
            outcome(&cache, "x", 1).await,
            Ok(()),
            "a rotated key is found"
        );
        assert_eq!(outcome(&cache, "y", 1).await, Err(UNKNOWN));
        assert_eq!(server.fetches(), 1);
    }

    #[tokio::test]
    async fn a_stale_set_serves_for_hours_while_the_server_is_down() {
        let server = server(&["a"]);
        let cache = JwksCache::new(&server);
        assert_eq!(outcome(&cache, "a", 0).await, Ok(()));
        server.set(Err("down"));
        let unavailable = || Err(VerifyError::KeysUnavailable("down".into()));
        assert_eq!(outcome(&cache, "a", 61).await, Ok(()));
        assert_eq!(outcome(&cache, "a", 61).await, Ok(()));
        assert_eq!(
            outcome(&cache, "new", 61).await,
            unavailable(),
            "it may be valid"
        );
        assert_eq!(server.fetches(), 2, "the first and one in that minute");
        assert_eq!(outcome(&cache, "a", 239).await, Ok(()));
        assert_eq!(outcome(&cache, "a", 240).await, unavailable());
        server.set(Ok(jwks(&["a"])));
        assert_eq!(outcome(&cache, "a", 241).await, Ok(()), "it recovers");
    }

    #[tokio::test]
    async fn without_any_set_every_token_tries() {
        let server = server(&[]);
        let cache = JwksCache::new(&server);
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}"#,
            "<html>",
        ] {
            server.set(Ok(wrong.into()));
            let refusal = outcome(&cache, "a", 0).await;
            assert!(
                matches!(refusal, Err(VerifyError::KeysUnavailable(_))),
                "{wrong}"
            );
            assert_eq!(server.fetches(), 1);
        }
        server.set(Ok(jwks(&["a"])));
        assert_eq!(outcome(&cache, "a", 0).await, Ok(()));
    }

    #[tokio::test]
    async fn the_key_determines_the_algorithm() {
        let server = server(&[]);
        let keys = [
            jwk("rsa"),
            jwk("rsa-without-alg").replace(r#""alg":"RS256","#, ""),
            jwk("rsa-without-use").replace(r#""use":"sig","#, ""),
            jwk("rsa-verifies").replace(r#""use":"sig""#, r#""key_ops":["verify"]"#),
            format!(r#"{{"kty":"EC","kid":"ec","crv":"P-256","use":"sig","alg":"ES256",{POINT}}}"#),
            format!(r#"{{"kty":"EC","kid":"ec-without-alg","crv":"P-256",{POINT}}}"#),
        ];
        server.set(Ok(format!(r#"{{"keys":[{}]}}"#, keys.join(","))));
        let cache = JwksCache::new(&server);
        for (kid, algorithm) in [
            ("rsa", Algorithm::RS256),
            ("rsa-without-alg", Algorithm::RS256),
            ("rsa-without-use", Algorithm::RS256),
            ("rsa-verifies", Algorithm::RS256),
            ("ec", Algorithm::ES256),
            ("ec-without-alg", Algorithm::ES256),
        ] {
            let found = cache.key(kid, at(0)).await.unwrap().algorithm;
            assert_eq!(found, algorithm, "{kid}");
        }
    }

    #[tokio::test]
    async fn keys_of_other_kinds_are_skipped() {
        let server = server(&[]);
        let odd = [
            jwk("enc").replace(r#""use":"sig""#, r#""use":"enc""#),
            jwk("rs512").replace("RS256", "RS512"),
            jwk("ps256").replace("RS256", "PS256"),
            jwk("es256").replace("RS256", "ES256"),
            jwk("wraps").replace(r#""use":"sig""#, r#""key_ops":["wrapKey"]"#),
            format!(r#"{{"kty":"EC","kid":"p384","crv":"P-384",{POINT}}}"#),
            format!(r#"{{"kty":"EC","kid":"ec-rs256","crv":"P-256","alg":"RS256",{POINT}}}"#),
            format!(r#"{{"kty":"EC","kid":"ecdh","crv":"P-256","alg":"ECDH-ES",{POINT}}}"#),
            format!(r#"{{"kty":"EC","kid":"ec-enc","crv":"P-256","use":"enc",{POINT}}}"#),
            r#"{"kty":"OKP","kid":"okp","crv":"Ed25519","x":"AQAB"}"#.into(),
            r#"{"kty":"oct","kid":"oct","k":"AAAA","alg":"HS256"}"#.into(),
            r#"{"kty":"new","kid":"new"}"#.into(),
            jwk("good"),
        ];
        server.set(Ok(format!(r#"{{"keys":[{}]}}"#, odd.join(","))));
        let cache = JwksCache::new(&server);
        assert_eq!(outcome(&cache, "good", 0).await, Ok(()));
        for kid in [
            "enc", "rs512", "ps256", "es256", "wraps", "p384", "ec-rs256", "ecdh", "ec-enc", "okp",
            "oct", "new",
        ] {
            assert_eq!(outcome(&cache, kid, 0).await, Err(UNKNOWN), "{kid}");
        }
    }
}
