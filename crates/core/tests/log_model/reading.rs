//! The reader and the joiner, and whether what they are told is true.

use belfry_core::log::Lost;
use belfry_core::testing::Mutant;

use super::calls::{pending_steps, read};
use super::code::{Answer, Call, Outcome, Place, Stored, Task};
use super::model::{Action, LogModel, Step};
use super::situations::Situation;
use super::world::{Given, Moment, Progress, Promise, Work, World};

impl LogModel {
    pub(super) fn reader_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let reader = &world.reader;
        match (&reader.work, &reader.given) {
            (Some(work), _) => {
                let call = self.code.call(work.run);
                let mut steps = Vec::new();
                if let Some(call) = call {
                    pending_steps(&call, &work.progress, &mut steps);
                }
                actions.extend(steps.into_iter().map(Action::Read));
            }
            (None, None) => actions.push(Action::AskNewest),
            (None, Some(_)) if reader.wants_more => actions.push(Action::Recover),
            (None, Some(_)) => actions.extend([Action::Recover, Action::Compare]),
        }
    }

    pub(super) fn begin_reading(&self, world: &mut World, action: Action) -> Option<()> {
        let given = world.reader.given;
        let task = match action {
            Action::Recover => Task::Since(given?.place),
            Action::Compare => Task::Compare(given?.place),
            _ => Task::Newest,
        };
        let run = self.code.begin(task, world.time.now());
        world.reader.work = Some(Work::new(run));
        Some(())
    }

    /// Takes a step in the reader's call.
    pub(super) fn read(&self, world: &mut World, step: Step) -> Option<()> {
        let now = world.time.now();
        let work = world.reader.work.as_mut()?;
        let call = self.code.call(work.run)?;
        let progress = std::mem::replace(&mut work.progress, Progress::None);
        let answer = match call {
            Call::Head
                if self.is(Mutant::ReadsEntriesFirst) && world.reader.read_before.is_none() =>
            {
                world.reader.read_before = Some(world.store.entries.clone());
                Err(Progress::None)
            }
            Call::Head => Ok(Answer::Head(self.read_head(world))),
            Call::Entries { first, last } if world.reader.read_before.is_some() => {
                let mut entries = world.reader.read_before.take()?;
                entries.retain(|entry| {
                    let Place { epoch, seq } = entry.place;
                    epoch == first.epoch && (first.seq..=last).contains(&seq)
                });
                Ok(Answer::Entries(entries))
            }
            call => read(&world.store, &self.code, &call, step, progress),
        };
        let work = world.reader.work.as_mut()?;
        match answer {
            Err(progress) => work.progress = progress,
            Ok(answer) => {
                work.run = self.code.answer(work.run, answer, now);
                if let Some(outcome) = self.code.outcome(work.run) {
                    world.reader.work = None;
                    world.reader.read_before = None;
                    self.tell(world, outcome)?;
                    world.reader.at_head = Moment::default();
                }
            }
        }
        Some(())
    }

    fn read_head(&self, world: &mut World) -> Option<Stored> {
        let newest = world.store.newest();
        world.reader.at_head = world.moment();
        if !self.is(Mutant::ReadsStaleHeads) {
            return newest;
        }
        let last = std::mem::replace(&mut world.reader.last_head, newest);
        last.or(newest)
    }

    pub(super) fn joiner_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let joiner = &world.joiner;
        let has_read = joiner.follows_from.is_some();
        let reads_first = self.is(Mutant::ReadsBeforeSubscribing);
        if !joiner.is_subscribed && (has_read || !reads_first) {
            actions.push(Action::Subscribe);
        }
        if !has_read && (joiner.is_subscribed || reads_first) {
            actions.push(Action::Join);
        }
    }

    /// The joiner reads the newest position and follows from it.
    pub(super) fn join(&self, world: &mut World) {
        let published = world.moment().published;
        if published > 0 {
            self.see(Situation::FoundInLog);
        }
        world.joiner.follows_from = Some(published);
    }

    /// Tells the reader a result, and checks it.
    fn tell(&self, world: &mut World, outcome: Outcome) -> Option<()> {
        let at_head = world.reader.at_head;
        match outcome {
            Outcome::Newest(place) => {
                let published = &world.truth.published[..usize::from(at_head.published)];
                let newest = published.last().map(|newest| newest.place);
                if place.seq > 0 && newest != Some(place) {
                    world.truth.break_promise(Promise::NothingLostIsComplete);
                }
                world.reader.given = Some(Given { place, at: at_head });
            }
            Outcome::Compared { missed } => {
                let given = world.reader.given?;
                let is_missed = at_head.published > given.at.published;
                let is_right = match missed {
                    true => is_missed || is_other_epoch(given, at_head, world.moment()),
                    false => !is_missed,
                };
                if !is_right {
                    world.truth.break_promise(Promise::ComparisonIsRight);
                }
                self.see(match missed {
                    true => Situation::ComparedMissed,
                    false => Situation::ComparedEqual,
                });
                world.reader.end();
            }
            Outcome::Since {
                lost: Some(why), ..
            } => self.tell_lost(world, why)?,
            Outcome::Since {
                newest,
                entries,
                more,
                lost: None,
            } => self.tell_page(world, newest, &entries, more)?,
            Outcome::Appended | Outcome::Busy => return None,
        }
        Some(())
    }

    fn tell_lost(&self, world: &mut World, why: Lost) -> Option<()> {
        let (given, at_head) = (world.reader.given?, world.reader.at_head);
        let missed = &world.truth.published[usize::from(given.at.published)..];
        let mut missed = missed.iter();
        let is_lost = match why {
            Lost::Expired => {
                self.see(Situation::FoundExpired);
                missed.any(|message| world.time.is_past(message.expires_at))
            }
            Lost::Epoch => {
                self.see(Situation::FoundOtherEpoch);
                is_other_epoch(given, at_head, world.moment())
            }
            Lost::TooFar => false,
        };
        if !is_lost {
            world.truth.break_promise(Promise::LostIsLost);
        }
        world.reader.end();
        Some(())
    }

    fn tell_page(
        &self,
        world: &mut World,
        newest: Place,
        entries: &[Stored],
        more: bool,
    ) -> Option<()> {
        let (given, at_head) = (world.reader.given?, world.reader.at_head);
        let known = usize::from(given.at.published);
        let missed = &world.truth.published[known..];
        let end = known + entries.len();
        let is_whole = end == usize::from(at_head.published);
        if !missed.starts_with(entries) || more && entries.is_empty() || !more && !is_whole {
            world.truth.break_promise(Promise::NothingLostIsComplete);
        }
        self.see(match (more, entries) {
            (true, _) => Situation::RecoveredPage,
            (false, []) => Situation::FoundNothingMissed,
            (false, _) => Situation::RecoveredAll,
        });
        if given.place.seq == 0 && !entries.is_empty() {
            self.see(Situation::RecoveredFromEmptyLog);
        }
        match entries.last().filter(|_| more) {
            None => world.reader.end(),
            Some(last) => {
                world.reader.wants_more = true;
                world.reader.given = Some(Given {
                    place: Place {
                        seq: last.place.seq,
                        ..newest
                    },
                    at: Moment {
                        published: end.try_into().ok()?,
                        ..at_head
                    },
                });
            }
        }
        Some(())
    }
}

/// Whether the log may call a position another epoch's.
fn is_other_epoch(given: Given, at_head: Moment, now: Moment) -> bool {
    if given.place.seq > 0 {
        at_head.head_was_deleted && !given.at.head_was_deleted
    } else {
        now.is_month_later && !given.at.is_month_later
    }
}
