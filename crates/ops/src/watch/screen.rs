//! The figures as text: a screen, or one line.

use super::figures::Figures;
use crate::output::{grouped, printable};

/// From the lowest value to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines of the screen.
pub(super) fn lines(stack: &str, now: jiff::Timestamp, figures: &Figures) -> Vec<String> {
    let measured = &figures.measured;
    let time = now.strftime("%H:%M:%S UTC");
    let mut lines = vec![format!("{stack}   {time}   q quits"), String::new()];
    let limit = figures
        .max_connections
        .map(|most| format!("of {}", grouped(most)));
    let row = |name: &str, value: String, values: &[f64], note: &str| {
        let row = format!("{name:14}{value:>10}  {note:12}{}", sparkline(values));
        row.trim_end().to_owned()
    };
    let latency = |values: &[Option<f64>]| values.last().copied().flatten();
    let filled: Vec<_> = measured
        .p99
        .iter()
        .map(|value| value.unwrap_or_default())
        .collect();
    let halves: Vec<_> = measured
        .p50
        .iter()
        .map(|value| value.unwrap_or_default())
        .collect();
    lines.extend([
        row(
            "connections",
            shown(figures.connections.last().copied(), 0),
            &figures.connections,
            &limit.unwrap_or_default(),
        ),
        row(
            "frames",
            shown(measured.frames.last().copied(), 1),
            &measured.frames,
            "a second",
        ),
        row(
            "posts",
            shown(measured.posts.last().copied(), 1),
            &measured.posts,
            "a second",
        ),
        row(
            "delivery p50",
            shown(latency(&measured.p50), 0),
            &halves,
            "ms",
        ),
        row(
            "delivery p99",
            shown(latency(&measured.p99), 0),
            &filled,
            "ms",
        ),
        String::new(),
    ]);
    match measured.alarms.as_deref() {
        None => lines.push("alarms: –".into()),
        Some([]) => lines.push("alarms: none".into()),
        Some(alarms) => {
            lines.push(format!("alarms: {} IN ALARM", alarms.len()));
            lines.extend(alarms.iter().map(|name| format!("  {name}")));
        }
    }
    for problem in figures.problems() {
        lines.extend(problem.lines().map(str::to_owned));
    }
    // Last, since a small terminal has no room for all.
    if let Some(channels) = &figures.channels {
        lines.push(String::new());
        let subscriptions = grouped(channels.subscriptions);
        let sampled = if channels.complete { "" } else { "or more" };
        lines.push(row("subscriptions", subscriptions, &[], sampled));
        let largest = channels.largest.iter();
        lines.extend(
            largest.map(|one| format!("{:>24}  {}", grouped(one.subscribers), one.channel)),
        );
    }
    lines.iter().map(|line| printable(line)).collect()
}

/// The figures in one line.
pub(super) fn line(now: jiff::Timestamp, figures: &Figures) -> String {
    let measured = &figures.measured;
    let latency = |values: &[Option<f64>]| shown(values.last().copied().flatten(), 0);
    let alarms = measured
        .alarms
        .as_ref()
        .map(|alarms| alarms.len().to_string());
    let mut line = format!(
        "{} connections={} frames/s={} posts/s={} p50={}ms p99={}ms alarms={}",
        now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        shown(figures.connections.last().copied(), 0),
        shown(measured.frames.last().copied(), 1),
        shown(measured.posts.last().copied(), 1),
        latency(&measured.p50),
        latency(&measured.p99),
        alarms.as_deref().unwrap_or("–"),
    );
    for problem in figures.problems() {
        let first = problem.lines().next().unwrap_or_default();
        line.push_str(&format!(" problem={first:?}"));
    }
    line.push('\n');
    line
}

fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.decimals$}"))
}

/// One bar for each value. The highest is full, and 0 is the lowest.
fn sparkline(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        if highest <= 0.0 {
            return BARS[0];
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the share is from 0 to 1"
        )]
        let index = (value.max(0.0) / highest * 7.0).round() as usize;
        BARS[index.min(7)]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::OpsError;
    use crate::watch::figures::Measured;
    use serde_json::json;

    fn now() -> jiff::Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    fn busy() -> Figures {
        let mut figures = Figures::default();
        let stats = json!({"connections": 12, "maxConnections": 20_000, "channels": {"subscriptions": 30, "complete": false, "largest": [{"channel": "room:7", "subscribers": 20}, {"channel": "demo:chat", "subscribers": 10}]}});
        figures.counted(crate::stack::read(&stats));
        figures.measured(Ok(Measured {
            frames: vec![0.0, 1.0, 7.0, 3.5],
            posts: vec![0.0, 0.0, 120.0, 60.0],
            p50: vec![None, Some(4.0)],
            p99: vec![None, Some(41.0)],
            alarms: Some(vec!["belfry-dev-broadcast-slow".into()]),
        }));
        figures
    }

    #[test]
    fn the_screen_shows_everything() {
        insta::assert_snapshot!(lines("stack belfry-dev", now(), &busy()).join("\n"), @"
        stack belfry-dev   12:00:00 UTC   q quits

        connections           12  of 20,000   █
        frames               3.5  a second    ▁▂█▅
        posts               60.0  a second    ▁▁█▅
        delivery p50           4  ms          ▁█
        delivery p99          41  ms          ▁█

        alarms: 1 IN ALARM
          belfry-dev-broadcast-slow

        subscriptions         30  or more
                              20  room:7
                              10  demo:chat
        ");
    }

    #[test]
    fn the_screen_says_what_is_missing() {
        let mut figures = Figures::default();
        let error = OpsError::of_function("Unavailable", "the store is \u{1b}[2J throttled");
        figures.measured(Err(error));
        insta::assert_snapshot!(lines("the local stack", now(), &figures).join("\n"), @"
        the local stack   12:00:00 UTC   q quits

        connections            –
        frames                 –  a second
        posts                  –  a second
        delivery p50           –  ms
        delivery p99           –  ms

        alarms: –
        Unavailable: the store is �[2J throttled
        Try again in a moment.
        ");
        insta::assert_snapshot!(line(now(), &figures), @r#"2026-11-26T12:00:00Z connections=– frames/s=– posts/s=– p50=–ms p99=–ms alarms=– problem="Unavailable: the store is \u{1b}[2J throttled""#);
    }

    #[test]
    fn a_line_has_every_figure() {
        insta::assert_snapshot!(line(now(), &busy()), @"2026-11-26T12:00:00Z connections=12 frames/s=3.5 posts/s=60.0 p50=4ms p99=41ms alarms=1");
    }

    #[test]
    fn bars_reach_from_zero_to_the_highest_value() {
        assert_eq!(sparkline(&[0.0, 1.0, 3.5, 7.0]), "▁▂▅█");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }
}
