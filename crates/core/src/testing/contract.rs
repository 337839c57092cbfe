//! What every implementation of a port must do, one function a promise.

mod broadcasts;
mod listings;
mod outbox;
mod places;
mod rows;
mod sweep;

use super::{BUDGET, PLACES, START, connection_id};
use crate::connection::Connection;
use crate::ports::{
    Admission, BroadcastStore, ConnectionStore, Inserted, NotServed, Places, SweepStore, Touched,
};
use crate::time::UnixMillis;

pub use outbox::outbox_contract;

/// Holds a store to the promises of [`ConnectionStore`], [`SweepStore`] and
/// [`BroadcastStore`].
/// `new` makes an empty one.
///
/// # Panics
/// If a promise is broken.
pub async fn store_contract<S: ConnectionStore + SweepStore + BroadcastStore>(
    new: impl AsyncFn() -> S,
) {
    rows::keep(&new).await;
    places::keep(&new).await;
    listings::keep(&new).await;
    sweep::keep(&new).await;
    broadcasts::keep(&new).await;
}

/// Lets a connection in whose token was made at [`START`].
async fn insert<S: ConnectionStore>(store: &S, row: &Connection, places: Places) -> Inserted {
    let admission = Admission {
        connection: row,
        token_issued_at: START.to_seconds(),
        replaces: None,
    };
    store.insert(admission, places).await.expect("insert")
}

/// Lets a connection in where there is room for everyone.
async fn put<S: ConnectionStore>(store: &S, row: &Connection) {
    assert_eq!(insert(store, row, PLACES).await, Inserted::Yes);
}

async fn touch_at<S: ConnectionStore>(store: &S, id: &str, now: UnixMillis) -> Touched {
    let touched = store.touch(&connection_id(id), &BUDGET, now).await;
    touched.expect("touch")
}

/// The row as a frame at [`START`] finds it.
async fn live<S: ConnectionStore>(store: &S, id: &str) -> Option<Connection> {
    match touch_at(store, id, START).await {
        Ok(row) => Some(row),
        Err(NotServed::Unknown) => None,
        other => panic!("{other:?}"),
    }
}
