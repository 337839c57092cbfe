//! The publishers.

use belfry_core::testing::Mutant;

use super::calls::{pending_steps, read};
use super::code::{Advance, Answer, Call, Outcome, PAIR, Place, Seconds, Stored, Task};
use super::model::{Action, Fault, LogModel, SHARED, Scope, Step, publisher, work};
use super::situations::Situation;
use super::world::{InFlight, Posting, Progress, Promise, TICK, Time, World};

impl LogModel {
    pub(super) fn publisher_actions(&self, world: &World, number: u8, actions: &mut Vec<Action>) {
        let publisher = &world.publishers[usize::from(number)];
        if publisher.entry.is_some() {
            actions.push(Action::StoreOwn(number));
        }
        match publisher.posting {
            Some(Posting::Appended(_)) => actions.push(Action::List(number)),
            Some(Posting::Listed(..)) => actions.push(Action::Post(number)),
            None => {}
        }
        if publisher.in_flight.is_some() {
            actions.push(Action::Arrive(number));
        }
        let Some(work) = &publisher.work else {
            if publisher.next().is_some() {
                actions.push(Action::Publish(number, 2 * TICK));
                if self.scope == Scope::Expiry && world.time == Time::Beginning {
                    actions.push(Action::Publish(number, TICK));
                }
            }
            return;
        };
        actions.push(Action::Abandon(number));
        let Some(call) = self.code.call(work.run) else {
            return;
        };
        let mut steps = Vec::new();
        pending_steps(&call, &work.progress, &mut steps);
        if let Call::Advance(advance) = &call
            && self.scope.loses_answers()
        {
            self.faults(world, number, advance, &mut steps, actions);
        }
        for step in steps {
            actions.push(Action::Append(number, step));
            let may_be_last = matches!(step, Step::Advance | Step::ReadEntry);
            if may_be_last && self.scope.loses_answers() {
                actions.push(Action::AppendAtLast(number, step));
            }
        }
    }

    /// What can go wrong with a call that moves the head.
    fn faults(
        &self,
        world: &World,
        number: u8,
        advance: &Advance,
        steps: &mut Vec<Step>,
        actions: &mut Vec<Action>,
    ) {
        let publisher = &world.publishers[usize::from(number)];
        if publisher.may_repeat && publisher.in_flight.is_none() {
            actions.push(Action::Repeat(number));
        }
        let mark = (advance.to.name, advance.to.place);
        if advance.is_remembered && publisher.has_published && world.store.marks.contains(&mark) {
            steps.push(Step::AnswerAgain);
        }
    }

    pub(super) fn publish(&self, world: &mut World, number: u8, lasts: Seconds) -> Option<()> {
        let now = world.time.now();
        let is_subscribed = world.joiner.is_subscribed;
        let publisher = publisher(world, number);
        let name = publisher.next()?;
        let run = self.code.begin(
            Task::Append {
                publisher: number,
                name,
                is_shared: matches!(name, SHARED | PAIR) && !self.is(Mutant::ForgetsMessages),
                lasts,
            },
            now,
        );
        publisher.begin(run);
        publisher.listed_early = is_subscribed && self.is(Mutant::ListsBeforeAppending);
        Some(())
    }

    /// Takes a step in the publisher's call.
    pub(super) fn append(
        &self,
        world: &mut World,
        number: u8,
        step: Step,
        now: Seconds,
    ) -> Option<()> {
        let work = work(world, number)?;
        let call = self.code.call(work.run)?;
        let progress = std::mem::replace(&mut work.progress, Progress::None);
        let answer = match (&call, step) {
            (Call::Store(entry), _) => Ok(self.heal(world, *entry)),
            (Call::Advance(_), Step::AnswerAgain) => Ok(Answer::Yes),
            (Call::Advance(advance), _)
                if self.is(Mutant::StoresBeforeAdvancing) && progress == Progress::None =>
            {
                world.store.store(advance.to);
                Err(Progress::Stored)
            }
            (Call::Advance(advance), _) => Ok(self.advance(world, number, advance)),
            _ => read(&world.store, &self.code, &call, step, progress),
        };
        match answer {
            Ok(answer) => self.answer(world, number, answer, now)?,
            Err(progress) => self::work(world, number)?.progress = progress,
        }
        Some(())
    }

    fn heal(&self, world: &mut World, entry: Stored) -> Answer {
        self.see(match world.store.has(&entry) {
            true => Situation::HealedInVain,
            false => Situation::Healed,
        });
        let is_left_out = self.is(Mutant::HealsNewestOnly) && world.truth.next(&entry).is_some();
        if !self.is(Mutant::SkipsHealing) && !is_left_out {
            world.store.store(entry);
        }
        Answer::Done
    }

    fn advance(&self, world: &mut World, number: u8, call: &Advance) -> Answer {
        let mut answer = world.store.advance(call);
        if self.is(Mutant::AdvancesBlindly)
            && let Answer::Moved(Some(newest)) = &answer
        {
            let from = Some(newest.place);
            answer = world.store.advance(&Advance { from, ..*call });
        }
        if answer == Answer::Yes {
            match call.from {
                None if world.truth.head_was_deleted => self.see(Situation::EpochBegun),
                Some(from) if world.store.entry(from).is_none() => {
                    self.see(Situation::LeftExpired);
                }
                _ => {}
            }
            world.truth.publish(call.to);
            let publisher = publisher(world, number);
            let is_own = |name| name == call.to.name;
            let work = publisher.work.as_ref();
            let works_on = work.and_then(|work| self.code.name(work.run));
            publisher.has_published |= works_on.is_some_and(is_own);
        }
        if self.is(Mutant::IgnoresLostAnswers)
            && let Answer::Moved(head) = &mut answer
        {
            *head = None;
        }
        answer
    }

    fn answer(&self, world: &mut World, number: u8, answer: Answer, now: Seconds) -> Option<()> {
        let work = work(world, number)?;
        let run = self.code.answer(work.run, answer.clone(), now);
        if matches!(answer, Answer::Before(_)) {
            self.see(Situation::WasBefore);
        }
        match self.code.call(run) {
            Some(Call::Appended(place)) => {
                match answer {
                    Answer::Entries(_) => self.see(Situation::FoundOwnEntry),
                    Answer::Moved(_) => self.see(Situation::FoundOwnHead),
                    _ => {}
                }
                let name = self.code.name(run)?;
                let is_it = |one: &Stored| one.place == place && one.name == name;
                if !world.truth.published.iter().any(is_it) {
                    world.truth.break_promise(Promise::AcknowledgedIsPublished);
                }
                let run = self.code.answer(run, Answer::Done, now);
                let entry = match self.code.call(run) {
                    Some(Call::Store(entry)) => Some(entry),
                    _ if self.has(Fault::StoresOwnDeadline) => Some(Stored {
                        place,
                        name,
                        expires_at: now + self.code.lasts(run)?,
                    }),
                    _ => None,
                };
                let posts = self.scope == Scope::Joining;
                let publisher = publisher(world, number);
                publisher.end();
                publisher.entry = entry;
                publisher.posting = posts.then_some(Posting::Appended(place));
            }
            // Each attempt starts from scratch.
            Some(Call::Tail) => work.run = self.code.begin(self.code.task(run), now),
            Some(_) => work.run = run,
            None => {
                assert_eq!(self.code.outcome(run), Some(Outcome::Busy));
                self.see(Situation::WasBusy);
                let name = self.code.name(run)?;
                let publisher = publisher(world, number);
                if let Some(request) = &mut publisher.in_flight {
                    request.was_told_busy |= request.advance.to.name == name;
                }
                if publisher.has_published {
                    world.truth.break_promise(Promise::BusyIsNotPublished);
                }
                self::publisher(world, number).end();
            }
        }
        Some(())
    }

    pub(super) fn repeat(&self, world: &mut World, number: u8) -> Option<()> {
        let publisher = publisher(world, number);
        let Call::Advance(advance) = self.code.call(publisher.work.as_ref()?.run)? else {
            return None;
        };
        publisher.may_repeat = false;
        publisher.in_flight = Some(InFlight {
            advance,
            was_told_busy: false,
        });
        Some(())
    }

    pub(super) fn arrive(&self, world: &mut World, number: u8) -> Option<()> {
        let request = publisher(world, number).in_flight.take()?;
        if self.advance(world, number, &request.advance) == Answer::Yes {
            if publisher(world, number).work.is_none() {
                self.see(Situation::ArrivedLate);
            }
            if request.was_told_busy {
                world.truth.break_promise(Promise::BusyIsNotPublished);
            }
        }
        Some(())
    }

    pub(super) fn list(&self, world: &mut World, number: u8) -> Option<()> {
        let is_subscribed = world.joiner.is_subscribed;
        let publisher = publisher(world, number);
        let Some(Posting::Appended(place)) = publisher.posting else {
            return None;
        };
        let is_listed = match self.is(Mutant::ListsBeforeAppending) {
            true => publisher.listed_early,
            false => is_subscribed,
        };
        publisher.posting = Some(Posting::Listed(place, is_listed));
        Some(())
    }

    pub(super) fn post(&self, world: &mut World, number: u8) -> Option<()> {
        let Some(Posting::Listed(place, is_listed)) = publisher(world, number).posting.take()
        else {
            return None;
        };
        if is_listed {
            self.see(Situation::ReceivedLive);
            insert(&mut world.joiner.received, place);
        }
        insert(&mut world.truth.posted, place);
        Some(())
    }
}

fn insert(places: &mut Vec<Place>, place: Place) {
    if let Err(index) = places.binary_search(&place) {
        places.insert(index, place);
    }
}
