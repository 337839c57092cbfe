//! Calls that read, item by item: a query is no snapshot.

use super::code::{Answer, Call, Code, Place, Stored};
use super::model::Step;
use super::world::{Progress, Store};

/// The steps that can come next in a call.
pub(super) fn pending_steps(call: &Call, progress: &Progress, steps: &mut Vec<Step>) {
    match (call, progress) {
        (Call::Head, _) | (Call::Tail, Progress::NewestEntry(_)) => steps.push(Step::ReadHead),
        (Call::Tail, Progress::Head(_)) => steps.push(Step::ReadNewestEntry),
        (Call::Tail, _) => steps.extend([Step::ReadHead, Step::ReadNewestEntry]),
        (Call::Entries { .. }, Progress::Entries { read, .. }) if !read.is_empty() => {
            steps.extend([Step::ReadEntry, Step::EndPage]);
        }
        (Call::Entries { .. }, _) => steps.push(Step::ReadEntry),
        (Call::Advance(_), _) => steps.push(Step::Advance),
        (Call::Store(_), _) => steps.push(Step::Store),
        (Call::Appended(_), _) => {}
    }
}

/// Reads one item. Returns the answer once all items are read, and the progress
/// until then.
pub(super) fn read(
    store: &Store,
    code: &Code,
    call: &Call,
    step: Step,
    progress: Progress,
) -> Result<Answer, Progress> {
    let newest_entry = || code.last(store.entries.iter().map(|entry| entry.place));
    match (call, step, progress) {
        (Call::Head, ..) => Ok(Answer::Head(store.newest())),
        (Call::Tail, _, Progress::NewestEntry(entry)) => Ok(tail(store.newest(), entry)),
        (Call::Tail, _, Progress::Head(head)) => Ok(tail(head, newest_entry())),
        (Call::Tail, Step::ReadHead, _) => Err(Progress::Head(store.newest())),
        (Call::Tail, ..) => Err(Progress::NewestEntry(newest_entry())),
        (Call::Entries { first, last }, step, progress) => {
            let (mut read, next) = match progress {
                Progress::Entries { read, next } => (read, next),
                _ => (Vec::new(), first.seq),
            };
            if step == Step::EndPage {
                return Ok(Answer::Entries(read));
            }
            let place = Place {
                seq: next,
                ..*first
            };
            read.extend(store.entry(place));
            if next == *last {
                return Ok(Answer::Entries(read));
            }
            let next = next + 1;
            Err(Progress::Entries { read, next })
        }
        (call, ..) => unreachable!("{call:?} reads nothing"),
    }
}

fn tail(head: Option<Stored>, newest_entry: Option<Place>) -> Answer {
    Answer::Tail(head.map(|head| (head, newest_entry == Some(head.place))))
}
