//! A function's `Events`: schedules, and nothing else.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TemplateError;
use super::properties::{Properties, unknown};

/// A schedule that invokes a function.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The function's logical id and the event's, as SAM joins them.
    pub id: String,
    pub kind: ScheduleKind,
    /// As the template has it, like `rate(1 minute)`.
    pub expression: String,
    /// How often, where the expression is a rate.
    pub period: Option<Duration>,
    /// What the function gets instead of the scheduler's own event.
    pub input: Option<Value>,
}

/// Which of AWS's two schedulers runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleKind {
    /// SAM's `Schedule`: a rule of EventBridge.
    Rule,
    /// SAM's `ScheduleV2`: a schedule of EventBridge Scheduler.
    Scheduler,
}

/// Known, and without a meaning on one machine.
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

/// The schedules of a function that are switched on.
pub(super) fn read(id: &str, properties: &Properties<'_>) -> Result<Vec<Schedule>, TemplateError> {
    let mut schedules = Vec::new();
    match properties.get("Events")? {
        None => {}
        Some(Value::Object(events)) => {
            for (name, event) in &events {
                schedules.extend(schedule(id, name, event).map_err(|(path, problem)| {
                    properties.wrong(&format!("Events.{name}{path}"), problem)
                })?);
            }
        }
        Some(_) => return Err(properties.wrong("Events", "must be a mapping")),
    }
    Ok(schedules)
}

fn schedule(id: &str, name: &str, event: &Value) -> Result<Option<Schedule>, (String, String)> {
    let wrong = |path: &str, problem: &str| (path.to_owned(), problem.to_owned());
    let kind = match event["Type"].as_str() {
        Some("Schedule") => ScheduleKind::Rule,
        Some("ScheduleV2") => ScheduleKind::Scheduler,
        _ => {
            return Err(wrong(
                ".Type",
                "is not understood by the local stack, which knows Schedule and ScheduleV2",
            ));
        }
    };
    let empty = Map::new();
    let given = event["Properties"].as_object().unwrap_or(&empty);
    // Each of the two has a word of its own for being switched off.
    let (expression, switch) = match kind {
        ScheduleKind::Rule => ("Schedule", "Enabled"),
        ScheduleKind::Scheduler => ("ScheduleExpression", "State"),
    };
    if let Some(unknown) = unknown(given, &[expression, "Input", switch], &IGNORED) {
        return Err(wrong(
            &format!(".Properties.{unknown}"),
            "is not understood by the local stack",
        ));
    }
    let off = match given.get(switch) {
        Some(Value::Bool(enabled)) => !enabled,
        Some(Value::String(state)) => state == "DISABLED" || state == "false",
        _ => false,
    };
    let path = format!(".Properties.{expression}");
    let expression = given.get(expression).and_then(Value::as_str);
    let expression = expression.ok_or_else(|| wrong(&path, "is missing"))?;
    let period = if let Some(rate) = expression.strip_prefix("rate(") {
        let problem = "must be a rate like rate(1 minute) or rate(5 minutes)";
        Some(period(rate).ok_or_else(|| wrong(&path, problem))?)
    } else if ["cron(", "at("]
        .iter()
        .any(|kind| expression.starts_with(kind))
    {
        None
    } else {
        return Err(wrong(&path, "must begin with rate(, cron( or at("));
    };
    let input = match given.get("Input") {
        None => None,
        Some(Value::String(text)) => Some(
            serde_json::from_str(text).map_err(|_| wrong(".Properties.Input", "must be JSON"))?,
        ),
        Some(_) => return Err(wrong(".Properties.Input", "must be a text of JSON")),
    };
    Ok((!off).then(|| Schedule {
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
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_are_periods() {
        for (rate, seconds) in [
            ("1 minute)", Some(60)),
            ("5 minutes)", Some(300)),
            ("2 hours)", Some(7_200)),
            ("1 day)", Some(86_400)),
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

    #[test]
    fn both_kinds_can_be_switched_off() {
        let on = json!({"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "cron(0 3 * * ? *)", "Input": "{\"a\":1}"}});
        let on = schedule("Sweeper", "Tick", &on).unwrap().unwrap();
        assert_eq!((on.id.as_str(), on.period), ("SweeperTick", None));
        assert_eq!(on.input, Some(json!({"a": 1})));
        for off in [
            json!({"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "rate(1 minute)", "State": "DISABLED"}}),
            json!({"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)", "Enabled": false}}),
        ] {
            assert!(schedule("Sweeper", "Tick", &off).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
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
