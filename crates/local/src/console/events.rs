//! The stream of Server-Sent Events that the page lives on.
//!
//! | event | data |
//! | --- | --- |
//! | `start` | the stack's URLs, and an id of this run of the stack |
//! | `state` | the current state; sent when it has changed, at most four times a second |
//! | `records` | what has happened since the last ones |
//!
//! The id of `records` is a cursor, with which a page that was cut off goes on.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::Console;
use super::recorder::Watch;

/// How often the state is looked at: often enough to learn the users of
/// connections that live briefly.
const STATE_INTERVAL: Duration = Duration::from_millis(250);

/// The pause between two batches of records: a stack under load sends larger ones,
/// not more.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Serves `GET /_local/console/events`.
pub(super) async fn stream(
    State(console): State<Console>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, (StatusCode, Json<Value>)> {
    let Some(watch) = console.sources.recorder.watch() else {
        let message = "too many consoles are open; close one";
        let refusal = (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"message": message})),
        );
        return Err(refusal);
    };
    let cursor = console.cursor(&headers).filter(|it| watch.has_had(*it));
    let mut ticks = interval(STATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let page = Page {
        cursor: cursor.unwrap_or_else(|| watch.beginning()),
        watch,
        ticks,
        state: Value::Null,
        not_before: Instant::now(),
        started: false,
        console,
    };
    let events = stream::unfold(page, async |mut page| {
        let event = page.next().await;
        Some((Ok(event), page))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

impl Console {
    /// The last record that a page has seen in this run of the stack.
    fn cursor(&self, headers: &HeaderMap) -> Option<u64> {
        let id = headers.get("last-event-id")?.to_str().ok()?;
        let number = id.strip_prefix(&*self.run)?.strip_prefix('.')?;
        number.parse().ok()
    }
}

/// One page's place in the stream.
struct Page {
    console: Console,
    watch: Watch,
    /// The last record that was sent.
    cursor: u64,
    ticks: Interval,
    /// The last state that was sent.
    state: Value,
    /// When the next records may be sent.
    not_before: Instant,
    started: bool,
}

impl Page {
    async fn next(&mut self) -> Event {
        if !self.started {
            self.started = true;
            let data = json!({"run": &*self.console.run, "stack": self.console.sources.ready});
            return event("start", &data);
        }
        loop {
            let records = async {
                sleep_until(self.not_before).await;
                self.watch.after(self.cursor).await
            };
            tokio::select! {
                batch = records => {
                    self.cursor = batch.records.last().map_or(self.cursor, |last| last.number);
                    self.not_before = Instant::now() + BATCH_INTERVAL;
                    let id = format!("{}.{}", self.console.run, self.cursor);
                    return event("records", &batch.to_json()).id(id);
                }
                _ = self.ticks.tick() => {
                    let state = self.console.state().await;
                    if state != self.state {
                        let event = event("state", &state);
                        self.state = state;
                        return event;
                    }
                }
            }
        }
    }
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
