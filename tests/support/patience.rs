//! Waiting with a deadline. Nothing in a test waits without one: a test that
//! cannot pass must fail, and say what it was waiting for.

use std::process::Output;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::process::Command;

/// How long a test waits for anything. Far longer than anything takes: a test
/// that comes close has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two checks of a condition.
const BETWEEN_CHECKS: Duration = Duration::from_millis(5);

/// Waits for a future.
///
/// # Panics
/// If it does not complete in time. The message names the event, like
/// "the handshake ends".
pub async fn soon<T>(event: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("not within {} s: {event}", PATIENCE.as_secs()))
}

/// Checks a condition until it holds.
///
/// # Panics
/// If it does not hold in time. The message names the event.
pub async fn until(event: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(BETWEEN_CHECKS).await;
        }
    };
    soon(event, waiting).await;
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not start, or does not end in time.
pub async fn ended(command: &mut Command) -> Output {
    let output = command.kill_on_drop(true).output();
    soon("the program ends", output)
        .await
        .expect("the program starts")
}

/// Runs these a few at a time. The local stack runs ten frames or handshakes at a
/// time, and refuses what has waited for five seconds.
pub async fn few_at_a_time<T>(futures: impl IntoIterator<Item: Future<Output = T>>) -> Vec<T> {
    stream::iter(futures).buffered(12).collect().await
}

/// An HTTP client that gives up in time.
///
/// # Panics
/// If the system's certificates cannot be read.
#[must_use]
pub fn http() -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(PATIENCE);
    builder.build().expect("a client")
}
