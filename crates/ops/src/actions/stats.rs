//! `stats`.

use belfry_protocol::{ChannelCounts, Stats};
use serde_json::json;

use super::Outcome;
use crate::error::OpsError;
use crate::output::{Output, grouped, table};
use crate::stack::{Stack, read};

pub(super) async fn stats(stack: &Stack, output: &mut Output) -> Result<Outcome, OpsError> {
    let report = stack.ask(&json!({"action": "stats"})).await?;
    output.result(&report, || Ok(summary(&read(&report)?)))?;
    Ok(Outcome::Complete)
}

fn summary(stats: &Stats) -> String {
    let limit = stats
        .max_connections
        .map(|most| format!(" of {}", grouped(most)));
    let connections = format!(
        "{}{}",
        grouped(stats.connections),
        limit.unwrap_or_default()
    );
    let ChannelCounts {
        subscriptions,
        complete,
        largest,
    } = &stats.channels;
    let sampled = if *complete {
        ""
    } else {
        ", a sample: there are more"
    };
    let subscriptions = format!("{}{sampled}", grouped(*subscriptions));
    let mut text = format!("connections    {connections}\nsubscriptions  {subscriptions}\n");
    let rows = largest
        .iter()
        .map(|one| [one.channel.to_string(), grouped(one.subscribers)]);
    let rows = table(["CHANNEL", "SUBSCRIBERS"], rows.collect());
    if !rows.is_empty() {
        text.push_str(&format!("\n{rows}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_called_one() {
        let whole = json!({"connections": 12_345, "maxConnections": 20_000, "channels": {"subscriptions": 3, "largest": [{"channel": "room:7", "subscribers": 2}, {"channel": "demo:chat", "subscribers": 1}]}});
        insta::assert_snapshot!(summary(&read(&whole).unwrap()), @"
        connections    12,345 of 20,000
        subscriptions  3

        CHANNEL    SUBSCRIBERS
        room:7     2
        demo:chat  1
        ");
        let sampled = json!({"connections": 1, "channels": {"subscriptions": 99, "complete": false, "largest": []}});
        insta::assert_snapshot!(summary(&read(&sampled).unwrap()), @"
        connections    1
        subscriptions  99, a sample: there are more
        ");
    }
}
