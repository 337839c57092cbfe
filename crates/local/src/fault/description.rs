//! How a fault is written: as JSON over HTTP, and as
//! `NAME[,share=0.1][,times=3]…` on the command line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Aim, DatabaseFault, DisconnectFault, Fault, FunctionFault, PostFault};
use crate::duration;

/// Every fault's name, in the order of the help.
const NAMES: [&str; 15] = [
    "disconnect-drop",
    "disconnect-delay",
    "disconnect-duplicate",
    "post-410",
    "post-429",
    "post-500",
    "post-silence",
    "peer-freeze",
    "dynamodb-throttle",
    "dynamodb-conflict",
    "dynamodb-timeout",
    "dynamodb-lose-answer",
    "dynamodb-slow",
    "function-kill",
    "function-lose-answer",
];

/// A fault as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Description {
    fault: String,
    /// Of `disconnect-`, `post-` and `peer-` faults: this connection alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    /// Of `function-` faults: this function alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// Of `dynamodb-` faults: this operation alone, like `PutItem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// Above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    /// How often it strikes before it is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// Like `2s`: of what is late or slow, and of `function-kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
}

/// What is wrong with a description.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{0:?} is not one of the faults {names}", names = NAMES.join(", "))]
    Unknown(String),
    #[error("{part} {problem}")]
    Part {
        part: &'static str,
        problem: &'static str,
    },
    #[error(
        "{0:?} is not one of connection, function, operation, share, times, delay, each with =VALUE"
    )]
    Word(String),
}

impl Description {
    /// What it means.
    pub(super) fn meaning(&self) -> Result<(Fault, Aim), Wrong> {
        let wrong = |part, problem| Wrong::Part { part, problem };
        let delay = match &self.delay {
            None => None,
            Some(text) => match duration::parse(text) {
                Ok(delay) => Some(delay),
                Err(_) => return Err(wrong("delay", "must be a duration like 500ms or 2s")),
            },
        };
        let needed = |to_fault: fn(Duration) -> Fault| match delay {
            Some(delay) => Ok(to_fault(delay)),
            None => Err(wrong("delay", "is missing; give it like delay=2s")),
        };
        let fault = match self.fault.as_str() {
            "disconnect-drop" => Fault::Disconnect(DisconnectFault::Drop),
            "disconnect-delay" => needed(|delay| Fault::Disconnect(DisconnectFault::Delay(delay)))?,
            "disconnect-duplicate" => Fault::Disconnect(DisconnectFault::Duplicate),
            "post-410" => Fault::Post(PostFault::Gone),
            "post-429" => Fault::Post(PostFault::Throttled),
            "post-500" => Fault::Post(PostFault::ServerError),
            "post-silence" => Fault::Post(PostFault::Silence),
            "peer-freeze" => Fault::FreezePeer,
            "dynamodb-throttle" => Fault::Database(DatabaseFault::Throttle),
            "dynamodb-conflict" => Fault::Database(DatabaseFault::Conflict),
            "dynamodb-timeout" => Fault::Database(DatabaseFault::Timeout),
            "dynamodb-lose-answer" => Fault::Database(DatabaseFault::LoseAnswer),
            "dynamodb-slow" => needed(|delay| Fault::Database(DatabaseFault::Slow(delay)))?,
            "function-kill" => Fault::Function(FunctionFault::Kill {
                after: delay.unwrap_or_default(),
            }),
            "function-lose-answer" => Fault::Function(FunctionFault::LoseAnswer),
            _ => return Err(Wrong::Unknown(self.fault.clone())),
        };
        let takes_delay = matches!(
            fault,
            Fault::Disconnect(DisconnectFault::Delay(_))
                | Fault::Database(DatabaseFault::Slow(_))
                | Fault::Function(FunctionFault::Kill { .. })
        );
        if delay.is_some() && !takes_delay {
            return Err(wrong("delay", "has no meaning for this fault"));
        }
        // A frozen peer is asked about again and again: there is no time to count.
        if self.times.is_some() && fault == Fault::FreezePeer {
            return Err(wrong(
                "times",
                "has no meaning for this fault; end it with DELETE",
            ));
        }
        if self.times == Some(0) {
            return Err(wrong("times", "must be at least 1"));
        }
        let share = self.share.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1.0) {
            return Err(wrong("share", "must be above 0 and at most 1, like 0.1"));
        }
        let aim = Aim {
            only: self.only(fault)?,
            share,
            times: self.times,
        };
        Ok((fault, aim))
    }

    /// The one subject that is named, which must be of the fault's kind.
    fn only(&self, fault: Fault) -> Result<Option<String>, Wrong> {
        let names = [
            ("connection", &self.connection),
            ("function", &self.function),
            ("operation", &self.operation),
        ];
        let fitting = match fault {
            Fault::Disconnect(_) | Fault::Post(_) | Fault::FreezePeer => "connection",
            Fault::Function(_) => "function",
            Fault::Database(_) => "operation",
        };
        for (part, name) in names {
            if name.is_some() && part != fitting {
                let problem = "has no meaning for this fault";
                return Err(Wrong::Part { part, problem });
            }
        }
        Ok(names
            .into_iter()
            .find(|(part, _)| *part == fitting)
            .and_then(|(_, name)| name.clone()))
    }

    /// Whether it means something; for the command line, before anything runs.
    fn checked(self) -> Result<Self, Wrong> {
        self.meaning().map(|_| self)
    }
}

impl FromStr for Description {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let mut words = text.split(',');
        let mut description = Self {
            fault: words.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for word in words {
            let unknown = || Wrong::Word(word.to_owned());
            let (name, value) = word.split_once('=').ok_or_else(unknown)?;
            let number = |part| Wrong::Part {
                part,
                problem: "must be a number",
            };
            match name {
                "connection" => description.connection = Some(value.to_owned()),
                "function" => description.function = Some(value.to_owned()),
                "operation" => description.operation = Some(value.to_owned()),
                "delay" => description.delay = Some(value.to_owned()),
                "share" => {
                    description.share = Some(value.parse().map_err(|_| number("share"))?);
                }
                "times" => {
                    description.times = Some(value.parse().map_err(|_| number("times"))?);
                }
                _ => return Err(unknown()),
            }
        }
        description.checked()
    }
}

/// As on the command line.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        let texts = [
            ("connection", self.connection.clone()),
            ("function", self.function.clone()),
            ("operation", self.operation.clone()),
            ("share", self.share.map(|share| share.to_string())),
            ("times", self.times.map(|times| times.to_string())),
            ("delay", self.delay.clone()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                write!(f, ",{name}={text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_meaning_and_is_written_as_it_is_read() {
        for name in NAMES {
            let text = match name {
                "disconnect-delay" | "dynamodb-slow" => format!("{name},delay=2s"),
                name => name.to_owned(),
            };
            let description: Description = text.parse().unwrap();
            assert_eq!(description.to_string(), text);
        }
        let text = "post-410,connection=R0oXAdfD0kwCH6w=,share=0.5,times=3";
        let description: Description = text.parse().unwrap();
        assert_eq!(description.to_string(), text);
        let json = serde_json::to_string(&description).unwrap();
        assert_eq!(
            json,
            r#"{"fault":"post-410","connection":"R0oXAdfD0kwCH6w=","share":0.5,"times":3}"#
        );
        assert_eq!(
            serde_json::from_str::<Description>(&json).unwrap(),
            description
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "\"\" is not one of the faults disconnect-drop, "),
            ("post-404", "\"post-404\" is not one of the faults"),
            ("post-410,half", "\"half\" is not one of connection"),
            ("post-410,share=some", "share must be a number"),
            ("post-410,share=0", "share must be above 0"),
            ("post-410,share=1.1", "share must be above 0"),
            ("post-410,share=NaN", "share must be above 0"),
            ("post-410,times=0", "times must be at least 1"),
            ("post-410,delay=2s", "delay has no meaning"),
            ("post-410,function=Connect", "function has no meaning"),
            ("function-kill,connection=c", "connection has no meaning"),
            ("dynamodb-slow", "delay is missing"),
            ("dynamodb-slow,delay=soon", "delay must be a duration"),
            ("peer-freeze,times=1", "times has no meaning"),
        ] {
            let error = text.parse::<Description>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
