//! Faults on demand: what AWS does on a bad day, when someone asks for it.
//! [`Description`] is how a fault is written, [`Fault`] is what it means, and
//! [`Faults`] is what is in force.

mod api;
mod description;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use api::router;
pub(crate) use description::Description;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Disconnect(DisconnectFault),
    Post(PostFault),
    /// The peer neither reads nor sends, and its connection stays open.
    FreezePeer,
    Database(DatabaseFault),
    Function(FunctionFault),
}

/// What happens instead of one `$disconnect` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisconnectFault {
    Drop,
    Delay(Duration),
    Duplicate,
}

/// What a post to a connection is answered. The message is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostFault {
    Gone,
    Throttled,
    ServerError,
    /// Nothing, until the caller gives up.
    Silence,
}

/// What happens to a call of DynamoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseFault {
    Throttle,
    /// As a write that another transaction is in the way of.
    Conflict,
    /// Never arrives and is never answered.
    Timeout,
    /// Is carried out and never answered.
    LoseAnswer,
    Slow(Duration),
}

/// What happens to a function's environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionFault {
    /// Killed so long after it got an event.
    Kill { after: Duration },
    /// Killed when it has done its work and answers.
    LoseAnswer,
}

/// Whom a fault strikes, out of all that it could.
#[derive(Debug, Clone, PartialEq)]
struct Aim {
    /// The connection id, the function or the operation; everything without.
    only: Option<String>,
    /// Of connections the share that is struck, each always or never; of
    /// calls and events every so many.
    share: f64,
    /// How often it strikes before it is spent.
    times: Option<u64>,
}

/// A fault that is in force.
#[derive(Debug)]
struct Active {
    id: String,
    description: Description,
    fault: Fault,
    aim: Aim,
    /// How many it could have struck, and how many it has struck.
    seen: AtomicU64,
    struck: AtomicU64,
}

/// The faults in force, for everyone who may be struck by one.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    active: RwLock<Vec<Arc<Active>>>,
    /// Asked first, so that without faults nobody waits for the list.
    count: AtomicUsize,
    next_id: AtomicU64,
    changed: watch::Sender<()>,
}

impl Faults {
    /// Puts a fault into force.
    pub(crate) fn add(&self, description: Description) -> Result<Value, description::Wrong> {
        let (fault, aim) = description.meaning()?;
        let id = format!("f{}", self.0.next_id.fetch_add(1, Ordering::Relaxed) + 1);
        tracing::warn!(fault = id, "FAULT in force: {description}");
        let active = Arc::new(Active {
            id,
            description,
            fault,
            aim,
            seen: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        });
        let told = active.told();
        self.change(|list| list.push(active));
        Ok(told)
    }

    /// Ends a fault, and says whether it was in force.
    fn remove(&self, id: &str) -> bool {
        let mut found = false;
        self.change(|list| {
            list.retain(|active| {
                let ends = active.id == id;
                found |= ends;
                if ends {
                    active.ended();
                }
                !ends
            });
        });
        found
    }

    /// Ends every fault.
    pub(crate) fn clear(&self) {
        self.change(|list| list.drain(..).for_each(|active| active.ended()));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Active>>)) {
        let mut list = self
            .0
            .active
            .write()
            .expect("no one panics while holding the list");
        change(&mut list);
        self.0.count.store(list.len(), Ordering::Release);
        drop(list);
        self.0.changed.send_replace(());
    }

    fn list(&self) -> Vec<Arc<Active>> {
        self.0
            .active
            .read()
            .expect("no one panics while holding the list")
            .clone()
    }

    /// The first fault in force of the wanted kind that strikes here.
    fn strike<T>(&self, subject: &str, wanted: impl Fn(Fault) -> Option<T>) -> Option<T> {
        if self.0.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.list().iter().find_map(|active| {
            let fault = wanted(active.fault)?;
            active.strikes(subject).then_some(fault)
        })
    }

    pub(crate) fn on_disconnect(&self, connection: &str) -> Option<DisconnectFault> {
        let wanted = |fault| match fault {
            Fault::Disconnect(fault) => Some(fault),
            _ => None,
        };
        self.strike(connection, wanted)
    }

    pub(crate) fn on_post(&self, connection: &str) -> Option<PostFault> {
        let wanted = |fault| match fault {
            Fault::Post(fault) => Some(fault),
            _ => None,
        };
        self.strike(connection, wanted)
    }

    /// What happens to a call of this operation of DynamoDB.
    pub(crate) fn on_call(&self, operation: &str) -> Option<DatabaseFault> {
        let wanted = |fault| match fault {
            Fault::Database(DatabaseFault::Conflict) if !can_conflict(operation) => None,
            Fault::Database(fault) => Some(fault),
            _ => None,
        };
        self.strike(operation, wanted)
    }

    pub(crate) fn on_event(&self, function: &str) -> Option<FunctionFault> {
        let wanted = |fault| match fault {
            Fault::Function(fault) => Some(fault),
            _ => None,
        };
        self.strike(function, wanted)
    }

    /// Looked at again and again, so it does not count as a strike.
    fn freezes(&self, connection: &str) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
            && self.list().iter().any(|active| {
                active.fault == Fault::FreezePeer
                    && active.aims_at(connection)
                    && active.has_in_its_share(connection)
            })
    }

    /// Waits until this connection's peer is to be frozen.
    pub(crate) async fn frozen(&self, connection: &str) {
        self.wait(|| self.freezes(connection)).await;
        let wanted = |fault| (fault == Fault::FreezePeer).then_some(());
        self.strike(connection, wanted);
    }

    /// Waits until this connection's peer is to be frozen no longer.
    pub(crate) async fn thawed(&self, connection: &str) {
        self.wait(|| !self.freezes(connection)).await;
    }

    async fn wait(&self, is_so: impl Fn() -> bool) {
        let mut changed = self.0.changed.subscribe();
        // Fails only without a sender, and this is the sender.
        let _ = changed.wait_for(|()| is_so()).await;
    }
}

/// The writes that DynamoDB may refuse for a transaction's sake.
fn can_conflict(operation: &str) -> bool {
    [
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "TransactWriteItems",
        "TransactGetItems",
    ]
    .contains(&operation)
}

impl Active {
    fn aims_at(&self, subject: &str) -> bool {
        self.aim.only.as_deref().is_none_or(|only| only == subject)
    }

    /// Of connections, each is struck always or never.
    fn has_in_its_share(&self, connection: &str) -> bool {
        place_of(connection) < self.aim.share
    }

    fn strikes(&self, subject: &str) -> bool {
        if !self.aims_at(subject) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let is_meant = match self.fault {
            Fault::Disconnect(_) | Fault::Post(_) | Fault::FreezePeer => {
                self.has_in_its_share(subject)
            }
            // Of calls and events, every so many.
            Fault::Database(_) | Fault::Function(_) => is_due(seen, self.aim.share),
        };
        if !is_meant {
            return false;
        }
        let struck = self
            .struck
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |struck| {
                self.aim
                    .times
                    .is_none_or(|times| struck < times)
                    .then_some(struck + 1)
            });
        if let Ok(before) = struck {
            tracing::debug!(fault = self.id, on = subject, "a fault strikes");
            if Some(before + 1) == self.aim.times {
                tracing::warn!(fault = self.id, "fault spent: {}", self.description);
            }
        }
        struck.is_ok()
    }

    fn told(&self) -> Value {
        let mut told = json!(self.description);
        told["id"] = self.id.as_str().into();
        told["struck"] = self.struck.load(Ordering::Relaxed).into();
        told
    }

    fn ended(&self) {
        let struck = self.struck.load(Ordering::Relaxed);
        tracing::warn!(fault = self.id, struck, "fault ended: {}", self.description);
    }
}

/// Where a connection stands between 0 and 1: the same place every time.
fn place_of(connection: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    let upper = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

/// Whether the nth call is one of a share that is spread evenly: of a half,
/// every other one.
fn is_due(nth: u64, share: f64) -> bool {
    // Exact for as many calls as a stack will ever see.
    let due = |calls: u64| (calls as f64 * share).floor();
    due(nth + 1) > due(nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Faults {
        let faults = Faults::default();
        faults.add(text.parse().unwrap()).unwrap();
        faults
    }

    #[test]
    fn a_share_of_connections_is_always_the_same_ones() {
        let faults = faults("post-410,share=0.25");
        let ids: Vec<_> = (0..2_000).map(|n| format!("connection-{n}")).collect();
        let strikes = || -> Vec<_> { ids.iter().map(|id| faults.on_post(id).is_some()).collect() };
        let first = strikes();
        assert_eq!(first, strikes());
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((400..600).contains(&struck), "{struck}");
    }

    #[test]
    fn a_share_of_calls_is_spread_evenly() {
        let faults = faults("dynamodb-throttle,share=0.25");
        let struck: Vec<_> = (0..8).map(|_| faults.on_call("Query").is_some()).collect();
        assert_eq!(
            struck,
            [false, false, false, true, false, false, false, true]
        );
    }

    #[test]
    fn it_strikes_only_whom_it_is_aimed_at_and_only_so_often() {
        let faults = faults("function-lose-answer,function=Connect,times=2");
        assert_eq!(faults.on_event("Default"), None);
        for _ in 0..2 {
            assert_eq!(faults.on_event("Connect"), Some(FunctionFault::LoseAnswer));
        }
        assert_eq!(faults.on_event("Connect"), None);
    }

    #[test]
    fn reads_do_not_conflict() {
        let faults = faults("dynamodb-conflict");
        assert_eq!(faults.on_call("Query"), None);
        assert_eq!(faults.on_call("PutItem"), Some(DatabaseFault::Conflict));
    }

    #[tokio::test]
    async fn a_peer_is_frozen_and_thawed() {
        let faults = Faults::default();
        let frozen = faults.frozen("c");
        tokio::pin!(frozen);
        assert!(futures_util::poll!(&mut frozen).is_pending());
        faults
            .add("peer-freeze,connection=c".parse().unwrap())
            .unwrap();
        frozen.await;
        let thawed = faults.thawed("c");
        tokio::pin!(thawed);
        assert!(futures_util::poll!(&mut thawed).is_pending());
        assert!(faults.remove("f1"));
        thawed.await;
        assert!(!faults.remove("f1"));
    }
}
