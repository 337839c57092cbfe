//! The real code as a state machine. It makes a call, gets an answer and makes
//! the next call. Its behaviour depends on nothing but the answers and the
//! clock, so the answers so far are its state. To take a step, it runs again
//! from the beginning with one more answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use belfry_core::UnixSeconds;
use belfry_core::log::{AppendId, Entry, Head, Lost};
use belfry_core::testing::START;
use belfry_protocol::{Epoch, Position};
use fnv::FnvBuildHasher;

use super::script::{self, ClockUse};

/// Seconds since the model's beginning.
pub(crate) type Seconds = u32;

/// A position. Its epoch is an index into [`Epochs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) epoch: u8,
    pub(crate) seq: u8,
}

/// A message of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    pub(crate) name: char,
    pub(crate) expires_at: Seconds,
}

impl Stored {
    /// How many messages were appended together with this one, and come before
    /// it, if it is the newest of them.
    pub(crate) fn before(self) -> u8 {
        u8::from(self.name == PAIR)
    }

    /// The messages that were appended together, if this is the newest of them.
    pub(crate) fn together(self) -> impl Iterator<Item = Self> {
        let Place { epoch, seq } = self.place;
        let seqs = seq - self.before()..=seq;
        seqs.map(move |seq| Self {
            place: Place { epoch, seq },
            ..self
        })
    }
}

/// Two messages that both publishers append together.
pub(crate) const PAIR: char = 'p';

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    Append {
        publisher: u8,
        name: char,
        /// Whether both publishers append it.
        is_shared: bool,
        lasts: Seconds,
    },
    Newest,
    Since(Place),
    Compare(Place),
}

impl Task {
    /// Each append makes up names of epochs of its own.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Append {
                publisher, name, ..
            } => u64::from(publisher) << 32 | u64::from(name),
            Self::Newest | Self::Since(_) | Self::Compare(_) => 0,
        }
    }
}

/// A call of a port, or the moment when an append has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Tail,
    Head,
    Entries { first: Place, last: u8 },
    Advance(Advance),
    Store(Stored),
    Appended(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Advance {
    pub(crate) from: Option<Place>,
    pub(crate) to: Stored,
    pub(crate) expires_at: Seconds,
    pub(crate) is_remembered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The head, and whether its entry is stored.
    Tail(Option<(Stored, bool)>),
    Head(Option<Stored>),
    Entries(Vec<Stored>),
    Yes,
    Moved(Option<Stored>),
    Before(Place),
    Done,
}

/// Result of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Appended,
    Busy,
    Newest(Place),
    Since {
        newest: Place,
        entries: Vec<Stored>,
        more: bool,
        lost: Option<Lost>,
    },
    Compared {
        missed: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Call(Call),
    End(Outcome),
}

/// An answer, `None` at the beginning, and the time after it, if the code reads
/// the clock there.
pub(crate) type Answered = (Option<Answer>, Option<Seconds>);

/// A task and its answers so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Run(u32);

/// Runs the code, each run once.
#[derive(Default)]
pub(crate) struct Code {
    epochs: Epochs,
    runs: Mutex<Runs>,
}

type Map<K, V> = HashMap<K, V, FnvBuildHasher>;

#[derive(Default)]
struct Runs {
    runs: Vec<(Task, Vec<Answered>, Next)>,
    known: Map<(Task, Vec<Answered>), Run>,
    begun: Map<(Task, Seconds), Run>,
    continued: Map<(Run, Answer, Seconds), Run>,
}

impl Code {
    pub(crate) fn begin(&self, task: Task, now: Seconds) -> Run {
        if let Some(run) = self.runs().begun.get(&(task, now)) {
            return *run;
        }
        let run = self.run(task, vec![(None, Some(now))]);
        self.runs().begun.insert((task, now), run);
        run
    }

    /// Answers the call that the run is waiting for.
    pub(crate) fn answer(&self, run: Run, answer: Answer, now: Seconds) -> Run {
        let key = (run, answer, now);
        let (task, mut answered) = {
            let runs = self.runs();
            if let Some(next) = runs.continued.get(&key) {
                return *next;
            }
            let (task, answered, _) = &runs.runs[run.0 as usize];
            (*task, answered.clone())
        };
        answered.push((Some(key.1.clone()), Some(now)));
        let next = self.run(task, answered);
        self.runs().continued.insert(key, next);
        next
    }

    pub(crate) fn task(&self, run: Run) -> Task {
        self.runs().runs[run.0 as usize].0
    }

    /// The name of the message, if the run appends one.
    pub(crate) fn name(&self, run: Run) -> Option<char> {
        match self.task(run) {
            Task::Append { name, .. } => Some(name),
            Task::Newest | Task::Since(_) | Task::Compare(_) => None,
        }
    }

    /// The retention of the message, if the run appends one.
    pub(crate) fn lasts(&self, run: Run) -> Option<Seconds> {
        match self.task(run) {
            Task::Append { lasts, .. } => Some(lasts),
            Task::Newest | Task::Since(_) | Task::Compare(_) => None,
        }
    }

    /// The call that the run is waiting for. `None` if its task has ended.
    pub(crate) fn call(&self, run: Run) -> Option<Call> {
        match &self.runs().runs[run.0 as usize].2 {
            Next::Call(call) => Some(*call),
            Next::End(_) => None,
        }
    }

    pub(crate) fn outcome(&self, run: Run) -> Option<Outcome> {
        match &self.runs().runs[run.0 as usize].2 {
            Next::Call(_) => None,
            Next::End(outcome) => Some(outcome.clone()),
        }
    }

    /// The place whose key sorts last.
    pub(crate) fn last(&self, places: impl Iterator<Item = Place>) -> Option<Place> {
        places.reduce(|last, place| {
            let is_later = match place.epoch == last.epoch {
                true => place.seq > last.seq,
                false => self.epochs.epoch(place.epoch) > self.epochs.epoch(last.epoch),
            };
            if is_later { place } else { last }
        })
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().expect("no panic")
    }

    fn run(&self, task: Task, mut answered: Vec<Answered>) -> Run {
        let (next, clock) = script::run(&self.epochs, task, &answered);
        if clock == ClockUse::Unread {
            answered.last_mut().expect("a beginning").1 = None;
        }
        let mut runs = self.runs();
        let key = (task, answered);
        if let Some(run) = runs.known.get(&key) {
            return *run;
        }
        let run = Run(u32::try_from(runs.runs.len()).expect("few runs"));
        runs.runs.push((task, key.1.clone(), next));
        runs.known.insert(key, run);
        run
    }
}

/// The names of epochs.
#[derive(Default)]
pub(crate) struct Epochs(Mutex<Vec<Epoch>>);

impl Epochs {
    fn names(&self) -> MutexGuard<'_, Vec<Epoch>> {
        self.0.lock().expect("no panic")
    }

    fn epoch(&self, number: u8) -> Epoch {
        self.names()[usize::from(number)].clone()
    }

    pub(crate) fn place(&self, position: &Position) -> Place {
        let mut names = self.names();
        let known = names.iter().position(|name| *name == position.epoch);
        let number = known.unwrap_or_else(|| {
            names.push(position.epoch.clone());
            names.len() - 1
        });
        Place {
            epoch: number.try_into().expect("few epochs"),
            seq: position.seq.try_into().expect("few messages"),
        }
    }

    pub(crate) fn position(&self, place: Place) -> Position {
        Position {
            epoch: self.epoch(place.epoch),
            seq: place.seq.into(),
        }
    }

    pub(crate) fn head(&self, stored: Stored) -> Head {
        let mut entries: Vec<_> = stored.together().map(|one| self.entry(one)).collect();
        let newest = entries.pop().expect("an entry");
        Head {
            epoch: self.epoch(stored.place.epoch),
            frames_before: entries.into_iter().map(|entry| entry.frame).collect(),
            newest,
        }
    }

    pub(crate) fn entry(&self, stored: Stored) -> Entry {
        let position = self.position(stored.place);
        Entry {
            seq: position.seq,
            append_id: AppendId(stored.name.into()),
            expires_at: UnixSeconds(START.to_seconds().0 + u64::from(stored.expires_at)),
            frame: script::frame(stored.name, &position),
        }
    }

    /// # Panics
    /// If it is not the head that belongs at its place.
    pub(crate) fn newest(&self, head: &Head) -> Stored {
        let stored = self.stored(&head.epoch, &head.newest);
        assert_eq!(self.head(stored), *head);
        stored
    }

    /// # Panics
    /// If the entry is not the one that belongs at its place.
    pub(crate) fn stored(&self, epoch: &Epoch, entry: &Entry) -> Stored {
        let position = Position {
            epoch: epoch.clone(),
            seq: entry.seq,
        };
        let mut name = entry.append_id.0.chars();
        let stored = Stored {
            place: self.place(&position),
            name: name.next().expect("a name"),
            expires_at: seconds(entry.expires_at),
        };
        assert_eq!(self.entry(stored), *entry);
        stored
    }
}

pub(crate) fn seconds(at: UnixSeconds) -> Seconds {
    let since = at.0 - START.to_seconds().0;
    since.try_into().expect("a month or two")
}
