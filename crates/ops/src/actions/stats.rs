//! `stats`.

use belfry_protocol::{ChannelCounts, Stats};
use serde_json::json;

use super::Outcome;
use crate::error::OpsError;
use crate::output::{Output, counted, grouped, table};
use crate::stack::{Stack, read};
use crate::watch::{Recent, recent};

pub(super) async fn stats(stack: &Stack, output: &mut Output) -> Result<Outcome, OpsError> {
    let request = json!({"action": "stats"});
    let (report, recent) = tokio::join!(stack.ask(&request), recent(stack));
    let mut report = report?;
    match &recent {
        Ok(recent) => report["lastFiveMinutes"] = json!(recent),
        Err(error) => output.say(&format!("Frames and posts are not known: {error}")),
    }
    output.result(&report, || {
        Ok(summary(&read(&report)?, recent.as_ref().ok()))
    })?;
    Ok(Outcome::Complete)
}

fn summary(stats: &Stats, recent: Option<&Recent>) -> String {
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
    if let Some(recent) = recent {
        let (frames, posts) = (whole(recent.frames_served), whole(recent.posts_accepted));
        text.push_str(&format!(
            "last 5 min     {frames} served, {posts} accepted\n",
            frames = counted(frames, "frame"),
            posts = counted(posts, "post"),
        ));
    }
    let rows = largest
        .iter()
        .map(|one| [one.channel.to_string(), grouped(one.subscribers)]);
    let rows = table(["CHANNEL", "SUBSCRIBERS"], rows.collect());
    if !rows.is_empty() {
        text.push_str(&format!("\n{rows}"));
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_called_one() {
        let recent = Recent {
            frames_served: 1_234.0,
            posts_accepted: 1.0,
        };
        let whole = json!({"connections": 12_345, "maxConnections": 20_000, "channels": {"subscriptions": 3, "largest": [{"channel": "room:7", "subscribers": 2}, {"channel": "demo:chat", "subscribers": 1}]}});
        insta::assert_snapshot!(summary(&read(&whole).unwrap(), Some(&recent)), @"
        connections    12,345 of 20,000
        subscriptions  3
        last 5 min     1,234 frames served, 1 post accepted

        CHANNEL    SUBSCRIBERS
        room:7     2
        demo:chat  1
        ");
        let sampled = json!({"connections": 1, "channels": {"subscriptions": 99, "complete": false, "largest": []}});
        insta::assert_snapshot!(summary(&read(&sampled).unwrap(), None), @"
        connections    1
        subscriptions  99, a sample: there are more
        ");
    }
}
