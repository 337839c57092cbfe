use std::time::Duration;

use belfry_protocol::{
    Action, ConnectionId, Envelope, ErrorCode, Holder, Lock, LockChanged, Locked, MAX_LOCKS,
    Refused, ServerFrame, Unlock, Version,
};

use super::permission::{Judge, forbidden};
use super::rejection::Rejection;
use crate::broadcast::Fanout;
use crate::connections::Connection;
use crate::locks::{Grant, GrantKind, LockKeeper, LockOutcome};
use crate::ports::{
    Authorizer, Clock, FreeLock, ListedLock, Listing, LockKey, LockState, Locks, MetricEvent,
    Metrics, NewBroadcasts, NotServed, Outbox, Randomness, Removals, SegmentOffers, Subscribers,
    Subscriptions, Workers,
};
use crate::time::UnixMillis;

/// `lock` and `unlock`, and what the other subscribers learn of them.
pub(super) struct LockHandler<'a, A, S, O, C, M, W, R> {
    pub(super) judge: Judge<'a, A, M>,
    pub(super) fanout: Fanout<'a, S, O, C, M, W, R>,
}

impl<A, S, O, C, M, W, R> LockHandler<'_, A, S, O, C, M, W, R>
where
    A: Authorizer,
    S: Locks + NewBroadcasts + Removals + SegmentOffers + Subscribers + Subscriptions,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    pub(super) async fn lock(
        &self,
        connection: &Connection,
        frame: Lock,
    ) -> Result<Locked, Rejection> {
        let key = LockKey {
            channel: frame.channel,
            name: frame.name,
        };
        self.judge(connection, &key).await?;
        let lifetime = Duration::from_secs(u64::from(frame.seconds.0));
        match self.keeper().lock(connection, &key, lifetime).await? {
            LockOutcome::Locked(Grant { state, kind }) => {
                self.count(kind);
                let changed = held(&key, &state);
                self.announce(&connection.id, &key, changed).await;
                Ok(Locked {
                    until: state.until.to_timestamp(),
                    fencing: state.fencing,
                    channel: key.channel,
                    name: key.name,
                })
            }
            LockOutcome::Held(state) => Err(Refused {
                held: Some((holder(&state), state.until.to_timestamp())),
                ..Refused::new(ErrorCode::Locked, "another connection holds the lock")
            }
            .into()),
            LockOutcome::TooMany => {
                let text = format!("a connection may hold {MAX_LOCKS} locks");
                Err(Refused::new(ErrorCode::TooManyLocks, text).into())
            }
            LockOutcome::Ended => Err(NotServed::Unknown.into()),
        }
    }

    pub(super) async fn unlock(
        &self,
        connection: &Connection,
        frame: Unlock,
    ) -> Result<belfry_protocol::Unlocked, Rejection> {
        let key = LockKey {
            channel: frame.channel,
            name: frame.name,
        };
        let free = self.keeper().unlock(connection, &key).await?;
        self.announce_free(&connection.id, free.as_slice()).await;
        Ok(belfry_protocol::Unlocked {
            channel: key.channel,
            name: key.name,
        })
    }

    /// Releases the locks of a connection in channels that it has left.
    pub(super) async fn leave(
        &self,
        connection: &Connection,
        locks: &[ListedLock],
    ) -> Result<(), Rejection> {
        let free = self.keeper().unlock_all(connection, locks).await?;
        self.announce_free(&connection.id, &free).await;
        Ok(())
    }

    fn count(&self, kind: GrantKind) {
        let is_takeover = match kind {
            GrantKind::Renewal => return,
            GrantKind::New => false,
            GrantKind::Takeover => true,
        };
        let taken = MetricEvent::LockTaken { is_takeover };
        self.fanout.metrics.record(taken);
    }

    fn keeper(&self) -> LockKeeper<'_, S, C> {
        LockKeeper {
            store: self.fanout.store,
            clock: self.fanout.clock,
        }
    }

    /// Who locks must be subscribed: it receives `lock.changed`, and its row has
    /// the mark by which its end is noted. What the application allowed when it
    /// subscribed holds for as long as it said.
    async fn judge(&self, connection: &Connection, key: &LockKey) -> Result<(), Rejection> {
        let now = self.fanout.clock.now();
        let names = std::slice::from_ref(&key.channel);
        let found = self.fanout.store.find_subscriptions(&connection.id, names);
        let found = found.await?;
        let Some(subscription) = found.iter().find(|one| !one.ends_at.has_passed(now)) else {
            let text = "subscribe to the channel first";
            return Err(Refused::new(ErrorCode::Forbidden, text).into());
        };
        let by_application = subscription.allowed;
        if by_application.is_some_and(|allowed| allowed.contains(Action::Lock))
            && self.judge.asks(connection.into(), &key.channel)
        {
            return Ok(());
        }
        let allowed = self
            .judge
            .allows(connection.into(), &key.channel, Action::Lock, now);
        match allowed.await {
            Some(_) => Ok(()),
            None => Err(forbidden().into()),
        }
    }

    async fn announce_free(&self, id: &ConnectionId, free: &[FreeLock]) {
        for lock in free {
            self.announce(id, &lock.key, released(lock)).await;
        }
    }

    /// Tells the other subscribers that may lock. The lock is what it is, told or
    /// not.
    async fn announce(&self, id: &ConnectionId, key: &LockKey, changed: LockChanged) {
        let frame = to_frame(changed, self.fanout.clock.now());
        let (listing, exclude) = (Listing::Allowed(Action::Lock), Some(id.clone()));
        let (fanout, work) = (&self.fanout, self.fanout.new_id());
        let told = fanout
            .run(&key.channel, listing, frame, exclude, &work)
            .await;
        if let Err(error) = told {
            fanout.metrics.record(MetricEvent::AnnouncementFailed);
            tracing::warn!(event = "lock.not-announced", connectionId = %id, reason = %error, "could not tell the subscribers of a channel that a lock has changed");
        }
    }
}

fn holder(state: &LockState) -> Holder {
    Holder {
        user_id: state.user_id.clone(),
    }
}

fn held(key: &LockKey, state: &LockState) -> LockChanged {
    LockChanged {
        channel: key.channel.clone(),
        name: key.name.clone(),
        holder: Some(holder(state)),
        until: Some(state.until.to_timestamp()),
        fencing: state.fencing,
    }
}

/// What subscribers learn of a lock that is free.
pub(crate) fn released(lock: &FreeLock) -> LockChanged {
    LockChanged {
        channel: lock.key.channel.clone(),
        name: lock.key.name.clone(),
        holder: None,
        until: None,
        fencing: lock.fencing,
    }
}

pub(crate) fn to_frame(changed: LockChanged, now: UnixMillis) -> String {
    ServerFrame::LockChanged(Envelope {
        version: Version,
        id: None,
        timestamp: Some(now.to_timestamp()),
        data: changed,
        correlation_id: None,
    })
    .to_json()
}
