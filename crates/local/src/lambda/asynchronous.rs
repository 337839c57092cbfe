//! Asynchronous events: Lambda accepts them, retries them if the function
//! fails, and finally gives up ("Error handling for asynchronous invocation" in
//! the Lambda developer guide).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::function::Function;
use super::{Invocation, NotInvoked, Outcome};

/// The queue's size in KB; an event counts as at least 1 KB. Lambda documents
/// no limit for its own queue, but this one needs one.
const MAX_QUEUED_KB: u32 = 64 * 1024;

/// Only the latest dead letters are kept.
const MAX_DEAD_LETTERS: usize = 200;

/// The longest response that a dead letter includes, in bytes.
const MAX_RECORDED_RESPONSE_BYTES: usize = 256 * 1024;

/// A throttled event's first and longest wait: "from 1 second after the first
/// attempt to a maximum of 5 minutes".
const FIRST_THROTTLE_DELAY: Duration = Duration::from_secs(1);
const MAX_THROTTLE_DELAY: Duration = Duration::from_secs(5 * 60);

/// A failed event's wait before its second and its third attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryDelays {
    pub first: Duration,
    pub second: Duration,
}

impl RetryDelays {
    fn after(self, attempts: u32) -> Duration {
        if attempts == 1 {
            self.first
        } else {
            self.second
        }
    }
}

/// Asynchronous events that have not succeeded or failed for good yet.
#[derive(Clone)]
pub(super) struct EventQueue {
    delays: RetryDelays,
    capacity_kb: Arc<Semaphore>,
    unfinished: Arc<AtomicUsize>,
    dead_letters: DeadLetters,
}

impl EventQueue {
    pub(super) fn new(delays: RetryDelays) -> Self {
        Self {
            delays,
            capacity_kb: Arc::new(Semaphore::new(MAX_QUEUED_KB as usize)),
            unfinished: Arc::default(),
            dead_letters: DeadLetters::default(),
        }
    }

    pub(super) fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// The task ends when the event has succeeded or failed for good.
    pub(super) fn accept(
        &self,
        function: Arc<Function>,
        invocation: Invocation,
    ) -> Result<JoinHandle<()>, NotInvoked> {
        let kb = u32::try_from(invocation.payload.len().div_ceil(1_024)).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.capacity_kb).try_acquire_many_owned(kb.max(1)) else {
            return Err(NotInvoked::Throttled { reserved: false });
        };
        let queue = self.clone();
        queue.unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(tokio::spawn(async move {
            queue.deliver(&function, &invocation).await;
            queue.unfinished.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        }))
    }

    /// Warns about the events that are lost when the stack stops.
    pub(super) fn stop(&self) {
        let unfinished = self.unfinished.load(Ordering::Relaxed);
        if unfinished > 0 {
            tracing::warn!("{unfinished} unfinished asynchronous events are lost");
        }
    }

    async fn deliver(&self, function: &Function, invocation: &Invocation) {
        let config = &function.spec.event_invoke;
        let accepted = Instant::now();
        let mut attempts = 0;
        let mut throttle_delay = FIRST_THROTTLE_DELAY;
        loop {
            let (delay, failed) = match attempt(function, invocation).await {
                Ok(outcome) if !outcome.is_error => return,
                Ok(outcome) => {
                    attempts += 1;
                    (self.delays.after(attempts), Some(outcome))
                }
                Err(NotInvoked::Throttled { .. }) => {
                    let delay = throttle_delay;
                    throttle_delay = (delay * 2).min(MAX_THROTTLE_DELAY);
                    (delay, None)
                }
                Err(NotInvoked::Stopping | NotInvoked::Unknown(_)) => return,
            };
            let condition = if attempts > config.max_retries {
                Some("RetriesExhausted")
            } else if function.spec.reserved_concurrency == Some(0) {
                // "Lambda sends any new events … without any retries."
                Some("ZeroReservedConcurrency")
            } else if accepted.elapsed() + delay > config.max_age {
                Some("EventAgeExceeded")
            } else {
                None
            };
            if let Some(condition) = condition {
                let record = record(function, invocation, condition, attempts, failed.as_ref());
                return self.dead_letters.add(function, condition, &record);
            }
            tracing::warn!(
                function = function.spec.name,
                request = invocation.request_id,
                attempts,
                "an asynchronous event failed or was throttled; retrying in {delay:?}"
            );
            sleep(delay).await;
        }
    }
}

async fn attempt(function: &Function, invocation: &Invocation) -> Result<Outcome, NotInvoked> {
    let permit = function.acquire().await?;
    function.invoke(permit, invocation.clone(), None).await
}

/// The record that Lambda sends to an on-failure destination. `failed` is the
/// last attempt's outcome, or `None` if that attempt was throttled.
fn record(
    function: &Function,
    invocation: &Invocation,
    condition: &str,
    attempts: u32,
    failed: Option<&Outcome>,
) -> Value {
    let parsed = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let mut record = json!({
        "version": "1.0",
        "timestamp": format!("{:.3}", jiff::Timestamp::now()),
        "requestContext": {
            "requestId": invocation.request_id,
            "functionArn": format!("{}:$LATEST", function.arn()),
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": parsed(&invocation.payload),
    });
    if let Some(outcome) = failed {
        record["responseContext"] = json!({
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        });
        record["responsePayload"] = if outcome.payload.len() > MAX_RECORDED_RESPONSE_BYTES {
            "(too long to keep)".into()
        } else {
            parsed(&outcome.payload)
        };
    }
    record
}

/// The latest events that failed for good.
#[derive(Clone, Default)]
pub(crate) struct DeadLetters(Arc<Mutex<Letters>>);

#[derive(Default)]
struct Letters {
    newest: VecDeque<Arc<Value>>,
    /// Those included that are no longer kept.
    added: u64,
}

impl DeadLetters {
    fn add(&self, function: &Function, condition: &str, record: &Value) {
        let spec = &function.spec;
        let destination = spec.event_invoke.destination.as_deref();
        tracing::error!(
            function = spec.name,
            condition,
            destination = destination.unwrap_or("none: on AWS this event would be lost"),
            "DEAD LETTER: an asynchronous event failed for good; see GET /_local/dead-letters"
        );
        let mut letters = self.letters();
        if letters.newest.len() == MAX_DEAD_LETTERS {
            letters.newest.pop_front();
        }
        letters.newest.push_back(Arc::new(json!({
            "function": spec.name,
            "destination": destination,
            "record": record,
        })));
        letters.added += 1;
    }

    /// How many there have been.
    pub(crate) fn added(&self) -> u64 {
        self.letters().added
    }

    /// Oldest first.
    pub(crate) fn list(&self) -> Vec<Value> {
        let newest: Vec<_> = self.letters().newest.iter().cloned().collect();
        newest.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// How many there are, and so many of the newest, newest first.
    pub(crate) fn newest(&self, most: usize) -> (usize, Vec<Arc<Value>>) {
        let newest = &self.letters().newest;
        (
            newest.len(),
            newest.iter().rev().take(most).cloned().collect(),
        )
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.0
            .lock()
            .expect("no code panics while holding the lock")
    }
}
