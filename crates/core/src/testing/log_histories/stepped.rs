use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use belfry_protocol::{Epoch, Position};

use super::world::{Published, World};
use super::{Gate, Mutant};
use crate::log::{AppendId, Entry, Head, LogKey};
use crate::ports::{Advanced, LogAppends, LogReads, Memory, StoreError, Tail};
use crate::time::{UnixMillis, UnixSeconds};

/// A store as one actor sees it: each call waits for its turn, and the answer
/// may get lost.
pub(super) struct Stepped<'a, S> {
    pub(super) store: &'a S,
    pub(super) world: Arc<World>,
    pub(super) gate: Arc<Gate>,
    pub(super) mutant: Option<Mutant>,
    pub(super) random: Mutex<fastrand::Rng>,
    /// Messages of this actor.
    pub(super) own: Mutex<HashSet<AppendId>>,
    /// How many messages were published when the head was read last.
    pub(super) published_at_read: AtomicUsize,
    pub(super) last_head: Mutex<Option<Head>>,
    pub(super) read_before: Mutex<Vec<Entry>>,
}

/// What happens to the answer of a call.
enum Fault {
    None,
    /// It never comes.
    Lost,
    /// It gets lost on the way, and the client repeats the call.
    Repeated,
}

impl<S: LogAppends + LogReads> Stepped<'_, S> {
    fn fault(&self) -> Fault {
        match self.random.lock().expect("no panic").u32(0..20) {
            0 => Fault::Lost,
            1..=3 => Fault::Repeated,
            _ => Fault::None,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The answer, after another wait: the actor may die while it is on its way.
    async fn answer<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.gate.pass().await;
        match self.fault() {
            Fault::Lost => Err(StoreError {
                operation: "a call",
                cause: "the answer got lost".into(),
            }),
            Fault::None | Fault::Repeated => answer,
        }
    }

    async fn advance_once(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        let request = memory.filter(|_| to.is_purged());
        let request = request.map(|memory| memory.id.clone());
        let mut memory = memory;
        if self.is(Mutant::ForgetsMessages) {
            memory = None;
        }
        if self.is(Mutant::StoresBeforeAdvancing) {
            self.store.store(log, &to.epoch, &to.newest).await?;
            self.gate.pass().await;
        }
        let mut advanced = self
            .store
            .advance(log, from, to, expires_at, memory)
            .await?;
        if self.is(Mutant::AdvancesBlindly)
            && let Advanced::Moved(Some(head)) = &advanced
        {
            let from = Some(head.position());
            advanced = self
                .store
                .advance(log, from.as_ref(), to, expires_at, memory)
                .await?;
        }
        if advanced == Advanced::Yes {
            let published = to.entries().enumerate().map(|(part, entry)| Published {
                position: Position {
                    epoch: to.epoch.clone(),
                    seq: entry.seq,
                },
                id: entry.append_id,
                part,
                is_purge: to.is_purged(),
                request: request.clone(),
                expires_at: entry.expires_at,
                head_expires_at: expires_at,
            });
            self.world.publish(published);
        }
        if self.is(Mutant::IgnoresLostAnswers)
            && let Advanced::Moved(head) = &mut advanced
        {
            *head = None;
        }
        Ok(advanced)
    }
}

impl<S: LogAppends + LogReads> LogReads for Stepped<'_, S> {
    async fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        self.gate.pass().await;
        if self.is(Mutant::ReadsEntriesFirst)
            && let Some(head) = self.store.head(log).await?
        {
            let numbers = 1..=head.newest.seq;
            let entries = self.store.entries(log, &head.epoch, numbers).await?;
            *self.read_before.lock().expect("no panic") = entries;
            self.gate.pass().await;
        }
        let head = self.store.head(log).await?;
        let published = self.world.published();
        self.published_at_read.store(published, Ordering::SeqCst);
        let mut told = head.clone();
        if self.is(Mutant::ReadsStaleHeads) {
            let mut last = self.last_head.lock().expect("no panic");
            told = last.clone().or(head.clone());
            *last = head;
        }
        self.answer(Ok(told)).await
    }

    async fn entries(
        &self,
        log: &LogKey,
        epoch: &Epoch,
        numbers: RangeInclusive<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.gate.pass().await;
        let read = self.read_before.lock().expect("no panic").clone();
        if self.is(Mutant::ReadsEntriesFirst) && !read.is_empty() {
            return Ok(read
                .into_iter()
                .filter(|entry| numbers.contains(&entry.seq))
                .collect());
        }
        // No snapshot: the parts of a page are read one after the other.
        let (first, last) = numbers.into_inner();
        let middle = first + (last - first) / 2;
        let mut entries = self.store.entries(log, epoch, first..=middle).await?;
        let all_read = entries.last().is_some_and(|entry| entry.seq == middle);
        if middle < last && all_read {
            self.gate.pass().await;
            let rest = self.store.entries(log, epoch, middle + 1..=last).await?;
            entries.extend(rest);
        }
        self.answer(Ok(entries)).await
    }
}

impl<S: LogAppends + LogReads> LogAppends for Stepped<'_, S> {
    async fn tail(&self, log: &LogKey) -> Result<Option<Tail>, StoreError> {
        self.gate.pass().await;
        let tail = self.store.tail(log).await;
        self.answer(tail).await
    }

    async fn advance(
        &self,
        log: &LogKey,
        from: Option<&Position>,
        to: &Head,
        expires_at: UnixSeconds,
        memory: Option<Memory<'_>>,
    ) -> Result<Advanced, StoreError> {
        self.own
            .lock()
            .expect("no panic")
            .insert(to.newest.append_id.clone());
        self.gate.pass().await;
        let advanced = self.advance_once(log, from, to, expires_at, memory).await;
        self.gate.pass().await;
        match self.fault() {
            Fault::None => advanced,
            Fault::Lost => self.answer(advanced).await.and(Err(StoreError {
                operation: "advance",
                cause: "the answer got lost".into(),
            })),
            Fault::Repeated => self.advance_once(log, from, to, expires_at, memory).await,
        }
    }

    async fn find_append(
        &self,
        log: &LogKey,
        id: &AppendId,
        now: UnixMillis,
    ) -> Result<Option<Position>, StoreError> {
        self.gate.pass().await;
        let found = self.store.find_append(log, id, now).await;
        self.answer(found).await
    }

    async fn store(&self, log: &LogKey, epoch: &Epoch, entry: &Entry) -> Result<(), StoreError> {
        let is_own = self
            .own
            .lock()
            .expect("no panic")
            .contains(&entry.append_id);
        if !is_own && self.is(Mutant::SkipsHealing) {
            return Ok(());
        }
        if !is_own && self.is(Mutant::HealsNewestOnly) {
            let head = self.store.head(log).await?;
            if head.is_some_and(|head| head.newest.seq > entry.seq) {
                return Ok(());
            }
        }
        self.gate.pass().await;
        let stored = self.store.store(log, epoch, entry).await;
        self.answer(stored).await
    }
}
