use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use belfry_protocol::Position;

use super::SKEW;
use crate::log::{AppendId, LogKey, Lost, Recovery, RecoveryLimits, RecoveryReader};
use crate::ports::{Clock, LogReads};
use crate::testing::{START, SeededRandomness};
use crate::time::{UnixMillis, UnixSeconds};

pub(super) const RETENTION: Duration = Duration::from_secs(60);

pub(super) const LIMITS: RecoveryLimits = RecoveryLimits {
    messages: 4,
    bytes: 40,
    missed: Some(7),
};

/// A message as it was really published, or a purge.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) position: Position,
    pub(super) id: AppendId,
    /// Its number among those that were appended together.
    pub(super) part: usize,
    /// It is no message: those before it were deleted.
    pub(super) is_purge: bool,
    /// The request that purged.
    pub(super) request: Option<AppendId>,
    pub(super) expires_at: UnixSeconds,
    pub(super) head_expires_at: UnixSeconds,
}

/// What really happened, and what the actors were told.
#[derive(Default)]
pub(super) struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    passed: Duration,
    at_work: usize,
    /// In the order of publication.
    published: Vec<Published>,
    acknowledged: Vec<(AppendId, usize, Position)>,
    /// Messages that were posted to everyone listed.
    posted: HashSet<Position>,
    subscribers: BTreeSet<usize>,
    received: HashMap<usize, HashSet<Position>>,
    /// How many messages were published up to the position from which a
    /// subscriber follows.
    follows_from: HashMap<usize, usize>,
    wrong: Option<String>,
}

/// A position that a reader was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) position: Position,
    /// How many messages were published when it was given.
    pub(super) published: usize,
    at: UnixMillis,
}

/// Somebody is at work.
pub(super) struct AtWork<'a>(&'a World);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.state().at_work -= 1;
    }
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    pub(super) fn now(&self) -> UnixMillis {
        START.plus(self.state().passed)
    }

    pub(super) fn pass_time(&self, duration: Duration) {
        self.state().passed += duration;
    }

    /// Lets a month pass, unless somebody is at work: no call takes that long.
    pub(super) fn pass_month(&self) {
        let mut state = self.state();
        if state.at_work == 0 {
            state.passed += Duration::from_secs(31 * 86_400);
        }
    }

    /// Notes that somebody is at work until the result is dropped.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.state().at_work += 1;
        AtWork(self)
    }

    pub(super) fn published(&self) -> usize {
        self.state().published.len()
    }

    pub(super) fn publish(&self, messages: impl Iterator<Item = Published>) {
        self.state().published.extend(messages);
    }

    pub(super) fn acknowledge(&self, id: &AppendId, positions: &[Position], frames: &[String]) {
        let acknowledged = positions.iter().enumerate();
        let acknowledged =
            acknowledged.map(|(part, position)| (id.clone(), part, position.clone()));
        self.state().acknowledged.extend(acknowledged);
        self.note(|_| {
            let expected = positions.iter().enumerate();
            let expected = expected.map(|(part, position)| frame(id, part, position));
            let is_right = expected.eq(frames.iter().cloned());
            (!is_right).then(|| format!("{id:?} is posted as {frames:?}"))
        });
    }

    pub(super) fn subscribe(&self, subscriber: usize) {
        self.state().subscribers.insert(subscriber);
    }

    pub(super) fn subscribers(&self) -> Vec<usize> {
        self.state().subscribers.iter().copied().collect()
    }

    pub(super) fn receive(&self, subscriber: usize, positions: &[Position]) {
        let mut state = self.state();
        let received = state.received.entry(subscriber).or_default();
        received.extend(positions.iter().cloned());
    }

    pub(super) fn posted_to_all(&self, positions: &[Position]) {
        self.state().posted.extend(positions.iter().cloned());
    }

    pub(super) fn follow(&self, subscriber: usize, from: usize) {
        self.state().follows_from.insert(subscriber, from);
    }

    pub(super) fn result(&self) -> Result<(), String> {
        self.state().wrong.take().map_or(Ok(()), Err)
    }

    /// Notes the first thing that is wrong.
    fn note(&self, check: impl FnOnce(&State) -> Option<String>) {
        let mut state = self.state();
        if state.wrong.is_none() {
            state.wrong = check(&state);
        }
    }

    /// Notes a position that a reader was given after `published` messages.
    pub(super) fn give(&self, position: Position, published: usize) -> Given {
        self.note(|state| state.wrong_position(&position, published));
        Given {
            position,
            published,
            at: self.now(),
        }
    }

    /// Checks what a reader was told. `begun` messages were published when it
    /// read the head.
    pub(super) fn check(&self, since: &Given, told: &Recovery, begun: usize) {
        self.note(|state| {
            let wrong = state.wrong_recovery(since, told, begun)?;
            Some(format!("{wrong}, since {since:?}"))
        });
    }

    /// Checks where a new history is said to begin.
    pub(super) fn check_purge(&self, position: &Position) {
        self.note(|state| {
            let mut purges = state.published.iter().filter(|one| one.is_purge);
            let is_right = purges.any(|one| one.position == *position);
            (!is_right).then(|| format!("no history begins at {position:?}"))
        });
    }

    /// Checks the whole history when nobody acts any more.
    pub(super) async fn check_the_end<S: LogReads>(&self, store: &S, log: &LogKey) {
        self.note(State::wrong_numbers);
        self.note(State::repeated_purge);
        self.note(State::wrong_acknowledgement);
        self.note(State::missed_post);
        let clock = WorldClock(self);
        let random = SeededRandomness::default();
        let reader = RecoveryReader {
            store,
            clock: &clock,
            random: &random,
        };
        let published = self.state().published.clone();
        for (number, message) in published.iter().enumerate() {
            let since = self.give(message.position.clone(), number + 1);
            let told = reader.since(log, &since.position, LIMITS).await;
            self.check(&since, &told.expect("no fault"), published.len());
        }
    }
}

/// What is wrong, if anything is.
impl State {
    fn wrong_position(&self, position: &Position, published: usize) -> Option<String> {
        let newest = self.published[..published].last();
        let is_right = position.seq == 0 || newest.is_some_and(|one| one.position == *position);
        (!is_right).then(|| format!("{position:?} is not the newest of {published}"))
    }

    fn wrong_recovery(&self, since: &Given, told: &Recovery, begun: usize) -> Option<String> {
        let missed = &self.published[since.published..];
        if let Some(why) = told.lost {
            let is_lost = self.is_lost(why, since);
            return (!is_lost).then(|| format!("called lost ({why:?}), and is not: {missed:?}"));
        }
        let mut pairs = told.entries.iter().zip(missed);
        let other = pairs.find(|(entry, real)| {
            entry.seq != real.position.seq
                || told.newest.epoch != real.position.epoch
                || entry.append_id != real.id
                || entry.frame != frame(&real.id, real.part, &real.position)
        });
        if let Some((entry, real)) = other {
            return Some(format!("recovered {entry:?} instead of {real:?}"));
        }
        let end = since.published + told.entries.len();
        if end > self.published.len() {
            Some(format!("recovered more than was published: {told:?}"))
        } else if told.more && told.entries.is_empty() {
            Some("more was announced, but nothing recovered".into())
        } else if !told.more && end < begun {
            Some(format!("recovered {end} messages of {begun}: {told:?}"))
        } else {
            None
        }
    }

    /// Whether messages after a position are really lost, by some clock.
    fn is_lost(&self, why: Lost, since: &Given) -> bool {
        let latest = START.plus(self.passed).plus(SKEW * 2);
        let missed = &self.published[since.published..];
        match why {
            Lost::Expired => missed.iter().any(|one| one.expires_at.has_passed(latest)),
            Lost::TooFar => LIMITS.missed.is_some_and(|most| missed.len() as u64 > most),
            Lost::Epoch => {
                let mut published = self.published.iter();
                let is_old = latest.since(since.at) > Duration::from_secs(29 * 86_400);
                published.any(|one| one.head_expires_at.has_passed(latest))
                    || missed.iter().any(|one| one.is_purge)
                    || since.position.seq == 0 && is_old
            }
        }
    }

    /// A number that does not follow the one before it, or a message with two.
    fn wrong_numbers(&self) -> Option<String> {
        let mut before: Option<&Position> = None;
        for Published {
            position, is_purge, ..
        } in &self.published
        {
            let same_epoch = before.filter(|before| before.epoch == position.epoch);
            let expected = match before {
                Some(before) if *is_purge => before.seq,
                _ => same_epoch.map_or(1, |before| before.seq + 1),
            };
            if position.seq != expected || *is_purge && same_epoch.is_some() {
                return Some(format!("{position:?} follows {before:?}"));
            }
            before = Some(position);
        }
        let messages = || self.published.iter().filter(|one| !one.is_purge);
        let names: HashSet<_> = messages().map(|one| (&one.id, one.part)).collect();
        let is_repeated = names.len() < messages().count();
        is_repeated.then(|| format!("a message is in the log twice: {:?}", self.published))
    }

    fn repeated_purge(&self) -> Option<String> {
        let mut requests = HashSet::new();
        let mut purges = self.published.iter().filter_map(|one| one.request.as_ref());
        let twice = purges.find(|request| !requests.insert(*request))?;
        Some(format!("{twice:?} purged twice: {:?}", self.published))
    }

    fn wrong_acknowledgement(&self) -> Option<String> {
        let is_published = |(id, part, position): &&(AppendId, usize, Position)| {
            let mut published = self.published.iter();
            published.any(|one| one.position == *position && one.id == *id && one.part == *part)
        };
        let mut acknowledged = self.acknowledged.iter();
        let lost = acknowledged.find(|one| !is_published(one))?;
        Some(format!("acknowledged, but not published: {lost:?}"))
    }

    /// A subscriber that follows from a position receives every later message
    /// whose publisher has posted to all that it listed.
    fn missed_post(&self) -> Option<String> {
        let nothing = HashSet::new();
        self.follows_from.iter().find_map(|(subscriber, from)| {
            let received = self.received.get(subscriber).unwrap_or(&nothing);
            let mut later = self.published[*from..].iter().map(|one| &one.position);
            let missed = later.find(|at| self.posted.contains(at) && !received.contains(at))?;
            Some(format!("{subscriber} follows {from} and missed {missed:?}"))
        })
    }
}

/// What a message's frame says.
pub(super) fn frame(id: &AppendId, part: usize, position: &Position) -> String {
    format!("{} {part} {} {}", id.0, position.epoch, position.seq)
}

struct WorldClock<'a>(&'a World);

impl Clock for WorldClock<'_> {
    fn now(&self) -> UnixMillis {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.pass_time(duration);
    }
}
