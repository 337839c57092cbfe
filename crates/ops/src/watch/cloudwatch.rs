//! Metrics and alarms of a stack on AWS.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::figures::{MAX_VALUES, Measured};
use super::{RECENT_SECONDS, Recent};
use crate::cloud::Cloud;
use crate::error::OpsError;
use crate::output::now;

/// CloudWatch has one value a minute, and each question costs money.
const METRICS_INTERVAL: Duration = Duration::from_secs(30);

/// The seconds of one value.
const PERIOD: i64 = 60;

/// Pages of 100 alarms: many more than a stack has, and than anybody reads.
const MAX_PAGES: usize = 10;

/// The sums of what happened in the whole minutes before now.
pub(super) async fn recent(cloud: &Cloud, stack: &str) -> Result<Recent, OpsError> {
    let end = now().as_second() / PERIOD * PERIOD;
    let request = json!({
        "StartTime": end - RECENT_SECONDS,
        "EndTime": end,
        "MetricDataQueries": [frames(stack), statistic(stack, "posts", "PostsAccepted", "Sum")],
    });
    let operation = "cloudwatch:GetMetricData";
    let answer = cloud.cloudwatch("GetMetricData", operation, &request);
    let results = results(answer.await?)?;
    let sum = |id: &str| {
        let values = results.iter().filter(|result| result.id == id);
        values.flat_map(|result| &result.values).sum()
    };
    Ok(Recent {
        frames_served: sum("frames"),
        posts_accepted: sum("posts"),
    })
}

pub(super) struct CloudWatch<'a> {
    cloud: &'a Cloud,
    stack: &'a str,
    metrics_at: Option<Instant>,
    measured: Measured,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricResult {
    id: String,
    #[serde(default)]
    timestamps: Vec<f64>,
    #[serde(default)]
    values: Vec<f64>,
}

impl<'a> CloudWatch<'a> {
    pub(super) fn new(cloud: &'a Cloud, stack: &'a str) -> Self {
        Self {
            cloud,
            stack,
            metrics_at: None,
            measured: Measured::default(),
        }
    }

    pub(super) async fn measure(&mut self) -> Result<Measured, OpsError> {
        if self
            .metrics_at
            .is_none_or(|at| at.elapsed() >= METRICS_INTERVAL)
        {
            self.metrics_at = Some(Instant::now());
            let end = now().as_second() / PERIOD * PERIOD;
            let request = metrics_request(self.stack, end);
            let operation = "cloudwatch:GetMetricData";
            let answer = self.cloud.cloudwatch("GetMetricData", operation, &request);
            self.read_metrics(answer.await?, end)?;
        }
        self.measured.alarms = Some(self.alarms().await?);
        Ok(self.measured.clone())
    }

    /// The names of the stack's alarms that are in ALARM.
    async fn alarms(&self) -> Result<Vec<String>, OpsError> {
        let operation = "cloudwatch:DescribeAlarms";
        let mut request = json!({
            "AlarmNamePrefix": format!("{}-", self.stack),
            // The default is metric alarms only.
            "AlarmTypes": ["MetricAlarm", "CompositeAlarm"],
            "StateValue": "ALARM",
            "MaxRecords": 100,
        });
        let mut names = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = self.cloud.cloudwatch("DescribeAlarms", operation, &request);
            let mut page = page.await?;
            names.extend(alarms(&page));
            match page["NextToken"].take() {
                Value::Null => break,
                token => request["NextToken"] = token,
            }
        }
        Ok(names)
    }

    fn read_metrics(&mut self, answer: Value, end: i64) -> Result<(), OpsError> {
        let results = results(answer)?;
        let minutes = |id: &str| {
            let result = results.iter().find(|result| result.id == id);
            result
                .map(|result| by_minute(result, end))
                .unwrap_or_default()
        };
        #[expect(clippy::cast_precision_loss, reason = "60 is small")]
        let rates = |id: &str| {
            let minutes = minutes(id).into_iter();
            minutes
                .map(|sum| sum.unwrap_or_default() / PERIOD as f64)
                .collect()
        };
        self.measured.frames = rates("frames");
        self.measured.posts = rates("posts");
        self.measured.p50 = minutes("p50");
        self.measured.p99 = minutes("p99");
        Ok(())
    }
}

fn results(mut answer: Value) -> Result<Vec<MetricResult>, OpsError> {
    serde_json::from_value(answer["MetricDataResults"].take())
        .map_err(|error| OpsError::UnknownReport(error.to_string()))
}

#[expect(clippy::cast_possible_wrap, reason = "60 is small")]
fn start(end: i64) -> i64 {
    end - MAX_VALUES as i64 * PERIOD
}

fn statistic(stack: &str, id: &str, metric: &str, statistic: &str) -> Value {
    json!({"Id": id, "MetricStat": {
        "Metric": {
            "Namespace": "Belfry",
            "MetricName": metric,
            "Dimensions": [{"Name": "Stack", "Value": stack}],
        },
        "Period": PERIOD,
        "Stat": statistic,
    }})
}

/// Frames are counted by their type.
fn frames(stack: &str) -> Value {
    let sum = format!(
        "SUM(SEARCH('{{Belfry,Stack,Type}} MetricName=\"FramesServed\" Stack=\"{stack}\"', 'Sum', {PERIOD}))"
    );
    json!({"Id": "frames", "Expression": sum})
}

fn metrics_request(stack: &str, end: i64) -> Value {
    let statistic = |id: &str, metric: &str, name: &str| statistic(stack, id, metric, name);
    json!({
        "StartTime": start(end),
        "EndTime": end,
        "ScanBy": "TimestampAscending",
        "MetricDataQueries": [
            frames(stack),
            statistic("posts", "PostsAccepted", "Sum"),
            statistic("p50", "BroadcastDuration", "p50"),
            statistic("p99", "BroadcastDuration", "p99"),
        ],
    })
}

/// The value of each minute before the end, oldest first. CloudWatch leaves out
/// minutes in which nothing happened.
#[expect(clippy::cast_possible_truncation, reason = "times are whole seconds")]
fn by_minute(result: &MetricResult, end: i64) -> Vec<Option<f64>> {
    let times = result.timestamps.iter().map(|time| *time as i64);
    let values: HashMap<_, _> = times.zip(result.values.iter().copied()).collect();
    let mut minutes: Vec<_> = (0..)
        .map(|minute| start(end) + minute * PERIOD)
        .take_while(|time| *time < end)
        .map(|time| values.get(&time).copied())
        .collect();
    // The last minute's values may not have come yet.
    if minutes.last() == Some(&None) {
        minutes.pop();
    }
    minutes
}

fn alarms(answer: &Value) -> Vec<String> {
    let kinds = ["MetricAlarms", "CompositeAlarms"].into_iter();
    let alarms = kinds.filter_map(|kind| answer[kind].as_array()).flatten();
    let names = alarms.filter_map(|alarm| alarm["AlarmName"].as_str());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_without_a_value_is_a_gap_unless_it_is_the_last() {
        let end = 1_800_000_000 / PERIOD * PERIOD;
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let at = |minutes: i64| (end - minutes * PERIOD) as f64;
        let result = MetricResult {
            id: "posts".into(),
            timestamps: vec![at(4), at(2)],
            values: vec![60.0, 120.0],
        };
        let minutes = by_minute(&result, end);
        assert_eq!(minutes.len(), MAX_VALUES - 1);
        assert_eq!(minutes[MAX_VALUES - 4..], [Some(60.0), None, Some(120.0)]);
    }

    #[test]
    fn alarms_of_both_kinds_are_named() {
        let answer =
            json!({"MetricAlarms": [{"AlarmName": "a"}], "CompositeAlarms": [{"AlarmName": "b"}]});
        assert_eq!(alarms(&answer), ["a", "b"]);
        assert!(alarms(&json!({})).is_empty());
    }
}
