use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use belfry_protocol::MessageId;

use crate::ports::Workers;

/// Remembers which workers were started.
#[derive(Debug, Default)]
pub struct FakeWorkers {
    started: Mutex<Vec<(MessageId, u32)>>,
    refusals: AtomicU32,
}

impl FakeWorkers {
    /// Makes the next `count` starts fail.
    pub fn refuse(&self, count: u32) {
        self.refusals.store(count, Ordering::SeqCst);
    }

    /// The number of workers that were started and not taken.
    ///
    /// # Panics
    /// If a thread panicked while it started one.
    #[must_use]
    pub fn started(&self) -> usize {
        self.started.lock().expect("a whole list").len()
    }

    /// Takes the workers that were started since the last call: broadcast and
    /// segment.
    ///
    /// # Panics
    /// If a thread panicked while it started one.
    #[must_use]
    pub fn take(&self) -> Vec<(MessageId, u32)> {
        std::mem::take(&mut *self.started.lock().expect("a whole list"))
    }
}

impl Workers for FakeWorkers {
    async fn start(&self, id: &MessageId, segment: u32) -> Result<(), String> {
        let refusals = &self.refusals;
        let left = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err("told to refuse".into());
        }
        let mut started = self.started.lock().expect("a whole list");
        started.push((id.clone(), segment));
        Ok(())
    }
}

/// Holds workers to the promises of [`Workers`]: each start succeeds and
/// becomes a task. `tasks` takes the tasks that were queued.
///
/// # Panics
/// If a promise is broken.
pub async fn workers_contract<W: Workers>(
    workers: &W,
    tasks: impl AsyncFn() -> Vec<(String, u32)>,
) {
    let id = MessageId::parse("m-1").expect("a message id");
    for segment in [0, 7] {
        assert_eq!(workers.start(&id, segment).await, Ok(()));
    }
    let expected = [("m-1".to_owned(), 0), ("m-1".to_owned(), 7)];
    assert_eq!(tasks().await, expected);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let workers = FakeWorkers::default();
        workers_contract(&workers, async || {
            let tasks = workers.take().into_iter();
            tasks
                .map(|(id, segment)| (id.to_string(), segment))
                .collect()
        })
        .await;
        workers.refuse(1);
        let id = MessageId::parse("m").unwrap();
        assert!(workers.start(&id, 0).await.is_err());
        assert_eq!(workers.started(), 0);
    }
}
