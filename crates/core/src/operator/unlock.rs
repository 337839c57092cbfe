use belfry_protocol::{ChannelLocks, ChannelName, ReleaseLock, ReleaseReport};

use crate::locks::{held, revoke};
use crate::ports::{Clock, LockKey, Locks, StoreError};
use crate::time::UnixMillis;

/// Lists the locks of channels, and releases them for operators.
#[derive(Debug)]
pub struct Unlock<S, C> {
    pub store: S,
    pub clock: C,
}

impl<S: Locks, C: Clock> Unlock<S, C> {
    /// The locks of a channel that are held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn locks(&self, channel: ChannelName) -> Result<ChannelLocks, StoreError> {
        let locks = held(&self.store, &channel, self.clock.now()).await?;
        Ok(ChannelLocks { channel, locks })
    }

    /// Releases a lock, whoever holds it. A repeated call returns the same.
    ///
    /// # Errors
    /// [`StoreError`]. The lock may be released.
    pub async fn handle(&self, request: ReleaseLock) -> Result<ReleaseReport, StoreError> {
        let ReleaseLock { channel, name } = request;
        let key = LockKey { channel, name };
        let until = revoke(&self.store, &key, self.clock.now()).await?;
        Ok(ReleaseReport {
            released: until.is_some(),
            until: until.map(UnixMillis::to_timestamp),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connection;
    use crate::locks::{Grant, LockKeeper, LockOutcome, TAKEOVER};
    use crate::testing::{FakeStore, TestClock};
    use belfry_protocol::LockName;
    use std::time::Duration;

    const SECONDS: Duration = Duration::from_secs(30);

    fn key() -> LockKey {
        LockKey {
            channel: ChannelName::parse("room:7").unwrap(),
            name: LockName::parse("title").unwrap(),
        }
    }

    fn request() -> ReleaseLock {
        let LockKey { channel, name } = key();
        ReleaseLock { channel, name }
    }

    async fn stack() -> (Unlock<FakeStore, TestClock>, Connection, Connection) {
        let unlock = Unlock {
            store: FakeStore::default(),
            clock: TestClock::default(),
        };
        for (id, user) in [("c1", "alice"), ("c2", "bob")] {
            unlock.store.put(id, user).await;
        }
        let row = |id| unlock.store.row(id).unwrap();
        let (alice, bob) = (row("c1"), row("c2"));
        (unlock, alice, bob)
    }

    async fn lock(unlock: &Unlock<FakeStore, TestClock>, row: &Connection) -> LockOutcome {
        let (store, clock) = (&unlock.store, &unlock.clock);
        let keeper = LockKeeper { store, clock };
        keeper.lock(row, &key(), SECONDS).await.unwrap()
    }

    fn granted(outcome: LockOutcome) -> Grant {
        match outcome {
            LockOutcome::Locked(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_cannot_renew_and_the_next_one_waits_for_its_end() {
        let (unlock, alice, bob) = stack().await;
        let first = granted(lock(&unlock, &alice).await).state;
        unlock.clock.advance(Duration::from_secs(10));
        for _ in 0..2 {
            let report = unlock.handle(request()).await.unwrap();
            let expected = ReleaseReport {
                released: true,
                until: Some(first.until.to_timestamp()),
            };
            assert_eq!(report, expected, "again and again");
        }
        for row in [&alice, &bob] {
            let refused = lock(&unlock, row).await;
            assert!(matches!(refused, LockOutcome::Held(_)), "{refused:?}");
        }
        unlock.clock.advance(Duration::from_secs(20) + TAKEOVER);
        let next = granted(lock(&unlock, &bob).await).state;
        assert!(next.fencing > first.fencing + 1 && !next.is_revoked);
        assert_eq!(next.user_id.as_str(), "bob");
        granted(lock(&unlock, &bob).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_gives_up_frees_the_lock_at_once() {
        let (unlock, alice, bob) = stack().await;
        granted(lock(&unlock, &alice).await);
        unlock.handle(request()).await.unwrap();
        let (store, clock) = (&unlock.store, &unlock.clock);
        let keeper = LockKeeper { store, clock };
        let free = keeper.unlock(&alice, &key()).await.unwrap();
        assert!(free.is_some());
        granted(lock(&unlock, &bob).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_is_under_way_fails() {
        let (unlock, alice, _) = stack().await;
        let held = granted(lock(&unlock, &alice).await).state;
        unlock.handle(request()).await.unwrap();
        let renewed = crate::ports::LockState {
            until: held.until.plus(SECONDS),
            ..held.clone()
        };
        let swapped = unlock.store.swap_lock(&key(), Some(&held), &renewed).await;
        assert!(matches!(swapped, Ok(crate::ports::Swapped::No(Some(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lock_is_not_released() {
        let (unlock, alice, _) = stack().await;
        let nobody = ReleaseReport {
            released: false,
            until: None,
        };
        assert_eq!(unlock.handle(request()).await, Ok(nobody));
        granted(lock(&unlock, &alice).await);
        let listed = unlock.locks(key().channel).await.unwrap();
        assert_eq!(listed.locks.held.len(), 1);
        unlock.clock.advance(SECONDS);
        assert_eq!(unlock.handle(request()).await, Ok(nobody));
        let listed = unlock.locks(key().channel).await.unwrap();
        assert!(listed.locks.held.is_empty());
    }
}
