//! An exhaustive model of the log: every order in which two publishers, a
//! reader and a joiner can act on it, for three messages.
//!
//! The actors run the real [`Appender`] and [`RecoveryReader`]; only the store,
//! the clock and the network are modelled. A step is a call of a port, or a part
//! of one: a query reads item by item, and pages end early. Each publisher
//! appends a message of its own and one that both append, which is remembered.
//! In one of the plans that one is two messages that are appended together.
//! It may die at any call.
//!
//! Lost answers: the SDK times out and repeats a request that moves the head,
//! once per append. The first request arrives at any later time, or never. So
//! the repeated one may find the head moved by the first, a transaction may be
//! recognised as repeated, and the publisher's patience may end at any attempt.
//! One bound: if the repeated request meets a transaction of another
//! publisher's, the first request no longer arrives after that.
//!
//! Time: at a tick, entries with a short retention expire, and a month later
//! everything has. An expired item is deleted at any later time, or never. No
//! entry expires while it is being appended: the retention is a minute at least,
//! and an append takes a few seconds. All clocks agree; in the random histories
//! they differ.
//!
//! To print the number of states:
//! `cargo test -p belfry-core --test log_model -- --nocapture`
//!
//! [`Appender`]: belfry_core::log::Appender
//! [`RecoveryReader`]: belfry_core::log::RecoveryReader

mod calls;
mod code;
mod model;
mod publishing;
mod reading;
mod script;
mod situations;
mod world;

use model::{Fault, LogModel, Scope};
use situations::Situation;
use stateright::{Checker, HasDiscoveries, Model};

fn explore(scope: Scope, fault: Option<Fault>) -> impl Checker<LogModel> {
    let builder = LogModel::new(scope, fault).checker().threads(2);
    let builder = builder.finish_when(HasDiscoveries::AnyFailures);
    builder.spawn_bfs().join()
}

fn keeps_every_promise(scope: Scope) {
    let checker = explore(scope, None);
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    eprintln!("{scope:?}: {states} states, {steps} steps");
    checker.assert_properties();
    for situation in Situation::of(scope) {
        assert!(checker.model().has_seen(situation), "{situation:?}");
    }
}

#[test]
fn every_promise_is_kept_when_answers_are_lost() {
    keeps_every_promise(Scope::Requests);
}

#[test]
fn every_promise_is_kept_when_entries_expire() {
    keeps_every_promise(Scope::Expiry);
}

#[test]
fn every_promise_is_kept_when_a_subscriber_joins() {
    keeps_every_promise(Scope::Joining);
}

/// Proves that the model finds faults.
#[test]
fn every_fault_breaks_a_promise() {
    for fault in Fault::all() {
        let discoveries = explore(fault.scope(), Some(fault)).discoveries();
        let found = discoveries.into_iter().next();
        let (promise, path) = found.unwrap_or_else(|| panic!("{fault:?} breaks nothing"));
        eprintln!("{fault:?} breaks {promise:?}: {:?}", path.into_actions());
    }
}
