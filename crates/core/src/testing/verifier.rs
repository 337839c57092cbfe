use crate::ports::{Identity, TokenVerifier, VerifyError};
use crate::time::{UnixMillis, UnixSeconds};

/// Takes `good:<user>` for that user's token with an hour to go, `late:<user>`
/// for one that ended a second ago, within a handshake's leeway, `keys down`
/// for one that cannot be checked, and refuses everything else.
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
        Ok(Identity {
            user_id: super::user_id(user),
            issued_at: UnixSeconds(now),
            expires_at: UnixSeconds(expires_at),
        })
    }
}
