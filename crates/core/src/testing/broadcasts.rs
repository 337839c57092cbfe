use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use belfry_protocol::MessageId;

use super::FakeStore;
use crate::ports::{
    Begun, BroadcastKey, BroadcastRecord, BroadcastStore, Kept, Lease, Progress, SegmentView,
    StoreError, Taken, Workers,
};
use crate::time::{UnixMillis, UnixSeconds};

/// The broadcasts of a [`FakeStore`].
#[derive(Default)]
pub(super) struct Broadcasts {
    records: BTreeMap<MessageId, (BroadcastRecord, UnixSeconds)>,
    finished: Vec<BroadcastKey>,
    segments: BTreeMap<(BroadcastKey, u32), Segment>,
    turn: Option<(MessageId, UnixMillis)>,
}

struct Segment {
    /// `None` where anyone may take it.
    owner: Option<String>,
    version: u64,
    held_until: UnixMillis,
    progress: Progress,
}

impl BroadcastStore for FakeStore {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        expires_at: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        let mut broadcasts = self.broadcasts("begin")?;
        if let Some((known, end)) = broadcasts.records.get(id)
            && !end.has_passed(record.started_at)
        {
            return Ok(Begun::Known(known.clone()));
        }
        let kept = (record.clone(), expires_at);
        broadcasts.records.insert(id.clone(), kept);
        Ok(Begun::New)
    }

    async fn record(
        &self,
        id: &MessageId,
        now: UnixMillis,
    ) -> Result<Option<BroadcastRecord>, StoreError> {
        let broadcasts = self.broadcasts("record")?;
        let known = broadcasts.records.get(id);
        let known = known.filter(|(_, end)| !end.has_passed(now));
        Ok(known.map(|(record, _)| record.clone()))
    }

    async fn segments(&self, key: &BroadcastKey) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        let broadcasts = self.broadcasts("segments")?;
        let of_key = broadcasts.segments.iter().filter(|((of, _), _)| of == key);
        let view = |((_, index), segment): (&(BroadcastKey, u32), &Segment)| {
            let view = SegmentView {
                held_until: segment.held_until,
                is_taken: segment.owner.is_some(),
                progress: segment.progress.clone(),
            };
            (*index, view)
        };
        Ok(of_key.map(view).collect())
    }

    async fn offer(
        &self,
        key: &BroadcastKey,
        segment: u32,
        now: UnixMillis,
        until: UnixMillis,
        _: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut broadcasts = self.broadcasts("offer")?;
        let offered = broadcasts.segment(key, segment);
        if !offered.progress.is_done && offered.held_until <= now {
            offered.owner = None;
            offered.held_until = until;
        }
        Ok(())
    }

    async fn take(
        &self,
        key: &BroadcastKey,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        _: UnixSeconds,
    ) -> Result<Taken, StoreError> {
        let mut broadcasts = self.broadcasts("take")?;
        let taken = broadcasts.segment(key, segment);
        if taken.progress.is_done {
            return Ok(Taken::Done);
        }
        let is_others = taken.owner.as_deref().is_some_and(|other| other != owner);
        if taken.held_until > now && is_others {
            return Ok(Taken::Held(taken.held_until));
        }
        taken.owner = Some(owner.into());
        taken.version += 1;
        taken.held_until = until;
        Ok(Taken::Yes(Lease {
            version: taken.version,
            owner: owner.into(),
            progress: taken.progress.clone(),
        }))
    }

    async fn checkpoint(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        kept: Kept,
    ) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("checkpoint")?;
        let held = broadcasts.segment(key, segment);
        if held.version != lease.version {
            return Ok(false);
        }
        held.progress = lease.progress.clone();
        (held.owner, held.held_until) = match kept {
            Kept::ForOwner(until) => (Some(lease.owner.clone()), until),
            Kept::ForAnyone(until) => (None, until),
        };
        Ok(true)
    }

    async fn hold(
        &self,
        key: &BroadcastKey,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("hold")?;
        let held = broadcasts.segment(key, segment);
        let is_own = held.version == lease.version && !held.progress.is_done;
        if is_own {
            held.held_until = until;
        }
        Ok(is_own)
    }

    async fn finish(&self, key: &BroadcastKey, _: UnixMillis) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("finish")?;
        let known = broadcasts.records.get(&key.id);
        let is_its = known.is_some_and(|(record, _)| record.started_at == key.started_at);
        let is_first = is_its && !broadcasts.finished.contains(key);
        broadcasts.finished.push(key.clone());
        Ok(is_first)
    }

    async fn take_turn(
        &self,
        id: &MessageId,
        now: UnixMillis,
        interval: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        let mut broadcasts = self.broadcasts("take_turn")?;
        if let Some((last, at)) = &broadcasts.turn {
            let next = at.plus(interval);
            if next > now {
                let has_it = last == id;
                return Ok((!has_it).then(|| next.since(now)));
            }
        }
        broadcasts.turn = Some((id.clone(), now));
        Ok(None)
    }
}

impl Broadcasts {
    fn segment(&mut self, key: &BroadcastKey, segment: u32) -> &mut Segment {
        let entry = self.segments.entry((key.clone(), segment));
        entry.or_insert_with(|| Segment {
            owner: None,
            version: 0,
            held_until: UnixMillis(0),
            progress: Progress::default(),
        })
    }
}

/// Remembers which workers were asked for.
#[derive(Debug, Default)]
pub struct FakeWorkers {
    asked: Mutex<Vec<(MessageId, u32)>>,
    refusals: AtomicU32,
}

impl FakeWorkers {
    /// Refuses to start the next so many.
    pub fn refuse(&self, count: u32) {
        self.refusals.store(count, Ordering::SeqCst);
    }

    /// How many were asked for and not taken yet.
    ///
    /// # Panics
    /// If a thread panicked while it asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.lock().expect("a whole list").len()
    }

    /// Who was asked for since this was last asked: broadcast and segment.
    ///
    /// # Panics
    /// If a thread panicked while it asked.
    #[must_use]
    pub fn take(&self) -> Vec<(MessageId, u32)> {
        std::mem::take(&mut *self.asked.lock().expect("a whole list"))
    }
}

impl Workers for FakeWorkers {
    async fn start(&self, id: &MessageId, segment: u32) -> Result<(), String> {
        let refusals = &self.refusals;
        let left = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err("told to refuse".into());
        }
        let mut asked = self.asked.lock().expect("a whole list");
        asked.push((id.clone(), segment));
        Ok(())
    }
}
