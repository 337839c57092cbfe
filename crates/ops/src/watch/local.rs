//! The local stack's metrics, from `GET /_local/metrics`.

use serde::Deserialize;
use tokio::time::Instant;

use super::Recent;
use super::figures::{Measured, push};
use crate::error::OpsError;
use crate::http::Http;

pub(super) struct LocalMetrics {
    http: Http,
    endpoint: String,
    before: Option<(Instant, Totals)>,
    measured: Measured,
}

/// What has happened since the stack started.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    frames_served: f64,
    posts_accepted: f64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    totals: Totals,
    recent: Recent,
    /// Broadcasts of the last minute.
    broadcasts: Option<Percentiles>,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

pub(super) async fn recent(endpoint: &str) -> Result<Recent, OpsError> {
    Ok(read(&Http::plain(), endpoint).await?.recent)
}

async fn read(http: &Http, endpoint: &str) -> Result<Answer, OpsError> {
    let answer = http.get(&format!("{endpoint}/_local/metrics")).await;
    let answer = answer.map_err(|cause| OpsError::NoLocalStack {
        endpoint: endpoint.to_owned(),
        cause,
    })?;
    serde_json::from_str(&answer.text).map_err(|error| OpsError::UnknownReport(error.to_string()))
}

impl LocalMetrics {
    pub(super) fn new(endpoint: &str) -> Self {
        Self {
            http: Http::plain(),
            endpoint: endpoint.to_owned(),
            before: None,
            measured: Measured::default(),
        }
    }

    pub(super) async fn measure(&mut self) -> Result<Measured, OpsError> {
        let answer = read(&self.http, &self.endpoint).await?;
        self.add(Instant::now(), &answer);
        Ok(self.measured.clone())
    }

    fn add(&mut self, now: Instant, answer: &Answer) {
        if let Some((before, totals)) = self.before.replace((now, answer.totals)) {
            let seconds = now.duration_since(before).as_secs_f64().max(0.001);
            // A stack that was started anew counts from zero.
            let rate = |now: f64, before: f64| (now - before).max(0.0) / seconds;
            let now = answer.totals;
            push(
                &mut self.measured.frames,
                rate(now.frames_served, totals.frames_served),
            );
            push(
                &mut self.measured.posts,
                rate(now.posts_accepted, totals.posts_accepted),
            );
        }
        let percentiles = answer.broadcasts.as_ref();
        push(&mut self.measured.p50, percentiles.map(|it| it.p50));
        push(&mut self.measured.p99, percentiles.map(|it| it.p99));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_differences_and_never_negative() {
        let mut metrics = LocalMetrics::new("http://127.0.0.1:1");
        let start = Instant::now();
        let answer = |frames| Answer {
            totals: Totals {
                frames_served: frames,
                posts_accepted: 0.0,
            },
            recent: Recent::default(),
            broadcasts: None,
        };
        for (seconds, frames) in [(0, 10.0), (2, 14.0), (4, 1.0)] {
            metrics.add(start + Duration::from_secs(seconds), &answer(frames));
        }
        assert_eq!(metrics.measured.frames, [2.0, 0.0]);
        assert_eq!(metrics.measured.p50, [None, None, None]);
    }
}
