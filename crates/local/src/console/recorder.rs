//! The latest frames, connections and invocations, while somebody looks.
//!
//! There is one bounded list for all pages. Each page reads it at its own speed
//! and is told if it was too slow, so a slow page holds nothing back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::record::{Direction, Event, Record};
use crate::clock;
use crate::lambda::{NotInvoked, Outcome};

/// With texts of at most 4 KB each, some megabytes.
const MAX_RECORDS: usize = 1_000;

/// Each page costs a stream, and a list of the connections four times a second.
const MAX_WATCHES: usize = 16;

#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Checked first: without a page, no caller waits for the lock.
    watches: AtomicUsize,
    records: Mutex<Records>,
    /// The newest record's number.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Records {
    list: VecDeque<Arc<Record>>,
    /// The newest record's number; the first one is 1.
    newest: u64,
}

impl Records {
    fn before_oldest(&self) -> u64 {
        self.newest - self.list.len() as u64
    }
}

impl Recorder {
    fn is_on(&self) -> bool {
        self.0.watches.load(Ordering::Relaxed) > 0
    }

    /// The time, if invocations are recorded now.
    pub(crate) fn started(&self) -> Option<tokio::time::Instant> {
        self.is_on().then(tokio::time::Instant::now)
    }

    pub(crate) fn connected(&self, connection: &str) {
        self.record(|| Event::Connected {
            connection: connection.to_owned(),
        });
    }

    pub(crate) fn disconnected(&self, connection: &str, code: u16, reason: &str) {
        self.record(|| Event::disconnected(connection, code, reason));
    }

    pub(crate) fn refused(&self, connection: &str, status: u16) {
        self.record(|| Event::Refused {
            connection: connection.to_owned(),
            status,
        });
    }

    pub(crate) fn frame(&self, connection: &str, direction: Direction, text: &str) {
        self.record(|| Event::frame(connection, direction, text));
    }

    pub(crate) fn invoked(
        &self,
        function: &str,
        request_id: &str,
        duration: Duration,
        outcome: &Outcome,
    ) {
        self.record(|| Event::invocation(function, request_id, duration, outcome));
    }

    pub(crate) fn not_invoked(&self, function: &str, cause: &NotInvoked) {
        self.record(|| Event::Throttled {
            function: function.to_owned(),
            reason: cause.to_string(),
        });
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if self.is_on() {
            self.add(event());
        }
    }

    fn add(&self, event: Event) {
        let mut records = self.records();
        records.newest += 1;
        let number = records.newest;
        if records.list.len() == MAX_RECORDS {
            records.list.pop_front();
        }
        records.list.push_back(Arc::new(Record {
            number,
            at_ms: clock::now_ms(),
            event,
        }));
        // Inside the lock, so that the numbers come in order.
        self.0.newest.send_replace(number);
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        let records = self.0.records.lock();
        records.expect("no code panics while holding the lock")
    }

    /// Records until the watch is dropped. `None` if too many pages are open.
    pub(super) fn watch(&self) -> Option<Watch> {
        let more = |watches| (watches < MAX_WATCHES).then_some(watches + 1);
        let watches = &self.0.watches;
        let before = watches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let has_gap = before.ok()? == 0 && self.records().newest > 0;
        if has_gap {
            self.add(Event::Gap);
        }
        Some(Watch {
            newest: self.0.newest.subscribe(),
            recorder: self.clone(),
        })
    }
}

/// An open page.
pub(super) struct Watch {
    recorder: Recorder,
    newest: watch::Receiver<u64>,
}

/// Records in order.
#[derive(Debug)]
pub(super) struct Batch {
    /// Records after the cursor that are no longer kept.
    missed: u64,
    pub(super) records: Vec<Arc<Record>>,
}

impl Batch {
    pub(super) fn to_json(&self) -> Value {
        let records = self.records.iter().map(|record| json!(**record));
        json!({"missed": self.missed, "records": records.collect::<Vec<_>>()})
    }
}

impl Watch {
    /// The cursor of a page that has seen nothing.
    pub(super) fn beginning(&self) -> u64 {
        self.recorder.records().before_oldest()
    }

    /// Whether a page can have seen this record.
    pub(super) fn has_had(&self, number: u64) -> bool {
        number <= self.recorder.records().newest
    }

    /// The records after this one, as soon as there are any. Cancelling this
    /// loses nothing.
    pub(super) async fn after(&mut self, number: u64) -> Batch {
        // This fails only without a sender, and the recorder holds the sender.
        let _ = self.newest.wait_for(|newest| *newest > number).await;
        let records = self.recorder.records();
        let before_oldest = records.before_oldest();
        let skipped = number.saturating_sub(before_oldest);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        Batch {
            missed: before_oldest.saturating_sub(number),
            records: records.list.iter().skip(skipped).cloned().collect(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.recorder.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.number).collect()
    }

    #[tokio::test]
    async fn nothing_is_recorded_while_no_page_is_open() {
        let recorder = Recorder::default();
        recorder.connected("a");
        let mut page = recorder.watch().unwrap();
        assert_eq!(page.beginning(), 0);
        recorder.connected("b");
        assert_eq!(numbers(&page.after(0).await), [1]);
        drop(page);
        recorder.connected("c");
        let mut page = recorder.watch().unwrap();
        let batch = page.after(0).await;
        assert_eq!(numbers(&batch), [1, 2]);
        assert!(matches!(batch.records[1].event, Event::Gap));
    }

    #[tokio::test]
    async fn a_slow_page_is_told_what_it_missed() {
        let recorder = Recorder::default();
        let mut page = recorder.watch().unwrap();
        for _ in 0..MAX_RECORDS + 7 {
            recorder.connected("a");
        }
        let batch = page.after(3).await;
        assert_eq!(batch.missed, 4);
        assert_eq!(batch.records.len(), MAX_RECORDS);
        assert_eq!(batch.records[0].number, 8);
        let batch = page.after(1_005).await;
        assert_eq!((batch.missed, numbers(&batch)), (0, vec![1_006, 1_007]));
    }

    #[test]
    fn pages_are_bounded() {
        let recorder = Recorder::default();
        let pages: Vec<_> = (0..MAX_WATCHES).map(|_| recorder.watch()).collect();
        assert!(pages.iter().all(Option::is_some));
        assert!(recorder.watch().is_none());
        drop(pages);
        assert!(recorder.watch().is_some());
    }
}
