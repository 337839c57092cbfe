//! Figures as log lines that CloudWatch turns into metrics: the embedded
//! metric format.

use std::io::{self, Write};

use belfry_core::UnixMillis;
use belfry_core::ports::{Clock, Metrics};
use serde_json::{Value, json};

/// The namespace of Belfry's metrics.
const NAMESPACE: &str = "Belfry";

/// Writes figures to standard output, which Lambda sends to CloudWatch.
#[derive(Debug, Clone)]
pub struct EmfMetrics<C> {
    stack: String,
    clock: C,
}

impl<C: Clock> EmfMetrics<C> {
    /// Figures of one stack.
    #[must_use]
    pub fn new(stack: String, clock: C) -> Self {
        Self { stack, clock }
    }
}

impl<C: Clock> Metrics for EmfMetrics<C> {
    fn connections_open(&self, count: u64) {
        let line = gauge(&self.stack, "ConnectionsOpen", count, self.clock.now());
        // A log that cannot be written has nowhere to complain.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// One line for one figure (AWS: "Specification: Embedded metric format").
fn gauge(stack: &str, name: &str, count: u64, now: UnixMillis) -> Value {
    json!({
        "_aws": {
            "Timestamp": now.0,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["Stack"]],
                "Metrics": [{"Name": name, "Unit": "Count"}],
            }],
        },
        "Stack": stack,
        name: count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_cloudwatch_needs() {
        let line = gauge(
            "belfry-dev",
            "ConnectionsOpen",
            7,
            UnixMillis(1_770_660_703_822),
        );
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(line["_aws"]["Timestamp"], 1_770_660_703_822_u64);
        assert_eq!(metrics["Namespace"], "Belfry");
        // Each dimension and each metric that is named stands beside them.
        let dimension = metrics["Dimensions"][0][0].as_str().unwrap();
        assert_eq!(line[dimension], "belfry-dev");
        let metric = metrics["Metrics"][0]["Name"].as_str().unwrap();
        assert_eq!(line[metric], 7);
    }
}
