//! A function's `Events`. Only schedules are supported.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::{NOT_SUPPORTED, Properties, unsupported};

#[derive(Debug, Clone)]
pub(crate) struct ScheduleSpec {
    /// SAM's logical id: the function's and the event's joined.
    pub id: String,
    pub kind: ScheduleKind,
    /// As in the template, like `rate(1 minute)`.
    pub expression: String,
    /// `None` if the expression is not a rate.
    pub period: Option<Duration>,
    /// Replaces the scheduler's own event.
    pub input: Option<Value>,
}

/// AWS has two schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleKind {
    /// SAM's `Schedule`: an EventBridge rule.
    Rule,
    /// SAM's `ScheduleV2`: an EventBridge Scheduler schedule.
    Scheduler,
}

/// The longest period, in seconds: 100 years. A clock would overflow somewhere
/// beyond it.
const MAX_PERIOD_SECONDS: u64 = 100 * 365 * 86_400;

/// Accepted, with no effect on one machine.
const IGNORED: [&str; 10] = [
    "DeadLetterConfig",
    "Description",
    "FlexibleTimeWindow",
    "GroupName",
    "Name",
    "OmitName",
    "PermissionsBoundary",
    "RetryPolicy",
    "RoleArn",
    "ScheduleExpressionTimezone",
];

/// A function's enabled schedules.
pub(super) fn read(
    id: &str,
    properties: &Properties<'_>,
) -> Result<Vec<ScheduleSpec>, TemplateError> {
    let mut schedules = Vec::new();
    match properties.get("Events")? {
        None => {}
        Some(Value::Object(events)) => {
            for (name, event) in &events {
                schedules.extend(schedule(id, name, event).map_err(|(path, problem)| {
                    properties.error(&format!("Events.{name}{path}"), problem)
                })?);
            }
        }
        Some(_) => return Err(properties.error("Events", "must be a mapping")),
    }
    Ok(schedules)
}

fn schedule(id: &str, name: &str, event: &Value) -> Result<Option<ScheduleSpec>, (String, String)> {
    let error = |path: &str, problem: &str| (path.to_owned(), problem.to_owned());
    let kind = match event["Type"].as_str() {
        Some("Schedule") => ScheduleKind::Rule,
        Some("ScheduleV2") => ScheduleKind::Scheduler,
        _ => {
            return Err(error(
                ".Type",
                "is not supported by the local stack; use Schedule or ScheduleV2",
            ));
        }
    };
    let empty = Map::new();
    let given = event["Properties"].as_object().unwrap_or(&empty);
    // The two schedulers disable a schedule with different properties.
    let (expression, switch) = match kind {
        ScheduleKind::Rule => ("Schedule", "Enabled"),
        ScheduleKind::Scheduler => ("ScheduleExpression", "State"),
    };
    if let Some(name) = unsupported(given, &[expression, "Input", switch], &IGNORED) {
        return Err(error(&format!(".Properties.{name}"), NOT_SUPPORTED));
    }
    let disabled = match given.get(switch) {
        Some(Value::Bool(enabled)) => !enabled,
        Some(Value::String(state)) => state == "DISABLED" || state == "false",
        _ => false,
    };
    let path = format!(".Properties.{expression}");
    let expression = given.get(expression).and_then(Value::as_str);
    let expression = expression.ok_or_else(|| error(&path, "is missing"))?;
    let period = if let Some(rate) = expression.strip_prefix("rate(") {
        let problem = "must be a rate like rate(1 minute) or rate(5 minutes), at most 100 years";
        Some(period(rate).ok_or_else(|| error(&path, problem))?)
    } else if ["cron(", "at("]
        .iter()
        .any(|kind| expression.starts_with(kind))
    {
        None
    } else {
        return Err(error(&path, "must begin with rate(, cron( or at("));
    };
    let input = match given.get("Input") {
        None => None,
        Some(Value::String(text)) => Some(
            serde_json::from_str(text).map_err(|_| error(".Properties.Input", "must be JSON"))?,
        ),
        Some(_) => return Err(error(".Properties.Input", "must be a string of JSON")),
    };
    Ok((!disabled).then(|| ScheduleSpec {
        id: format!("{id}{name}"),
        kind,
        expression: expression.to_owned(),
        period,
        input,
    }))
}

/// The period of `5 minutes)`.
fn period(rate: &str) -> Option<Duration> {
    let (count, unit) = rate.strip_suffix(')')?.trim().split_once(' ')?;
    let seconds = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let seconds = count.checked_mul(seconds)?;
    (seconds <= MAX_PERIOD_SECONDS).then_some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_periods() {
        for (rate, seconds) in [
            ("1 minute)", Some(60)),
            ("5 minutes)", Some(300)),
            ("2 hours)", Some(7_200)),
            ("1 day)", Some(86_400)),
            ("36500 days)", Some(3_153_600_000)),
            ("36501 days)", None),
            ("18446744073709551615 days)", None),
            ("0 minutes)", None),
            ("1 second)", None),
            ("1 minute", None),
            ("x minutes)", None),
        ] {
            assert_eq!(
                period(rate).map(|period| period.as_secs()),
                seconds,
                "{rate}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_expression_is_a_schedule_or_an_error(
            expression in "(?s).{0,40}|rate\\(-?[0-9]{1,25} ?(second|minute|hour|day)s?\\)?|(cron|at)\\(.{0,20}",
        ) {
            let event = json!({"Type": "Schedule", "Properties": {"Schedule": expression}});
            match schedule("F", "E", &event) {
                Ok(schedule) => {
                    let period = schedule.and_then(|schedule| schedule.period);
                    let now = std::time::Instant::now();
                    prop_assert!(now.checked_add(period.unwrap_or_default()).is_some());
                }
                Err((path, _)) => prop_assert_eq!(path, ".Properties.Schedule"),
            }
        }
    }

    #[test]
    fn both_kinds_can_be_disabled() {
        let enabled = json!({"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "cron(0 3 * * ? *)", "Input": "{\"a\":1}"}});
        let enabled = schedule("Sweeper", "Tick", &enabled).unwrap().unwrap();
        assert_eq!((enabled.id.as_str(), enabled.period), ("SweeperTick", None));
        assert_eq!(enabled.input, Some(json!({"a": 1})));
        for disabled in [
            json!({"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "rate(1 minute)", "State": "DISABLED"}}),
            json!({"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)", "Enabled": false}}),
        ] {
            assert!(schedule("Sweeper", "Tick", &disabled).unwrap().is_none());
        }
    }

    #[test]
    fn unsupported_events_are_named() {
        for (event, path) in [
            (json!({"Type": "S3"}), ".Type"),
            (json!({"Type": "Schedule"}), ".Properties.Schedule"),
            (
                json!({"Type": "ScheduleV2", "Properties": {"Schedule": "rate(1 minute)"}}),
                ".Properties.Schedule",
            ),
            (
                json!({"Type": "Schedule", "Properties": {"Schedule": "rate(soon)"}}),
                ".Properties.Schedule",
            ),
            (
                json!({"Type": "Schedule", "Properties": {"Schedule": "daily"}}),
                ".Properties.Schedule",
            ),
            (
                json!({"Type": "Schedule", "Properties": {"Schedule": "rate(1 day)", "Input": "x"}}),
                ".Properties.Input",
            ),
        ] {
            assert_eq!(schedule("F", "E", &event).unwrap_err().0, path, "{event}");
        }
    }
}
