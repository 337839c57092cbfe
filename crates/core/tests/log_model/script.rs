//! Ports that give prepared answers, and leave the next call unanswered.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use belfry_core::log::{
    AppendError, AppendId, Appender, Compared, Entry, Head, LogKey, Message, Recovery,
    RecoveryLimits, RecoveryReader,
};
use belfry_core::ports::{Advanced, Clock, LogAppends, LogReads, Memory, StoreError, Tail};
use belfry_core::testing::{FakeMetrics, START, SeededRandomness};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{Epoch, Position};

use super::code::{Advance, Answer, Answered, Call, Epochs, Next, Outcome, PAIR, Seconds, Task};

/// Pages are small, so that a recovery has more than one.
const LIMITS: RecoveryLimits = RecoveryLimits {
    messages: 2,
    bytes: 1_000,
    missed: None,
};

const NO_FAULT: &str = "calls that fail are left unanswered";

/// Runs a task until the answers run out.
pub(crate) fn run(epochs: &Epochs, task: Task, answered: &[Answered]) -> (Next, ClockUse) {
    let mut answered: VecDeque<_> = answered.iter().cloned().collect();
    let (_, now) = answered.pop_front().expect("a beginning");
    let script = Script {
        epochs,
        state: Mutex::new(State {
            answered,
            now,
            clock: ClockUse::Unread,
            call: None,
        }),
    };
    let polled = pin!(script.run(task)).poll(&mut Context::from_waker(Waker::noop()));
    let mut state = script.state();
    let next = match polled {
        Poll::Ready(outcome) => Next::End(outcome),
        Poll::Pending => Next::Call(state.call.take().expect("only calls wait")),
    };
    (next, state.clock)
}

/// Whether the clock was read since the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockUse {
    Read,
    Unread,
}

struct Script<'a> {
    epochs: &'a Epochs,
    state: Mutex<State>,
}

struct State {
    answered: VecDeque<Answered>,
    now: Option<Seconds>,
    clock: ClockUse,
    call: Option<Call>,
}

impl Script<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// The next answer. Never completes if there is none.
    async fn ask(&self, call: Call) -> Answer {
        let next = self.state().answered.pop_front();
        let Some((answer, now)) = next else {
            self.state().call = Some(call);
            return pending().await;
        };
        let mut state = self.state();
        (state.now, state.clock) = (now, ClockUse::Unread);
        answer.expect("an answer")
    }

    async fn run(&self, task: Task) -> Outcome {
        let log = LogKey::channel("room:7");
        let random = SeededRandomness::with_seed(task.seed());
        let reader = RecoveryReader {
            store: self,
            clock: self,
            random: &random,
        };
        match task {
            Task::Append { .. } => self.append(&log, task, &random).await,
            Task::Newest => {
                let newest = reader.newest(&log).await.expect(NO_FAULT);
                Outcome::Newest(self.epochs.place(&newest))
            }
            Task::Since(place) => {
                let since = self.epochs.position(place);
                let told = reader.since(&log, &since, LIMITS).await;
                let Recovery {
                    newest,
                    entries,
                    more,
                    lost,
                } = told.expect(NO_FAULT);
                let stored = |entry| self.epochs.stored(&newest.epoch, entry);
                Outcome::Since {
                    entries: entries.iter().map(stored).collect(),
                    newest: self.epochs.place(&newest),
                    more,
                    lost,
                }
            }
            Task::Compare(place) => {
                let since = self.epochs.position(place);
                let compared = reader.compare(&log, &since).await;
                let Compared { missed, .. } = compared.expect(NO_FAULT);
                Outcome::Compared { missed }
            }
        }
    }

    async fn append(&self, log: &LogKey, task: Task, random: &SeededRandomness) -> Outcome {
        let Task::Append {
            name,
            is_shared,
            lasts,
            ..
        } = task
        else {
            unreachable!("{task:?} appends nothing");
        };
        let id = AppendId(name.into());
        let forever = START.plus(Duration::from_secs(1_000 * 86_400));
        let message = Message {
            id: &id,
            retention: Duration::from_secs(lasts.into()),
            remember_until: is_shared.then_some(forever.to_seconds()),
            frames: |first: &Position| frames(name, first),
        };
        let appender = Appender {
            store: self,
            clock: self,
            random,
            metrics: &FakeMetrics::default(),
        };
        let appended = match appender.append(log, &message).await {
            Ok(appended) => appended,
            Err(AppendError::Busy) => return Outcome::Busy,
            Err(AppendError::Store(error)) => unreachable!("{NO_FAULT}: {error}"),
        };
        let mut first = appended.position.clone();
        first.seq -= appended.frames.len() as u64 - 1;
        assert_eq!(appended.frames, frames(name, &first));
        let place = self.epochs.place(&appended.position);
        self.ask(Call::Appended(place)).await;
        let stored = appender.store(log, &appended).await;
        stored.expect(NO_FAULT);
        Outcome::Appended
    }
}

/// What a message's frame says.
fn frames(name: char, first: &Position) -> Vec<String> {
    let count = if name == PAIR { 2 } else { 1 };
    let positions = (first.seq..).take(count).map(|seq| Position {
        epoch: first.epoch.clone(),
        seq,
    });
    positions.map(|position| frame(name, &position)).collect()
}

pub(crate) fn frame(name: char, position: &Position) -> String {
    format!("{name} {} {}", position.epoch, position.seq)
}

impl Clock for Script<'_> {
    fn now(&self) -> UnixMillis {
        let mut state = self.state();
        state.clock = ClockUse::Read;
        let now = state.now.expect("read where it was read before");
        START.plus(Duration::from_secs(now.into()))
    }

    /// Returns at once: the model decides who acts before the next call.
    async fn sleep(&self, _: Duration) {}
}

impl LogReads for Script<'_> {
    async fn head(&self, _: &LogKey) -> Result<Option<Head>, StoreError> {
        match self.ask(Call::Head).await {
            Answer::Head(head) => Ok(head.map(|head| self.epochs.head(head))),
            other => unreachable!("{other:?}"),
        }
    }

    async fn entries(
        &self,
        _: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        let place = |seq: &u64| {
            self.epochs.place(&Position {
                epoch: epoch.clone(),
                seq: *seq,
            })
        };
        let (first, last) = (place(numbers.start()), place(numbers.end()));
        let call = Call::Entries {
            first,
            last: last.seq,
        };
        match self.ask(call).await {
            Answer::Entries(entries) => {
                let entries = entries.into_iter();
                Ok(entries.map(|entry| self.epochs.entry(entry)).collect())
            }
            other => unreachable!("{other:?}"),
        }
    }
}

impl LogAppends for Script<'_> {
    async fn tail(&self, _: &LogKey) -> Result<Option<Tail>, StoreError> {
        match self.ask(Call::Tail).await {
            Answer::Tail(tail) => Ok(tail.map(|(head, is_stored)| Tail {
                head: self.epochs.head(head),
                is_stored,
            })),
            other => unreachable!("{other:?}"),
        }
    }

    async fn advance(
        &self,
        _: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        let call = Call::Advance(Advance {
            from: from.map(|from| self.epochs.place(from)),
            to: self.epochs.newest(to),
            expires_at: super::code::seconds(expires_at),
            is_remembered: memory.is_some(),
        });
        match self.ask(call).await {
            Answer::Yes => Ok(Advanced::Yes),
            Answer::Moved(head) => Ok(Advanced::Moved(head.map(|head| self.epochs.head(head)))),
            Answer::Before(place) => Ok(Advanced::Before(self.epochs.position(place))),
            other => unreachable!("{other:?}"),
        }
    }

    async fn find_append(
        &self,
        _: &LogKey,
        _: &AppendId,
        _: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        unreachable!("appending and reading do not ask")
    }

    async fn store(&self, _: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        let call = Call::Store(self.epochs.stored(epoch, entry));
        match self.ask(call).await {
            Answer::Done => Ok(()),
            other => unreachable!("{other:?}"),
        }
    }
}
