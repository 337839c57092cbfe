use std::time::Duration;

use crate::ports::{Outbox, PostError};
use crate::testing::connection_id;

/// Holds an outbox to the promises of [`Outbox`]: `open` names a connection
/// that is open, `gone` one that is not. The frames `one` and `two` are
/// posted to `open`, which is closed at the end.
///
/// # Panics
/// If a promise is broken.
pub async fn outbox_contract<O: Outbox>(outbox: &O, open: &str, gone: &str) {
    let (open, gone) = (connection_id(open), connection_id(gone));
    let timeout = Duration::from_secs(10);
    assert_eq!(outbox.post(&open, "one", timeout).await, Ok(()));
    assert_eq!(outbox.post(&open, "two", timeout).await, Ok(()));
    assert_eq!(outbox.post(&gone, "x", timeout).await, Err(PostError::Gone));
    assert_eq!(
        outbox.close(&gone).await,
        Ok(()),
        "closing what is not there"
    );
    for _ in 0..2 {
        assert_eq!(outbox.close(&open).await, Ok(()));
        assert_eq!(outbox.post(&open, "x", timeout).await, Err(PostError::Gone));
    }
}
