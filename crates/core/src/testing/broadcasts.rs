use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use belfry_protocol::MessageId;

use super::FakeStore;
use crate::ports::{
    Begun, BroadcastRecord, BroadcastStore, Lease, Progress, SegmentView, StoreError, Taken,
    Workers,
};
use crate::time::{UnixMillis, UnixSeconds};

/// The broadcasts of a [`FakeStore`].
#[derive(Default)]
pub(super) struct Broadcasts {
    records: BTreeMap<MessageId, BroadcastRecord>,
    finished: Vec<MessageId>,
    segments: BTreeMap<(MessageId, u32), Segment>,
    turn: Option<(MessageId, UnixMillis)>,
}

struct Segment {
    owner: String,
    version: u64,
    held_until: UnixMillis,
    progress: Progress,
}

impl BroadcastStore for FakeStore {
    async fn begin(
        &self,
        id: &MessageId,
        record: &BroadcastRecord,
        _: UnixSeconds,
    ) -> Result<Begun, StoreError> {
        let mut broadcasts = self.broadcasts("begin")?;
        if let Some(known) = broadcasts.records.get(id) {
            return Ok(Begun::Known(known.clone()));
        }
        broadcasts.records.insert(id.clone(), record.clone());
        Ok(Begun::New)
    }

    async fn record(&self, id: &MessageId) -> Result<Option<BroadcastRecord>, StoreError> {
        Ok(self.broadcasts("record")?.records.get(id).cloned())
    }

    async fn segments(&self, id: &MessageId) -> Result<Vec<(u32, SegmentView)>, StoreError> {
        let broadcasts = self.broadcasts("segments")?;
        let of_id = broadcasts.segments.iter().filter(|((of, _), _)| of == id);
        let view = |((_, index), segment): (&(MessageId, u32), &Segment)| {
            let view = SegmentView {
                held_until: segment.held_until,
                progress: segment.progress.clone(),
            };
            (*index, view)
        };
        Ok(of_id.map(view).collect())
    }

    async fn take(
        &self,
        id: &MessageId,
        segment: u32,
        owner: &str,
        now: UnixMillis,
        until: UnixMillis,
        _: UnixSeconds,
    ) -> Result<Taken, StoreError> {
        let mut broadcasts = self.broadcasts("take")?;
        let key = (id.clone(), segment);
        let taken = broadcasts.segments.entry(key).or_insert_with(|| Segment {
            owner: owner.into(),
            version: 0,
            held_until: now,
            progress: Progress::default(),
        });
        if taken.progress.is_done {
            return Ok(Taken::Done);
        }
        if taken.held_until > now && taken.owner != owner {
            return Ok(Taken::Held(taken.held_until));
        }
        taken.owner = owner.into();
        taken.version += 1;
        taken.held_until = until;
        Ok(Taken::Yes(Lease {
            version: taken.version,
            progress: taken.progress.clone(),
        }))
    }

    async fn checkpoint(
        &self,
        id: &MessageId,
        segment: u32,
        lease: &Lease,
        until: UnixMillis,
    ) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("checkpoint")?;
        let held = broadcasts.segments.get_mut(&(id.clone(), segment));
        let Some(held) = held.filter(|held| held.version == lease.version) else {
            return Ok(false);
        };
        held.progress = lease.progress.clone();
        held.held_until = until;
        Ok(true)
    }

    async fn finish(&self, id: &MessageId, _: UnixMillis) -> Result<bool, StoreError> {
        let mut broadcasts = self.broadcasts("finish")?;
        let is_first = !broadcasts.finished.contains(id);
        broadcasts.finished.push(id.clone());
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

/// Remembers which workers were asked for.
#[derive(Debug, Default)]
pub struct FakeWorkers {
    asked: Mutex<Vec<(MessageId, u32)>>,
}

impl FakeWorkers {
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
        let mut asked = self.asked.lock().expect("a whole list");
        asked.push((id.clone(), segment));
        Ok(())
    }
}
