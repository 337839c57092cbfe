use std::time::Duration;

use crate::channels::Claims;
use crate::ports::{Identity, TokenVerifier, VerifyError};
use crate::time::{UnixMillis, UnixSeconds};

/// Accepts `good:<user>` as that user's token with an hour to go, and
/// `late:<user>` as one that expired a second ago, within a handshake's
/// leeway. `good:<user>:<tenant>` has a claim `tenant` as well. `keys down`
/// cannot be checked. Everything else is refused.
#[derive(Debug, Default)]
pub struct FakeVerifier;

impl TokenVerifier for FakeVerifier {
    async fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, VerifyError> {
        if token == "keys down" {
            return Err(VerifyError::KeysUnavailable("down".into()));
        }
        let now = now.to_seconds().0;
        let (user, expires_at) = match token.split_once(':') {
            Some(("good", user)) => (user, now + 3_600),
            Some(("late", user)) => (user, now - 1),
            _ => return Err(VerifyError::Rejected("not a token")),
        };
        let (user, tenant) = match user.split_once(':') {
            Some((user, tenant)) => (user, Some(tenant)),
            None => (user, None),
        };
        Ok(Identity {
            user_id: super::user_id(user),
            issued_at: UnixSeconds(now),
            expires_at: UnixSeconds(expires_at),
            claims: tenant.map_or_else(Claims::default, super::tenant),
        })
    }
}

/// Tokens for [`verifier_contract`], all of them as of its `now`.
#[derive(Debug)]
pub struct TestTokens {
    /// Alice's, issued now, for an hour.
    pub valid: String,
    /// Alice's, expired a second ago: within a handshake's leeway.
    pub late: String,
    pub invalid: Vec<String>,
}

/// Holds a verifier to the promises of [`TokenVerifier`].
///
/// # Panics
/// If a promise is broken.
pub async fn verifier_contract(
    verifier: &impl TokenVerifier,
    tokens: &TestTokens,
    now: UnixMillis,
) {
    let seconds = now.to_seconds();
    let identity = verifier.verify(&tokens.valid, now).await;
    let expected = Identity {
        user_id: super::user_id("alice"),
        issued_at: seconds,
        expires_at: now.plus(Duration::from_secs(3_600)).to_seconds(),
        claims: Claims::default(),
    };
    assert_eq!(identity, Ok(expected));
    let late = verifier.verify(&tokens.late, now).await.expect("leeway");
    assert!(late.expires_at.has_passed(now), "the real end is returned");
    for token in &tokens.invalid {
        let refused = verifier.verify(token, now).await.unwrap_err();
        assert!(matches!(refused, VerifyError::Rejected(_)), "{refused}");
        let told = refused.to_string();
        assert!(token.is_empty() || !told.contains(token.as_str()), "{told}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::START;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let tokens = TestTokens {
            valid: "good:alice".into(),
            late: "late:alice".into(),
            invalid: vec![String::new(), "bad:alice".into()],
        };
        verifier_contract(&FakeVerifier, &tokens, START).await;
    }
}
