//! Who receives a broadcast.

use std::collections::{BTreeSet, HashSet};

use belfry_protocol::{ConnectionId, Target};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::connection::Recipient;
use crate::ports::{ConnectionStore, Segment, StoreError};
use crate::time::UnixMillis;

/// How many queries run at a time when a broadcast names many users.
const PARALLEL_QUERIES: usize = 16;

/// How many segments of the table are scanned at a time.
const SCAN_SEGMENTS: u32 = 4;

/// The recipients of a broadcast.
pub(super) struct Recipients {
    /// Open connections, each once.
    pub(super) found: Vec<Recipient>,
    /// Connections that the caller named and that are not there.
    pub(super) missing: Vec<ConnectionId>,
}

/// Lists the connections of a target whose row is live and whose token is
/// not over.
pub(super) async fn find<S: ConnectionStore>(
    store: &S,
    target: Target,
    now: UnixMillis,
) -> Result<Recipients, StoreError> {
    let (mut found, named) = match target {
        Target::User { user_id } => (store.of_user(&user_id, now).await?, Vec::new()),
        Target::Users { user_ids } => {
            let users: BTreeSet<_> = user_ids.into_vec().into_iter().collect();
            let found = stream::iter(&users)
                .map(|user| store.of_user(user, now))
                .buffer_unordered(PARALLEL_QUERIES)
                .try_concat()
                .await?;
            (found, Vec::new())
        }
        Target::Connections { connection_ids } => {
            let distinct: BTreeSet<_> = connection_ids.into_vec().into_iter().collect();
            let ids: Vec<_> = distinct.into_iter().collect();
            (store.of_ids(&ids, now).await?, ids)
        }
        Target::All {} => (scan_all(store, now).await?, Vec::new()),
    };
    found.retain(|recipient| !recipient.token_expires_at.has_passed(now));
    // A listing that is a moment behind may show a row twice; nobody gets a frame twice.
    found.sort_unstable();
    found.dedup_by(|a, b| a.id == b.id);
    let open: HashSet<_> = found.iter().map(|recipient| &recipient.id).collect();
    let missing = named.into_iter().filter(|id| !open.contains(id)).collect();
    Ok(Recipients { found, missing })
}

async fn scan_all<S: ConnectionStore>(
    store: &S,
    now: UnixMillis,
) -> Result<Vec<Recipient>, StoreError> {
    let segments = (0..SCAN_SEGMENTS).map(async |index| {
        let segment = Segment {
            index,
            total: SCAN_SEGMENTS,
        };
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let page = store.scan(segment, from, now).await?;
            found.extend(page.recipients);
            from = page.next;
            if from.is_none() {
                return Ok(found);
            }
        }
    });
    Ok(try_join_all(segments).await?.concat())
}
