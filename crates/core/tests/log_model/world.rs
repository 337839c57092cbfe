//! A state of the model: what is stored, what everyone is doing, and what
//! really happened.

use super::code::{Advance, Answer, Place, Run, Seconds, Stored};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) time: Time,
    pub(crate) store: Store,
    pub(crate) publishers: [Publisher; 2],
    pub(crate) reader: Reader,
    pub(crate) joiner: Joiner,
    pub(crate) truth: Truth,
}

impl World {
    pub(crate) fn new(plans: [[char; 2]; 2]) -> Self {
        Self {
            time: Time::Beginning,
            store: Store::default(),
            publishers: plans.map(Publisher::new),
            reader: Reader::default(),
            joiner: Joiner::default(),
            truth: Truth::default(),
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            published: self.truth.published.len().try_into().expect("few messages"),
            head_was_deleted: self.truth.head_was_deleted,
            is_month_later: self.time == Time::MonthLater,
        }
    }

    /// Whether the log has every message before the head's that has not
    /// expired.
    pub(crate) fn has_every_entry(&self) -> bool {
        let Some(newest) = self.store.newest() else {
            return true;
        };
        let is_earlier = |message: &&Stored| {
            message.place.epoch == newest.place.epoch
                && message.place.seq < newest.place.seq - newest.before()
        };
        let mut earlier = self.truth.published.iter().filter(is_earlier);
        earlier.all(|message| self.time.is_past(message.expires_at) || self.store.has(message))
    }

    /// Whether a joiner that follows from its position has received every later
    /// message whose publisher has posted it.
    pub(crate) fn has_followed(&self) -> bool {
        let follows_from = self.joiner.follows_from;
        let Some(from) = follows_from.filter(|_| self.joiner.is_subscribed) else {
            return true;
        };
        let mut later = self.truth.published[usize::from(from)..].iter();
        later.all(|message| {
            let (posted, received) = (&self.truth.posted, &self.joiner.received);
            !posted.contains(&message.place) || received.contains(&message.place)
        })
    }
}

/// The retention of entries that expire at the tick. All others, and the head,
/// expire within the month.
pub(crate) const TICK: Seconds = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Time {
    Beginning,
    TickLater,
    MonthLater,
}

impl Time {
    pub(crate) fn now(self) -> Seconds {
        match self {
            Self::Beginning => 0,
            Self::TickLater => TICK,
            Self::MonthLater => 31 * 86_400,
        }
    }

    pub(crate) fn is_past(self, deadline: Seconds) -> bool {
        deadline <= self.now()
    }
}

/// The tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    /// The newest message, and when the head expires.
    pub(crate) head: Option<(Stored, Seconds)>,
    /// In the order of their places.
    pub(crate) entries: Vec<Stored>,
    /// Where messages that are remembered were appended.
    pub(crate) marks: Vec<(char, Place)>,
}

impl Store {
    pub(crate) fn newest(&self) -> Option<Stored> {
        self.head.map(|(newest, _)| newest)
    }

    /// Moves the head, or says why not.
    pub(crate) fn advance(&mut self, call: &Advance) -> Answer {
        let name = call.to.name;
        let mark = self.marks.iter().find(|(marked, _)| *marked == name);
        if let Some((_, before)) = mark.filter(|_| call.is_remembered) {
            return Answer::Before(*before);
        }
        let newest = self.newest();
        if newest.map(|newest| newest.place) != call.from {
            return Answer::Moved(newest);
        }
        self.head = Some((call.to, call.expires_at));
        if call.is_remembered {
            self.marks.push((name, call.to.place));
        }
        Answer::Yes
    }

    /// Stores an entry, unless its place is taken.
    pub(crate) fn store(&mut self, entry: Stored) {
        let place = |stored: &Stored| stored.place;
        if let Err(index) = self.entries.binary_search_by_key(&entry.place, place) {
            self.entries.insert(index, entry);
        }
    }

    pub(crate) fn entry(&self, place: Place) -> Option<Stored> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.place == place).copied()
    }

    pub(crate) fn has(&self, message: &Stored) -> bool {
        self.entries.contains(message)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Publisher {
    /// Its messages, in this order.
    pub(crate) plan: [char; 2],
    /// How many of them it has begun to append.
    pub(crate) begun: u8,
    pub(crate) work: Option<Work>,
    pub(crate) may_repeat: bool,
    /// Whether its work has published its message.
    pub(crate) has_published: bool,
    pub(crate) in_flight: Option<InFlight>,
    /// The entry of its last message, to be stored while it posts.
    pub(crate) entry: Option<Stored>,
    pub(crate) posting: Option<Posting>,
    /// Whether the joiner was subscribed before the append. Used by a mutant.
    pub(crate) listed_early: bool,
}

impl Publisher {
    fn new(plan: [char; 2]) -> Self {
        Self {
            plan,
            begun: 0,
            work: None,
            may_repeat: false,
            has_published: false,
            in_flight: None,
            entry: None,
            posting: None,
            listed_early: false,
        }
    }

    pub(crate) fn next(&self) -> Option<char> {
        self.plan.get(usize::from(self.begun)).copied()
    }

    pub(crate) fn begin(&mut self, run: Run) {
        *self = Self {
            begun: self.begun + 1,
            work: Some(Work::new(run)),
            may_repeat: true,
            in_flight: self.in_flight,
            ..Self::new(self.plan)
        };
    }

    /// Ends its work: it succeeded, failed or died.
    pub(crate) fn end(&mut self) {
        self.work = None;
        self.may_repeat = false;
        self.has_published = false;
    }
}

/// A task under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) run: Run,
    pub(crate) progress: Progress,
}

impl Work {
    pub(crate) fn new(run: Run) -> Self {
        Self {
            run,
            progress: Progress::None,
        }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Progress {
    None,
    Head(Option<Stored>),
    NewestEntry(Option<Place>),
    Entries {
        read: Vec<Stored>,
        next: u8,
    },
    /// The entry is stored, and the head has yet to move. Used by a mutant.
    Stored,
}

/// A request that timed out and was sent again. It may still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    pub(crate) advance: Advance,
    pub(crate) was_told_busy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Posting {
    /// The subscribers are listed next.
    Appended(Place),
    /// The post comes next. The flag says whether the joiner was listed.
    Listed(Place, bool),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) work: Option<Work>,
    /// The position that it recovers from.
    pub(crate) given: Option<Given>,
    /// The moment at which its work read the head.
    pub(crate) at_head: Moment,
    /// Whether it has a page and is to get the next one.
    pub(crate) wants_more: bool,
    pub(crate) is_done: bool,
    /// The head that it read before. Used by a mutant.
    pub(crate) last_head: Option<Stored>,
    /// Entries that it read before the head. Used by a mutant.
    pub(crate) read_before: Option<Vec<Stored>>,
}

impl Reader {
    pub(crate) fn end(&mut self) {
        *self = Self {
            is_done: true,
            ..Self::default()
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Given {
    pub(crate) place: Place,
    pub(crate) at: Moment,
}

/// What was true at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    /// How many messages were published.
    pub(crate) published: u8,
    pub(crate) head_was_deleted: bool,
    pub(crate) is_month_later: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Joiner {
    pub(crate) is_subscribed: bool,
    /// How many messages were published when it read the newest position.
    pub(crate) follows_from: Option<u8>,
    pub(crate) received: Vec<Place>,
}

/// What has really happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    /// In the order of publication.
    pub(crate) published: Vec<Stored>,
    pub(crate) head_was_deleted: bool,
    /// Messages that were posted to every listed subscriber.
    pub(crate) posted: Vec<Place>,
    pub(crate) broken: Option<Promise>,
}

/// A promise that a step may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Promise {
    NumbersHaveNoHoles,
    NoMessageTwice,
    AcknowledgedIsPublished,
    BusyIsNotPublished,
    NothingLostIsComplete,
    LostIsLost,
    ComparisonIsRight,
}

impl Truth {
    pub(crate) fn break_promise(&mut self, promise: Promise) {
        self.broken.get_or_insert(promise);
    }

    pub(crate) fn publish(&mut self, message: Stored) {
        let before = self.published.last().map(|last| last.place);
        let same_epoch = before.filter(|before| before.epoch == message.place.epoch);
        let first = message.place.seq - message.before();
        if first != same_epoch.map_or(1, |before| before.seq + 1) {
            self.break_promise(Promise::NumbersHaveNoHoles);
        }
        if self.published.iter().any(|one| one.name == message.name) {
            self.break_promise(Promise::NoMessageTwice);
        }
        self.published.extend(message.together());
    }

    /// The message that was appended together with this one, and comes after it.
    pub(crate) fn next(&self, message: &Stored) -> Option<Stored> {
        let Place { epoch, seq } = message.place;
        let next = Place {
            epoch,
            seq: seq + 1,
        };
        let mut published = self.published.iter();
        published
            .find(|one| one.place == next && one.name == message.name)
            .copied()
    }
}
