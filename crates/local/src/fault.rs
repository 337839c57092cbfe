//! Fault injection: AWS's bad days on demand. A [`FaultSpec`] is a fault as it
//! is written, a [`Fault`] is its meaning, and [`Faults`] holds the active ones.

mod api;
mod spec;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use api::router;
pub(crate) use spec::FaultSpec;
use spec::{CONFLICTING, InvalidFault};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Disconnect(DisconnectFault),
    Post(PostFault),
    /// The client neither reads nor sends, and its connection stays open.
    FreezePeer,
    Database(DatabaseFault),
    /// A write transaction holds its items this long before it is executed.
    Contention(Duration),
    Function(FunctionFault),
}

/// Replaces the one immediate `$disconnect` of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisconnectFault {
    Drop,
    Delay(Duration),
    Duplicate,
}

/// The response to a post to a connection. The message is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostFault {
    Gone,
    Throttled,
    ServerError,
    /// No response; the caller times out.
    Silence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseFault {
    Throttle,
    /// The write conflicts with an ongoing transaction.
    Conflict,
    /// The call is not executed, and there is no response.
    Timeout,
    /// The call is executed, but there is no response.
    LoseResponse,
    Slow(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionFault {
    /// The environment is killed this long after it got an event.
    Kill { after: Duration },
    /// The environment is killed after its work, before the response counts.
    LoseResponse,
}

/// The subjects that a fault strikes: connections, functions or operations.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    /// This subject only; `None` means all.
    subject: Option<String>,
    /// A share of the connections, each struck always or never; or an evenly
    /// spread share of the calls and events.
    share: f64,
    /// Strikes before the fault is spent.
    times: Option<u64>,
}

#[derive(Debug)]
struct ActiveFault {
    id: String,
    spec: FaultSpec,
    fault: Fault,
    target: Target,
    /// Opportunities to strike, and strikes.
    seen: AtomicU64,
    struck: AtomicU64,
}

/// The active faults. Every component that a fault can strike has a clone.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<ActiveFaults>);

#[derive(Default)]
struct ActiveFaults {
    /// The stack's functions.
    functions: Vec<String>,
    active: RwLock<Vec<Arc<ActiveFault>>>,
    /// Checked first: without faults, no caller waits for the lock.
    count: AtomicUsize,
    next_id: AtomicU64,
    changed: watch::Sender<()>,
}

impl Faults {
    /// No fault is active. Faults may name these functions.
    pub(crate) fn new(functions: Vec<String>) -> Self {
        Self(Arc::new(ActiveFaults {
            functions,
            ..ActiveFaults::default()
        }))
    }

    /// Activates a fault, and returns its JSON.
    pub(crate) fn add(&self, spec: FaultSpec) -> Result<Value, InvalidFault> {
        let (fault, target) = spec.resolve()?;
        spec.check_function(&self.0.functions)?;
        let id = format!("f{}", self.0.next_id.fetch_add(1, Ordering::Relaxed) + 1);
        tracing::warn!(fault = id, "FAULT active: {spec}");
        let active = Arc::new(ActiveFault {
            id,
            spec,
            fault,
            target,
            seen: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        });
        let json = active.to_json();
        self.change(|list| list.push(active));
        Ok(json)
    }

    /// Ends a fault. Returns `false` if there is no such fault.
    fn remove(&self, id: &str) -> bool {
        let mut found = false;
        self.change(|list| {
            list.retain(|active| {
                let ends = active.id == id;
                found |= ends;
                if ends {
                    active.log_end();
                }
                !ends
            });
        });
        found
    }

    pub(crate) fn clear(&self) {
        self.change(|list| list.drain(..).for_each(|active| active.log_end()));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<ActiveFault>>)) {
        let mut list = self
            .0
            .active
            .write()
            .expect("no code panics while holding the lock");
        change(&mut list);
        self.0.count.store(list.len(), Ordering::Release);
        drop(list);
        self.0.changed.send_replace(());
    }

    /// The active faults, and how often each has struck.
    pub(crate) fn to_json(&self) -> Value {
        let active = self.list();
        active.iter().map(|fault| fault.to_json()).collect()
    }

    fn list(&self) -> Vec<Arc<ActiveFault>> {
        self.0
            .active
            .read()
            .expect("no code panics while holding the lock")
            .clone()
    }

    /// The first active fault of the wanted kind that strikes this subject.
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

    /// `operation` is DynamoDB's, like `PutItem`.
    pub(crate) fn on_call(&self, operation: &str) -> Option<DatabaseFault> {
        let wanted = |fault| match fault {
            Fault::Database(DatabaseFault::Conflict) if !CONFLICTING.contains(&operation) => None,
            Fault::Database(fault) => Some(fault),
            _ => None,
        };
        self.strike(operation, wanted)
    }

    /// How long a write transaction holds its items.
    pub(crate) fn on_transaction(&self) -> Option<Duration> {
        let wanted = |fault| match fault {
            Fault::Contention(delay) => Some(delay),
            _ => None,
        };
        self.strike("TransactWriteItems", wanted)
    }

    /// Whether transactions may conflict. Does not count as a strike.
    pub(crate) fn contends(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
            && self
                .list()
                .iter()
                .any(|active| matches!(active.fault, Fault::Contention(_)))
    }

    pub(crate) async fn contention_ended(&self) {
        self.wait_until(|| !self.contends()).await;
    }

    pub(crate) fn on_event(&self, function: &str) -> Option<FunctionFault> {
        let wanted = |fault| match fault {
            Fault::Function(fault) => Some(fault),
            _ => None,
        };
        self.strike(function, wanted)
    }

    /// Does not count as a strike: this is checked repeatedly.
    pub(crate) fn freezes(&self, connection: &str) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
            && self.list().iter().any(|active| {
                active.fault == Fault::FreezePeer
                    && active.targets(connection)
                    && active.includes_connection(connection)
            })
    }

    /// Waits until a fault freezes this connection's client.
    pub(crate) async fn frozen(&self, connection: &str) {
        self.wait_until(|| self.freezes(connection)).await;
        let wanted = |fault| (fault == Fault::FreezePeer).then_some(());
        self.strike(connection, wanted);
    }

    /// Waits until no fault freezes this connection's client any more.
    pub(crate) async fn thawed(&self, connection: &str) {
        self.wait_until(|| !self.freezes(connection)).await;
    }

    async fn wait_until(&self, holds: impl Fn() -> bool) {
        let mut changed = self.0.changed.subscribe();
        // This fails only without a sender, and `self` holds the sender.
        let _ = changed.wait_for(|()| holds()).await;
    }
}

impl ActiveFault {
    fn targets(&self, subject: &str) -> bool {
        let only = self.target.subject.as_deref();
        only.is_none_or(|only| only == subject)
    }

    /// Always the same for one connection.
    fn includes_connection(&self, connection: &str) -> bool {
        unit_hash(connection) < self.target.share
    }

    fn strikes(&self, subject: &str) -> bool {
        if !self.targets(subject) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let is_included = match self.fault {
            Fault::Disconnect(_) | Fault::Post(_) | Fault::FreezePeer => {
                self.includes_connection(subject)
            }
            Fault::Database(_) | Fault::Contention(_) | Fault::Function(_) => {
                is_due(seen, self.target.share)
            }
        };
        if !is_included {
            return false;
        }
        let struck = self
            .struck
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |struck| {
                self.target
                    .times
                    .is_none_or(|times| struck < times)
                    .then_some(struck + 1)
            });
        if let Ok(before) = struck {
            tracing::debug!(fault = self.id, subject, "a fault strikes");
            if Some(before + 1) == self.target.times {
                tracing::warn!(fault = self.id, "fault spent: {}", self.spec);
            }
        }
        struck.is_ok()
    }

    fn to_json(&self) -> Value {
        let mut json = json!(self.spec);
        json["id"] = self.id.as_str().into();
        json["struck"] = self.struck.load(Ordering::Relaxed).into();
        json
    }

    fn log_end(&self) {
        let struck = self.struck.load(Ordering::Relaxed);
        tracing::warn!(fault = self.id, struck, "fault ended: {}", self.spec);
    }
}

/// A connection's hash, at least 0 and below 1.
fn unit_hash(connection: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    connection.hash(&mut hasher);
    let upper = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

/// Whether the nth call belongs to an evenly spread share. A share of one half
/// is every second call.
fn is_due(nth: u64, share: f64) -> bool {
    // Exact up to 2^53 calls.
    let due = |calls: u64| (calls as f64 * share).floor();
    due(nth + 1) > due(nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Faults {
        let faults = Faults::new(vec!["Connect".into()]);
        faults.add(text.parse().unwrap()).unwrap();
        faults
    }

    #[test]
    fn a_share_of_connections_is_always_the_same_connections() {
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
    fn a_fault_strikes_only_its_target_and_only_so_many_times() {
        let faults = faults("function-lose-answer,function=Connect,times=2");
        assert_eq!(faults.on_event("Default"), None);
        for _ in 0..2 {
            assert_eq!(
                faults.on_event("Connect"),
                Some(FunctionFault::LoseResponse)
            );
        }
        assert_eq!(faults.on_event("Connect"), None);
    }

    #[test]
    fn a_function_that_the_stack_does_not_have_is_refused() {
        let faults = Faults::new(vec!["Connect".into(), "Worker".into()]);
        let refused = faults.add("function-kill,function=Conect".parse().unwrap());
        assert_eq!(
            refused.unwrap_err().to_string(),
            "function \"Conect\" is not one that this fault strikes; did you mean Connect?"
        );
        assert!(faults.list().is_empty());
    }

    #[test]
    fn reads_do_not_conflict() {
        let faults = faults("dynamodb-conflict");
        assert_eq!(faults.on_call("Query"), None);
        assert_eq!(faults.on_call("PutItem"), Some(DatabaseFault::Conflict));
    }

    #[tokio::test]
    async fn only_write_transactions_hold_their_items() {
        let faults = faults("dynamodb-contention,delay=20ms,times=1");
        assert_eq!(faults.on_call("TransactWriteItems"), None);
        let delay = Some(Duration::from_millis(20));
        assert_eq!(faults.on_transaction(), delay);
        assert_eq!(faults.on_transaction(), None);
        assert!(faults.contends());
        assert!(faults.remove("f1"));
        faults.contention_ended().await;
    }

    #[tokio::test]
    async fn a_peer_is_frozen_and_thawed() {
        let faults = Faults::default();
        let id = "R0oXAdfD0kwCH6w=";
        let frozen = faults.frozen(id);
        tokio::pin!(frozen);
        assert!(futures_util::poll!(&mut frozen).is_pending());
        faults
            .add(format!("peer-freeze,connection={id}").parse().unwrap())
            .unwrap();
        frozen.await;
        let thawed = faults.thawed(id);
        tokio::pin!(thawed);
        assert!(futures_util::poll!(&mut thawed).is_pending());
        assert!(faults.remove("f1"));
        thawed.await;
        assert!(!faults.remove("f1"));
    }
}
