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

/// Tokens that are remembered at most: three minutes of 500 transactions a second.
const MAX_REMEMBERED: usize = 100_000;

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

/// Why a transaction is not executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// It was, and had this answer.
    Executed(Bytes),
    /// The one with the same token is still being executed.
    InProgress,
    /// Another transaction has the same token.
    Mismatch,
}

#[derive(Default)]
pub(super) struct RequestTokens(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    transactions: HashMap<String, Transaction>,
    /// Those that were executed.
    oldest_first: VecDeque<(Instant, String)>,
}

struct Transaction {
    hash: u64,
    /// `None` while it is being executed.
    answer: Option<Bytes>,
}

/// The first transaction with a token. Dropping it forgets the token unless it
/// was executed: then the next one with this token is.
pub(super) struct First {
    tokens: Arc<RequestTokens>,
    token: String,
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
    /// Begins a transaction, unless one with its token has begun.
    pub(super) fn begin(self: &Arc<Self>, request: &WithToken) -> Result<First, Repeated> {
        let mut tokens = self.lock();
        tokens.forget();
        if let Some(transaction) = tokens.transactions.get(&request.token) {
            return Err(match &transaction.answer {
                _ if transaction.hash != request.hash => Repeated::Mismatch,
                Some(answer) => Repeated::Executed(answer.clone()),
                None => Repeated::InProgress,
            });
        }
        let transaction = Transaction {
            hash: request.hash,
            answer: None,
        };
        tokens
            .transactions
            .insert(request.token.clone(), transaction);
        Ok(First {
            tokens: Arc::clone(self),
            token: request.token.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().expect("not poisoned")
    }
}

impl Tokens {
    /// Forgets those that are too old, or too many.
    fn forget(&mut self) {
        while let Some((since, token)) = self.oldest_first.front()
            && (since.elapsed() >= REMEMBERED || self.oldest_first.len() > MAX_REMEMBERED)
        {
            self.transactions.remove(token);
            self.oldest_first.pop_front();
        }
    }
}

impl First {
    /// It was executed, and had this answer.
    pub(super) fn executed(self, answer: &[u8]) {
        let mut tokens = self.tokens.lock();
        if let Some(transaction) = tokens.transactions.get_mut(&self.token) {
            // A copy: what was read from the network may be a part of a much larger
            // buffer, which would be kept as long.
            transaction.answer = Some(Bytes::copy_from_slice(answer));
        }
        let token = self.token.clone();
        tokens.oldest_first.push_back((Instant::now(), token));
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let mut tokens = self.tokens.lock();
        let transaction = tokens.transactions.get(&self.token);
        if transaction.is_some_and(|transaction| transaction.answer.is_none()) {
            tokens.transactions.remove(&self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: &str, items: &str) -> WithToken {
        let body = format!(r#"{{"ClientRequestToken":"{token}","TransactItems":[{items}]}}"#);
        WithToken::take(body.as_bytes()).unwrap()
    }

    fn execute(tokens: &Arc<RequestTokens>, request: &WithToken, answer: &'static str) {
        let first = tokens.begin(request).expect("the first");
        first.executed(answer.as_bytes());
    }

    fn refusal(tokens: &Arc<RequestTokens>, request: &WithToken) -> Option<Repeated> {
        tokens.begin(request).err()
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
    async fn a_repeated_transaction_is_in_progress_and_then_has_the_answer_of_the_first() {
        let tokens = Arc::default();
        let named = request("t", "1");
        let first = RequestTokens::begin(&tokens, &named).unwrap();
        assert_eq!(refusal(&tokens, &named), Some(Repeated::InProgress));
        first.executed(b"answer");
        let executed = Some(Repeated::Executed("answer".into()));
        assert_eq!(refusal(&tokens, &named), executed);
    }

    #[tokio::test]
    async fn another_transaction_with_the_same_token_is_refused() {
        let tokens = Arc::default();
        execute(&tokens, &request("t", "1"), "answer");
        assert_eq!(
            refusal(&tokens, &request("t", "2")),
            Some(Repeated::Mismatch)
        );
        assert_eq!(refusal(&tokens, &request("u", "2")), None);
    }

    #[tokio::test]
    async fn a_transaction_that_was_not_executed_may_be_repeated_and_changed() {
        let tokens = Arc::default();
        drop(RequestTokens::begin(&tokens, &request("t", "1")));
        assert_eq!(refusal(&tokens, &request("t", "2")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_forgotten_after_ten_minutes() {
        let tokens = Arc::default();
        execute(&tokens, &request("t", "1"), "answer");
        tokio::time::advance(REMEMBERED - Duration::from_millis(1)).await;
        assert!(refusal(&tokens, &request("t", "1")).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(refusal(&tokens, &request("t", "2")), None);
        assert!(tokens.lock().transactions.is_empty());
    }

    #[tokio::test]
    async fn the_memory_of_tokens_is_bounded() {
        let tokens = Arc::default();
        for n in 0..=MAX_REMEMBERED {
            execute(&tokens, &request(&n.to_string(), "1"), "answer");
        }
        assert_eq!(refusal(&tokens, &request("0", "1")), None);
        assert!(refusal(&tokens, &request("1", "1")).is_some());
        assert_eq!(tokens.lock().transactions.len(), MAX_REMEMBERED);
    }
}
