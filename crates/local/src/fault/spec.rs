//! A fault as it is written: JSON over HTTP, `NAME[,share=0.1][,times=3]…` on
//! the command line.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DatabaseFault, DisconnectFault, Fault, FunctionFault, PostFault, Target};
use crate::{duration, ids, nearest};

/// In the order of `belfry run --help`.
const NAMES: [&str; 16] = [
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
    "dynamodb-contention",
    "dynamodb-timeout",
    "dynamodb-lose-answer",
    "dynamodb-slow",
    "function-kill",
    "function-lose-answer",
];

/// The operations that the embedded DynamoDB serves.
const OPERATIONS: [&str; 28] = [
    "BatchExecuteStatement",
    "BatchGetItem",
    "BatchWriteItem",
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeStream",
    "DescribeTable",
    "DescribeTimeToLive",
    "ExecuteStatement",
    "ExecuteTransaction",
    "GetItem",
    "GetRecords",
    "GetShardIterator",
    "ListStreams",
    "ListTables",
    "ListTagsOfResource",
    "PutItem",
    "Query",
    "Scan",
    "SearchVectors",
    "TagResource",
    "TransactGetItems",
    "TransactWriteItems",
    "UntagResource",
    "UpdateItem",
    "UpdateTable",
    "UpdateTimeToLive",
];

/// The operations that an ongoing transaction can make DynamoDB refuse.
pub(super) const CONFLICTING: [&str; 5] = [
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "TransactWriteItems",
    "TransactGetItems",
];

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FaultSpec {
    fault: String,
    /// Only this connection; for `disconnect-`, `post-` and `peer-` faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    /// Only this function; for `function-` faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// Only this operation, like `PutItem`; for `dynamodb-` faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// Above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    /// Strikes before the fault is spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// Like `2s`; for `disconnect-delay`, `dynamodb-contention`, `dynamodb-slow`
    /// and `function-kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum InvalidFault {
    #[error("{0:?} is not one of the faults {names}", names = NAMES.join(", "))]
    UnknownName(String),
    #[error("{field} {problem}")]
    Field {
        field: &'static str,
        problem: &'static str,
    },
    #[error(
        "{0:?} is not one of connection=, function=, operation=, share=, times=, delay= with a value"
    )]
    UnknownField(String),
    /// The fault would be active and never strike.
    #[error("{field} {name:?} is not one that this fault strikes; {hint}")]
    UnknownSubject {
        field: &'static str,
        name: String,
        hint: String,
    },
    #[error("{0} is given twice")]
    Duplicate(String),
}

impl FaultSpec {
    pub(super) fn resolve(&self) -> Result<(Fault, Target), InvalidFault> {
        let error = |field, problem| InvalidFault::Field { field, problem };
        let delay = match &self.delay {
            None => None,
            Some(text) => match duration::parse(text) {
                Ok(delay) => Some(delay),
                Err(_) => return Err(error("delay", "must be a duration like 500ms or 2s")),
            },
        };
        let with_delay = |to_fault: fn(Duration) -> Fault| match delay {
            Some(delay) => Ok(to_fault(delay)),
            None => Err(error("delay", "is missing; add it like delay=2s")),
        };
        let fault = match self.fault.as_str() {
            "disconnect-drop" => Fault::Disconnect(DisconnectFault::Drop),
            "disconnect-delay" => {
                with_delay(|delay| Fault::Disconnect(DisconnectFault::Delay(delay)))?
            }
            "disconnect-duplicate" => Fault::Disconnect(DisconnectFault::Duplicate),
            "post-410" => Fault::Post(PostFault::Gone),
            "post-429" => Fault::Post(PostFault::Throttled),
            "post-500" => Fault::Post(PostFault::ServerError),
            "post-silence" => Fault::Post(PostFault::Silence),
            "peer-freeze" => Fault::FreezePeer,
            "dynamodb-throttle" => Fault::Database(DatabaseFault::Throttle),
            "dynamodb-conflict" => Fault::Database(DatabaseFault::Conflict),
            "dynamodb-contention" => with_delay(Fault::Contention)?,
            "dynamodb-timeout" => Fault::Database(DatabaseFault::Timeout),
            "dynamodb-lose-answer" => Fault::Database(DatabaseFault::LoseResponse),
            "dynamodb-slow" => with_delay(|delay| Fault::Database(DatabaseFault::Slow(delay)))?,
            "function-kill" => Fault::Function(FunctionFault::Kill {
                after: delay.unwrap_or_default(),
            }),
            "function-lose-answer" => Fault::Function(FunctionFault::LoseResponse),
            _ => return Err(InvalidFault::UnknownName(self.fault.clone())),
        };
        let takes_delay = matches!(
            fault,
            Fault::Disconnect(DisconnectFault::Delay(_))
                | Fault::Database(DatabaseFault::Slow(_))
                | Fault::Contention(_)
                | Fault::Function(FunctionFault::Kill { .. })
        );
        if delay.is_some() && !takes_delay {
            return Err(error("delay", "does not apply to this fault"));
        }
        // A freeze lasts: there is nothing to count.
        if self.times.is_some() && fault == Fault::FreezePeer {
            return Err(error(
                "times",
                "does not apply to this fault; end it with DELETE",
            ));
        }
        if self.times == Some(0) {
            return Err(error("times", "must be at least 1"));
        }
        let share = self.share.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1.0) {
            return Err(error("share", "must be above 0 and at most 1, like 0.1"));
        }
        let target = Target {
            subject: self.subject(fault)?,
            share,
            times: self.times,
        };
        Ok((fault, target))
    }

    /// Refuses a function that the stack does not have.
    pub(super) fn check_function(&self, functions: &[String]) -> Result<(), InvalidFault> {
        let known: Vec<_> = functions.iter().map(String::as_str).collect();
        check_subject("function", self.function.as_deref(), &known)
    }

    /// The subject that is named, which must suit the fault.
    fn subject(&self, fault: Fault) -> Result<Option<String>, InvalidFault> {
        let names = [
            ("connection", &self.connection),
            ("function", &self.function),
            ("operation", &self.operation),
        ];
        let suitable = match fault {
            Fault::Disconnect(_) | Fault::Post(_) | Fault::FreezePeer => "connection",
            Fault::Function(_) => "function",
            Fault::Database(_) | Fault::Contention(_) => "operation",
        };
        for (field, name) in names {
            if name.is_some() && field != suitable {
                let problem = "does not apply to this fault";
                return Err(InvalidFault::Field { field, problem });
            }
        }
        let operations: &[_] = match fault {
            Fault::Database(DatabaseFault::Conflict) => &CONFLICTING,
            Fault::Contention(_) => &["TransactWriteItems"],
            _ => &OPERATIONS,
        };
        check_subject("operation", self.operation.as_deref(), operations)?;
        if let Some(id) = &self.connection
            && !ids::is_connection_id(id)
        {
            let (field, problem) = ("connection", "must be an id like R0oXAdfD0kwCH6w=");
            return Err(InvalidFault::Field { field, problem });
        }
        Ok(names
            .into_iter()
            .find(|(field, _)| *field == suitable)
            .and_then(|(_, name)| name.clone()))
    }
}

fn check_subject(
    field: &'static str,
    name: Option<&str>,
    known: &[&str],
) -> Result<(), InvalidFault> {
    match name {
        Some(name) if !known.contains(&name) => Err(InvalidFault::UnknownSubject {
            field,
            name: name.to_owned(),
            hint: nearest::hint(name, known.iter().copied()),
        }),
        _ => Ok(()),
    }
}

impl FromStr for FaultSpec {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let mut parts = text.split(',');
        let mut spec = Self {
            fault: parts.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        let mut given = BTreeSet::new();
        for part in parts {
            let unknown = || InvalidFault::UnknownField(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            let error = |field, problem| InvalidFault::Field { field, problem };
            if !given.insert(name) {
                return Err(InvalidFault::Duplicate(name.to_owned()));
            }
            match name {
                "connection" => spec.connection = Some(value.to_owned()),
                "function" => spec.function = Some(value.to_owned()),
                "operation" => spec.operation = Some(value.to_owned()),
                "delay" => spec.delay = Some(value.to_owned()),
                "share" => {
                    spec.share = Some(
                        value
                            .parse()
                            .map_err(|_| error("share", "must be a number"))?,
                    );
                }
                "times" => {
                    spec.times = Some(
                        value
                            .parse()
                            .map_err(|_| error("times", "must be a whole number"))?,
                    );
                }
                _ => return Err(unknown()),
            }
        }
        // Checks the rest before anything runs.
        spec.resolve().map(|_| spec)
    }
}

/// The form for the command line.
impl fmt::Display for FaultSpec {
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_console_has_a_switch_for_every_fault() {
        let page = include_str!("../console/page/faults.js");
        for name in NAMES {
            let switch = format!("\"{name}\": \"");
            assert!(page.contains(&switch), "{name}");
        }
    }

    #[test]
    fn every_fault_is_written_as_it_is_read() {
        for name in NAMES {
            let text = match name {
                "disconnect-delay" | "dynamodb-contention" | "dynamodb-slow" => {
                    format!("{name},delay=2s")
                }
                name => name.to_owned(),
            };
            let spec: FaultSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let text = "post-410,connection=R0oXAdfD0kwCH6w=,share=0.5,times=3";
        let spec: FaultSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(
            json,
            r#"{"fault":"post-410","connection":"R0oXAdfD0kwCH6w=","share":0.5,"times":3}"#
        );
        assert_eq!(serde_json::from_str::<FaultSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn errors_name_the_field() {
        for (text, expected) in [
            ("", "\"\" is not one of the faults disconnect-drop, "),
            ("post-404", "\"post-404\" is not one of the faults"),
            ("post-410,half", "\"half\" is not one of connection="),
            ("post-410,share=some", "share must be a number"),
            ("post-410,share=0", "share must be above 0"),
            ("post-410,share=1,share=1", "share is given twice"),
            ("post-410,share=1.1", "share must be above 0"),
            ("post-410,share=NaN", "share must be above 0"),
            ("post-410,times=0", "times must be at least 1"),
            ("post-410,delay=2s", "delay does not apply"),
            ("post-410,function=Connect", "function does not apply"),
            ("function-kill,connection=c", "connection does not apply"),
            ("dynamodb-slow", "delay is missing"),
            ("dynamodb-contention", "delay is missing"),
            ("dynamodb-slow,delay=soon", "delay must be a duration"),
            ("peer-freeze,times=1", "times does not apply"),
            (
                "dynamodb-throttle,operation=PutIem",
                "operation \"PutIem\" is not one that this fault strikes; did you mean PutItem",
            ),
            ("dynamodb-slow,delay=1s,operation=", "operation \"\" is not"),
            (
                "dynamodb-conflict,operation=Query",
                "operation \"Query\" is not one that this fault strikes; known are PutItem, ",
            ),
            (
                "dynamodb-contention,delay=1s,operation=TransactGetItems",
                "operation \"TransactGetItems\" is not one that this fault strikes; did you mean TransactWriteItems?",
            ),
            ("post-410,connection=c", "connection must be an id like"),
        ] {
            let error = text.parse::<FaultSpec>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    /// The problem's subject: the fault's name, a field, or a part of the text.
    fn names_the_place(error: &str) -> bool {
        let fields = [
            "connection",
            "function",
            "operation",
            "share",
            "times",
            "delay",
        ];
        error.starts_with('"')
            || fields.iter().any(|field| error.starts_with(field))
            || error.ends_with(" is given twice")
    }

    /// What is accepted strikes, and survives being written and read again.
    fn check(text: &str) -> Result<(), TestCaseError> {
        match text.parse::<FaultSpec>() {
            Err(error) => {
                let error = error.to_string();
                prop_assert!(names_the_place(&error), "{error}");
            }
            Ok(spec) => {
                let (_, target) = spec.resolve().unwrap();
                prop_assert!(target.share > 0.0 && target.share <= 1.0);
                prop_assert_eq!(&spec.to_string().parse::<FaultSpec>().unwrap(), &spec);
                let json = serde_json::to_string(&spec).unwrap();
                prop_assert_eq!(serde_json::from_str::<FaultSpec>(&json).unwrap(), spec);
            }
        }
        Ok(())
    }

    /// A well-formed fault, but for values that may be out of range.
    fn fault() -> impl Strategy<Value = String> {
        let field = prop_oneof![
            Just("share=0.5".to_owned()),
            Just("times=3".to_owned()),
            Just("delay=50ms".to_owned()),
            "connection=([A-Za-z0-9=_-]{0,16}|[A-Za-z0-9_-]{14}A=)",
            "function=[A-Z][a-z]{0,8}",
            "operation=(PutItem|Query)",
            "(share|times|delay)=[-+]?([0-9]{1,25}|inf|NaN|1e[-+]?[0-9]{1,4}|0x1)(ms|s|h)?",
        ];
        let fields = prop::collection::vec(field, 0..4);
        (prop::sample::select(&NAMES[..]), fields).prop_map(|(name, fields)| {
            let fields: String = fields.iter().map(|field| format!(",{field}")).collect();
            format!("{name}{fields}")
        })
    }

    proptest! {
        #[test]
        fn any_text_is_a_fault_or_an_error(text in "(?s).{0,60}|[a-z0-9,=.-]{0,60}") {
            check(&text)?;
        }

        #[test]
        fn any_changed_fault_is_a_fault_or_an_error(
            text in fault(),
            at in any::<prop::sample::Index>(),
            change in 0..4_u8,
            inserted in any::<char>(),
        ) {
            check(&text)?;
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            match change {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, chars[at]),
                2 => chars[at] = inserted,
                _ => chars.extend_from_within(at..),
            }
            check(&chars.into_iter().collect::<String>())?;
        }

        #[test]
        fn any_json_is_a_fault_or_an_error(
            fault in prop::sample::select(&NAMES[..]),
            field in "fault|connection|function|operation|share|times|delay|x",
            value in "null|true|-?[0-9]{1,25}|1e[0-9]{1,4}|\\[\\]|\"[a-z0-9]{0,9}\"",
        ) {
            let json = format!(r#"{{"fault":"{fault}","{field}":{value}}}"#);
            if let Ok(spec) = serde_json::from_str::<FaultSpec>(&json)
                && let Err(error) = spec.resolve()
            {
                prop_assert!(names_the_place(&error.to_string()), "{error}");
            }
        }
    }
}
