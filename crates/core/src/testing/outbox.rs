use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use belfry_protocol::{ConnectionId, Socket};

use super::{START, connection_id};
use crate::ports::{Outbox, PostError, Sockets};

/// Sockets in memory. A post to a socket that is not open is gone. Tests can
/// prepare the answers of each. A prepared [`PostError::TimedOut`] takes the
/// post's whole timeout, like a real one.
#[derive(Default)]
pub struct FakeOutbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashSet<String>,
    not_closing: HashSet<String>,
    hangs: bool,
    is_down: bool,
    takes: Duration,
    prepared: HashMap<String, VecDeque<Result<(), PostError>>>,
    attempts: HashMap<String, usize>,
    posted: HashMap<String, Vec<String>>,
}

impl FakeOutbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the outbox")
    }

    pub fn open(&self, id: &str) {
        self.state().open.insert(id.into());
    }

    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        self.state().open.contains(id)
    }

    /// Prepares the answers to the next posts to a connection.
    pub fn answer(&self, id: &str, answers: impl IntoIterator<Item = Result<(), PostError>>) {
        self.state()
            .prepared
            .insert(id.into(), answers.into_iter().collect());
    }

    /// Makes every later post hang.
    pub fn hang(&self) {
        self.state().hangs = true;
    }

    /// Makes every later post fail, until [`Self::recover`].
    pub fn go_down(&self) {
        self.state().is_down = true;
    }

    pub fn recover(&self) {
        self.state().is_down = false;
    }

    /// Makes every later post take this long.
    pub fn slow_down(&self, takes: Duration) {
        self.state().takes = takes;
    }

    /// Makes closing a connection fail.
    pub fn refuse_closing(&self, id: &str) {
        self.state().not_closing.insert(id.into());
    }

    /// Ends [`Self::refuse_closing`].
    pub fn allow_closing(&self, id: &str) {
        self.state().not_closing.remove(id);
    }

    /// The frames that a connection received, in order.
    #[must_use]
    pub fn posted(&self, id: &str) -> Vec<String> {
        self.state().posted.get(id).cloned().unwrap_or_default()
    }

    /// The number of posts to the connection, failed ones included.
    #[must_use]
    pub fn attempts(&self, id: &str) -> usize {
        self.state().attempts.get(id).copied().unwrap_or_default()
    }
}

impl Outbox for FakeOutbox {
    async fn post(
        &self,
        id: &ConnectionId,
        frame: &str,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let (hangs, takes) = {
            let state = self.state();
            (state.hangs, state.takes)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let answer = {
            let mut state = self.state();
            *state.attempts.entry(id.to_string()).or_default() += 1;
            let prepared = state
                .prepared
                .get_mut(id.as_str())
                .and_then(VecDeque::pop_front);
            let answer = match prepared {
                _ if state.is_down => Err(PostError::Unavailable("down".into())),
                Some(answer) => answer,
                None if state.open.contains(id.as_str()) => Ok(()),
                None => Err(PostError::Gone),
            };
            if answer.is_ok() {
                state
                    .posted
                    .entry(id.to_string())
                    .or_default()
                    .push(frame.into());
            }
            answer
        };
        if answer == Err(PostError::TimedOut) {
            tokio::time::sleep(timeout).await;
        }
        answer
    }

    async fn close(&self, id: &ConnectionId) -> Result<(), PostError> {
        let mut state = self.state();
        if state.not_closing.contains(id.as_str()) {
            return Err(PostError::Throttled);
        }
        state.open.remove(id.as_str());
        Ok(())
    }
}

impl Sockets for FakeOutbox {
    async fn find_socket(&self, id: &ConnectionId) -> Result<Option<Socket>, PostError> {
        if self.state().is_down {
            return Err(PostError::Unavailable("down".into()));
        }
        let socket = Socket {
            connected_at: START.to_timestamp(),
            last_active_at: START.to_timestamp(),
        };
        Ok(self.is_open(id.as_str()).then_some(socket))
    }
}

/// Holds an outbox to the promises of [`Outbox`] and [`Sockets`]. `open` is the id of an open
/// connection, `gone` of none. The frames `one` and `two` are posted to
/// `open`, which is closed at the end.
///
/// # Panics
/// If a promise is broken.
pub async fn outbox_contract<O: Outbox + Sockets>(outbox: &O, open: &str, gone: &str) {
    let (open, gone) = (connection_id(open), connection_id(gone));
    let timeout = Duration::from_secs(10);
    let socket = outbox.find_socket(&open).await.expect("find_socket");
    let socket = socket.expect("an open connection");
    assert!(socket.connected_at <= socket.last_active_at);
    assert_eq!(outbox.find_socket(&gone).await, Ok(None));
    assert_eq!(outbox.post(&open, "one", timeout).await, Ok(()));
    assert_eq!(outbox.post(&open, "two", timeout).await, Ok(()));
    assert_eq!(outbox.post(&gone, "x", timeout).await, Err(PostError::Gone));
    assert_eq!(
        outbox.close(&gone).await,
        Ok(()),
        "closing an unknown connection"
    );
    for _ in 0..2 {
        assert_eq!(outbox.close(&open).await, Ok(()));
        assert_eq!(outbox.post(&open, "x", timeout).await, Err(PostError::Gone));
        assert_eq!(outbox.find_socket(&open).await, Ok(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let outbox = FakeOutbox::default();
        outbox.open("open");
        super::super::outbox_contract(&outbox, "open", "gone").await;
        assert_eq!(outbox.posted("open"), ["one", "two"]);
    }
}
