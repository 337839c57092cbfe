use crate::ports::{Identity, TokenVerifier, VerifyError};
use crate::time::{UnixMillis, UnixSeconds};

/// Takes `good:<user>` for that user's token with an hour to go, `keys down`
/// for one that cannot be checked, and refuses everything else.
#[derive(Debug, Default)]
pub struct FakeVerifier;

impl TokenVerifier for FakeVerifier {
    async fn verify(&self, token: &str, now: UnixMillis) -> Result<Identity, VerifyError> {
        if token == "keys down" {
            return Err(VerifyError::KeysUnavailable("down".into()));
        }
        let user = token
            .strip_prefix("good:")
            .ok_or(VerifyError::Rejected("not a token"))?;
        Ok(Identity {
            user_id: super::user_id(user),
            expires_at: UnixSeconds(now.to_seconds().0 + 3_600),
        })
    }
}
