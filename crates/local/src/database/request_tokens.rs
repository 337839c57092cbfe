//! The tokens of write transactions: a repeated one is executed once.
//!
//! The embedded DynamoDB knows tokens, too, but looks at every one that it
//! remembers whenever a transaction comes: after ten thousand connects, that
//! takes longer than the transaction. So it gets none.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;
use tokio::time::Instant;

/// How long DynamoDB remembers a token.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The longest token. DynamoDB refuses longer ones.
const MAX_TOKEN_LENGTH: usize = 36;

/// A transaction whose token has been taken out.
#[derive(Debug)]
pub(super) struct WithToken {
    token: String,
    /// The request without its token.
    pub(super) body: Bytes,
    hash: u64,
}

/// Another transaction has the same token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch;

#[derive(Default)]
pub(super) struct RequestTokens(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    slots: HashMap<String, Slot>,
    oldest_first: VecDeque<(Instant, String)>,
}

/// The executed transaction of a token. Locked while it is executed.
type Slot = Arc<tokio::sync::Mutex<Option<Executed>>>;

struct Executed {
    hash: u64,
    answer: Bytes,
}

impl WithToken {
    /// `None` if there is no token, or if DynamoDB would refuse it.
    pub(super) fn take(body: &[u8]) -> Option<Self> {
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let token = request.as_object_mut()?.remove("ClientRequestToken")?;
        let token = token.as_str()?;
        if token.is_empty() || token.len() > MAX_TOKEN_LENGTH {
            return None;
        }
        let body = request.to_string();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Some(Self {
            token: token.to_owned(),
            body: body.into(),
            hash: hasher.finish(),
        })
    }
}

impl RequestTokens {
    /// Executes a transaction, or gives the answer of the first one with its
    /// token. `execute` returns an error if the transaction was not executed:
    /// then the next one with this token is.
    ///
    /// One with the same token waits meanwhile, so they are never both executed.
    pub(super) async fn once<E: From<Mismatch>>(
        &self,
        request: &WithToken,
        execute: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        let slot = self.slot(&request.token);
        let mut executed = slot.lock().await;
        if let Some(Executed { hash, answer }) = &*executed {
            return match *hash == request.hash {
                true => Ok(answer.clone()),
                false => Err(Mismatch.into()),
            };
        }
        let answer = execute.await?;
        *executed = Some(Executed {
            hash: request.hash,
            answer: answer.clone(),
        });
        Ok(answer)
    }

    fn slot(&self, token: &str) -> Slot {
        let now = Instant::now();
        let mut tokens = self.lock();
        while let Some((since, _)) = tokens.oldest_first.front()
            && now.duration_since(*since) >= REMEMBERED
        {
            if let Some((_, token)) = tokens.oldest_first.pop_front() {
                tokens.slots.remove(&token);
            }
        }
        if let Some(slot) = tokens.slots.get(token) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        tokens.slots.insert(token.to_owned(), Arc::clone(&slot));
        tokens.oldest_first.push_back((now, token.to_owned()));
        slot
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().expect("not poisoned")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Failed {
        Mismatch,
        Cancelled,
    }

    impl From<Mismatch> for Failed {
        fn from(Mismatch: Mismatch) -> Self {
            Self::Mismatch
        }
    }

    fn request(token: &str, items: &str) -> WithToken {
        let body = format!(r#"{{"ClientRequestToken":"{token}","TransactItems":[{items}]}}"#);
        WithToken::take(body.as_bytes()).unwrap()
    }

    /// Executes, counts, and answers with the count.
    async fn execute(count: &AtomicU32) -> Result<Bytes, Failed> {
        tokio::task::yield_now().await;
        let count = count.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(count.to_string().into())
    }

    #[test]
    fn the_token_is_taken_out() {
        let taken = request("t", "1");
        assert_eq!(taken.body, r#"{"TransactItems":[1]}"#);
        let long = "x".repeat(MAX_TOKEN_LENGTH + 1);
        for body in [
            r#"{"TransactItems":[1]}"#.to_owned(),
            r#"{"ClientRequestToken":""}"#.to_owned(),
            format!(r#"{{"ClientRequestToken":"{long}"}}"#),
            r#"{"ClientRequestToken":7}"#.to_owned(),
            "[]".to_owned(),
            "not JSON".to_owned(),
        ] {
            assert!(WithToken::take(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_repeated_transaction_is_executed_once_even_at_the_same_time() {
        let (tokens, count) = (RequestTokens::default(), AtomicU32::new(0));
        let request = request("t", "1");
        let (one, other) = tokio::join!(
            tokens.once(&request, execute(&count)),
            tokens.once(&request, execute(&count))
        );
        assert_eq!((one.unwrap(), other.unwrap()), ("1".into(), "1".into()));
        assert_eq!(count.into_inner(), 1);
    }

    #[tokio::test]
    async fn another_transaction_with_the_same_token_is_refused() {
        let (tokens, count) = (RequestTokens::default(), AtomicU32::new(0));
        tokens
            .once(&request("t", "1"), execute(&count))
            .await
            .unwrap();
        let other = tokens.once(&request("t", "2"), execute(&count)).await;
        assert_eq!(other, Err(Failed::Mismatch));
        let other = tokens.once(&request("u", "2"), execute(&count)).await;
        assert_eq!(other.unwrap(), "2");
    }

    #[tokio::test]
    async fn a_transaction_that_was_not_executed_may_be_repeated_and_changed() {
        let (tokens, count) = (RequestTokens::default(), AtomicU32::new(0));
        let cancelled = async { Err(Failed::Cancelled) };
        let first = tokens.once(&request("t", "1"), cancelled).await;
        assert_eq!(first, Err(Failed::Cancelled));
        let again = tokens.once(&request("t", "2"), execute(&count)).await;
        assert_eq!(again.unwrap(), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_forgotten_after_ten_minutes() {
        let (tokens, count) = (RequestTokens::default(), AtomicU32::new(0));
        tokens
            .once(&request("t", "1"), execute(&count))
            .await
            .unwrap();
        tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
        let again = tokens.once(&request("t", "1"), execute(&count)).await;
        assert_eq!(again.unwrap(), "1");
        tokio::time::advance(Duration::from_millis(1)).await;
        let again = tokens.once(&request("t", "2"), execute(&count)).await;
        assert_eq!(again.unwrap(), "2");
        assert_eq!(tokens.lock().slots.len(), 1);
    }
}
