//! The steps of the model and its promises.

use std::sync::atomic::{AtomicU32, Ordering};

use belfry_core::testing::Mutant;
use stateright::{Model, Property};

use super::code::{Code, PAIR, Place, Seconds};
use super::situations::Situation;
use super::world::{Promise, Publisher, TICK, Time, Work, World};

/// The message that both publishers append.
pub(crate) const SHARED: char = 's';

/// How long the appender tries at most.
const PATIENCE: Seconds = 2;

/// What is explored at a time. Publishers append, and may die, in each scope.
///
/// The reader and the joiner never affect each other: a reader writes nothing,
/// and a subscription decides only who is posted to. Lost answers and expiry
/// are independent too, because no entry expires while it is being appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A reader recovers. Answers are lost, and requests are repeated.
    Requests,
    /// A reader recovers. Time passes, and what has expired is deleted.
    Expiry,
    /// A joiner subscribes, reads the newest position and follows from it.
    /// Answers are lost, and requests are repeated.
    Joining,
}

impl Scope {
    pub(crate) fn loses_answers(self) -> bool {
        self != Self::Expiry
    }
}

/// A fault that the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Mutant(Mutant),
    /// A publisher that finds its message appended stores the entry too, but
    /// with a deadline of its own.
    StoresOwnDeadline,
    /// The store deletes entries that have not expired.
    DeletesEarly,
}

impl Fault {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let mutants = Mutant::ALL.into_iter().map(Self::Mutant);
        mutants.chain([Self::StoresOwnDeadline, Self::DeletesEarly])
    }

    /// Where the fault shows.
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::Mutant(Mutant::ReadsBeforeSubscribing | Mutant::ListsBeforeAppending) => {
                Scope::Joining
            }
            Self::Mutant(_) => Scope::Requests,
            Self::StoresOwnDeadline | Self::DeletesEarly => Scope::Expiry,
        }
    }
}

/// What happens to the call that an actor is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    ReadHead,
    ReadNewestEntry,
    ReadEntry,
    /// The page ends early.
    EndPage,
    Advance,
    /// DynamoDB recognises a repeated transaction, and answers as it did the
    /// first time.
    AnswerAgain,
    Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The publisher starts to append its next message, kept for this long.
    Publish(u8, Seconds),
    Append(u8, Step),
    /// The same, but the publisher's patience runs out.
    AppendAtLast(u8, Step),
    /// The SDK times out and sends the request again. The first request is
    /// still in flight.
    Repeat(u8),
    /// The request in flight arrives.
    Arrive(u8),
    /// A call fails, or the publisher dies.
    Abandon(u8),
    StoreOwn(u8),
    List(u8),
    Post(u8),
    AskNewest,
    Recover,
    Compare,
    Read(Step),
    Subscribe,
    Join,
    Tick,
    Month,
    DeleteEntry(Place),
    DeleteHead,
}

pub(crate) struct LogModel {
    pub(super) code: Code,
    pub(super) scope: Scope,
    fault: Option<Fault>,
    seen: AtomicU32,
}

impl LogModel {
    pub(crate) fn new(scope: Scope, fault: Option<Fault>) -> Self {
        Self {
            code: Code::default(),
            scope,
            fault,
            seen: AtomicU32::new(0),
        }
    }

    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.has(Fault::Mutant(mutant))
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn see(&self, situation: Situation) {
        self.seen.fetch_or(situation.bit(), Ordering::Relaxed);
    }

    pub(crate) fn has_seen(&self, situation: Situation) -> bool {
        self.seen.load(Ordering::Relaxed) & situation.bit() != 0
    }

    /// Drops what can no longer have an effect, to save states: requests that
    /// cannot move the head, pending entries that another publisher has stored,
    /// and entries of an epoch that has ended.
    fn forget(&self, world: &mut World) {
        let store = &world.store;
        let head = store.newest().map(|newest| newest.place);
        for publisher in &mut world.publishers {
            let in_flight = &mut publisher.in_flight;
            if !self.is(Mutant::AdvancesBlindly) {
                in_flight.take_if(|request| request.advance.from != head);
            }
            // Of a pair, the second one may have yet to be stored.
            while let Some(entry) = publisher.entry
                && store.entry(entry.place).is_some()
            {
                publisher.entry = world.truth.next(&entry);
            }
        }
        if world.truth.head_was_deleted {
            let epoch = head.map(|head| head.epoch);
            let entries = &mut world.store.entries;
            entries.retain(|entry| Some(entry.place.epoch) == epoch);
        }
    }
}

impl Model for LogModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let plans = [
            [['a', SHARED], ['b', SHARED]],
            [['a', SHARED], [SHARED, 'b']],
            [[SHARED, 'a'], [SHARED, 'b']],
            [['a', PAIR], [PAIR, 'b']],
        ];
        plans.map(World::new).into()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // Once the reader is done, nothing new can happen: publishers would do
        // the same before it started.
        if world.truth.broken.is_some() || world.reader.is_done {
            return;
        }
        for number in [0, 1] {
            self.publisher_actions(world, number, actions);
        }
        match self.scope {
            Scope::Requests => self.reader_actions(world, actions),
            Scope::Expiry => {
                self.reader_actions(world, actions);
                self.time_actions(world, actions);
            }
            Scope::Joining => self.joiner_actions(world, actions),
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Publish(number, lasts) => self.publish(&mut world, number, lasts)?,
            Action::Append(number, step) => {
                let now = world.time.now();
                self.append(&mut world, number, step, now)?;
            }
            Action::AppendAtLast(number, step) => {
                let now = world.time.now() + PATIENCE;
                self.append(&mut world, number, step, now)?;
            }
            Action::Repeat(number) => self.repeat(&mut world, number)?,
            Action::Arrive(number) => self.arrive(&mut world, number)?,
            Action::Abandon(number) => publisher(&mut world, number).end(),
            Action::StoreOwn(number) => {
                let entry = publisher(&mut world, number).entry.take()?;
                world.store.store(entry);
                publisher(&mut world, number).entry = world.truth.next(&entry);
            }
            Action::List(number) => self.list(&mut world, number)?,
            Action::Post(number) => self.post(&mut world, number)?,
            Action::AskNewest | Action::Recover | Action::Compare => {
                self.begin_reading(&mut world, action)?;
            }
            Action::Read(step) => self.read(&mut world, step)?,
            Action::Subscribe => world.joiner.is_subscribed = true,
            Action::Join => self.join(&mut world),
            Action::Tick => self.tick(&mut world),
            Action::Month => month(&mut world),
            Action::DeleteEntry(place) => {
                self.see(Situation::EntryDeleted);
                world.store.entries.retain(|entry| entry.place != place);
            }
            Action::DeleteHead => {
                self.see(Situation::HeadDeleted);
                world.store.head = None;
                world.truth.head_was_deleted = true;
            }
        }
        self.forget(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn keeps(world: &World, promise: Promise) -> bool {
            world.truth.broken != Some(promise)
        }
        vec![
            Property::always("numbers have no holes", |_, world| {
                keeps(world, Promise::NumbersHaveNoHoles)
            }),
            Property::always("no message is in a log twice", |_, world| {
                keeps(world, Promise::NoMessageTwice)
            }),
            Property::always("acknowledged messages are published", |_, world| {
                keeps(world, Promise::AcknowledgedIsPublished)
            }),
            Property::always("messages refused as busy are not published", |_, world| {
                keeps(world, Promise::BusyIsNotPublished)
            }),
            Property::always("a recovery that reports no loss is complete", |_, world| {
                keeps(world, Promise::NothingLostIsComplete)
            }),
            Property::always("messages reported as lost are lost", |_, world| {
                keeps(world, Promise::LostIsLost)
            }),
            Property::always("comparisons are right", |_, world| {
                keeps(world, Promise::ComparisonIsRight)
            }),
            Property::always(
                "entries before the head's are stored",
                |_, world: &World| world.has_every_entry(),
            ),
            Property::always("stored entries are published", |_, world: &World| {
                let published = &world.truth.published;
                let mut entries = world.store.entries.iter();
                entries.all(|entry| published.contains(entry))
            }),
            Property::always("followers receive every later post", |_, world: &World| {
                world.has_followed()
            }),
        ]
    }
}

/// Time.
impl LogModel {
    fn time_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.time == Time::Beginning {
            actions.extend([Action::Tick, Action::Month]);
        }
        let is_past = |deadline| world.time.is_past(deadline);
        for entry in &world.store.entries {
            if is_past(entry.expires_at) || self.has(Fault::DeletesEarly) {
                actions.push(Action::DeleteEntry(entry.place));
            }
        }
        if world
            .store
            .head
            .is_some_and(|(_, deadline)| is_past(deadline))
        {
            actions.push(Action::DeleteHead);
        }
    }

    /// A tick passes. An attempt is always shorter than its message's
    /// retention, so attempts whose messages expire now have ended.
    fn tick(&self, world: &mut World) {
        world.time = Time::TickLater;
        for publisher in &mut world.publishers {
            let lasts = |work: &Work| self.code.lasts(work.run);
            if publisher.work.as_ref().and_then(lasts) == Some(TICK) {
                publisher.end();
            }
        }
    }
}

/// A month passes. No call takes that long, so everyone at work has died.
fn month(world: &mut World) {
    world.time = Time::MonthLater;
    for publisher in &mut world.publishers {
        publisher.end();
        publisher.entry = None;
    }
    if world.reader.work.is_some() {
        world.reader.end();
    }
}

pub(super) fn publisher(world: &mut World, number: u8) -> &mut Publisher {
    &mut world.publishers[usize::from(number)]
}

pub(super) fn work(world: &mut World, number: u8) -> Option<&mut Work> {
    publisher(world, number).work.as_mut()
}
