//! What operators do to connections: broadcasts of a frame of ours.

use std::time::Duration;

use belfry_protocol::{
    Bounded, Drain, Envelope, ErrorCode, Kick, KickCode, Reconnect, Refused, ServerFrame, Target,
    Version,
};
use serde_json::{Value, json};

use super::content::Frames;
use super::recipients::{Audience, Share};
use crate::time::{UnixMillis, millis};

/// What an operator does to connections.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum OperatorAction {
    /// Tell clients why, and close their connections.
    Kick { target: Target, code: KickCode },
    /// Ask clients to open another connection.
    Drain {
        target: Target,
        within: Duration,
        percent: u32,
    },
}

/// The members that tell it from other work that is remembered.
const KICK: &str = "kick";
const DRAIN: &str = "drain";

impl OperatorAction {
    /// Its name in log lines.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kick { .. } => KICK,
            Self::Drain { .. } => DRAIN,
        }
    }

    /// What the clients get, the same whoever continues the work.
    pub(super) fn frames(&self, started_at: UnixMillis) -> Frames {
        match self {
            Self::Kick { code, .. } => {
                let refused = Refused::new(ErrorCode::from(*code), explain(*code));
                let frame = refused.into_frame(started_at.to_timestamp());
                Frames::last(frame.to_json())
            }
            Self::Drain { within, .. } => {
                let frame = ServerFrame::Reconnect(Envelope {
                    version: Version,
                    id: None,
                    timestamp: Some(started_at.to_timestamp()),
                    data: Reconnect {
                        deadline: started_at.plus(*within).to_timestamp(),
                        within_ms: Some(millis(*within)),
                    },
                    correlation_id: None,
                });
                Frames::one(frame.to_json())
            }
        }
    }

    pub(super) fn audience(&self, started_at: UnixMillis) -> Audience {
        let (target, percent) = match self {
            Self::Kick { target, .. } => (target, 100),
            Self::Drain {
                target, percent, ..
            } => (target, *percent),
        };
        Audience::opened_before(started_at, target.clone(), Share::of(percent))
    }

    /// Equal actions have equal texts.
    pub(super) fn to_json(&self) -> String {
        let value = match self {
            Self::Kick { target, code } => json!({KICK: {"target": target, "code": code}}),
            Self::Drain {
                target,
                within,
                percent,
            } => json!({DRAIN: {
                "target": target,
                "withinMs": millis(*within),
                "percent": percent,
            }}),
        };
        value.to_string()
    }

    /// `None` if the text is something else.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        let object = value.as_object_mut()?;
        if let Some(mut kick) = object.remove(KICK) {
            return Some(Self::Kick {
                target: serde_json::from_value(kick["target"].take()).ok()?,
                code: serde_json::from_value(kick["code"].take()).ok()?,
            });
        }
        let mut drain = object.remove(DRAIN)?;
        Some(Self::Drain {
            target: serde_json::from_value(drain["target"].take()).ok()?,
            within: Duration::from_millis(drain["withinMs"].as_u64()?),
            percent: serde_json::from_value(drain["percent"].take()).ok()?,
        })
    }
}

impl From<Kick> for OperatorAction {
    fn from(kick: Kick) -> Self {
        Self::Kick {
            target: kick.target,
            code: kick.code.unwrap_or_default(),
        }
    }
}

impl From<Drain> for OperatorAction {
    fn from(drain: Drain) -> Self {
        Self::Drain {
            target: drain.target,
            within: Duration::from_secs(drain.within_seconds.get().into()),
            percent: drain.percent.map_or(100, Bounded::get),
        }
    }
}

/// For the people who read it in the client.
fn explain(code: KickCode) -> &'static str {
    match code {
        KickCode::Reconnect => "an operator has closed the connection; connect again",
        KickCode::TokenExpired => {
            "an operator has closed the connection; connect again with a new token"
        }
        KickCode::ClosedByOperator => "an operator has closed the connection; do not connect again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::stored::StoredPublish;

    #[test]
    fn it_survives_its_text() {
        let targets = [
            r#"{"type":"all"}"#,
            r#"{"type":"user","userId":"alice"}"#,
            r#"{"type":"users","userIds":["alice","bob"]}"#,
            r#"{"type":"connections","connectionIds":["c1"]}"#,
            r#"{"type":"channel","channel":"room:7"}"#,
        ];
        for target in targets {
            let target: Target = serde_json::from_str(target).unwrap();
            let kick = OperatorAction::Kick {
                target: target.clone(),
                code: KickCode::ClosedByOperator,
            };
            let drain = OperatorAction::Drain {
                target,
                within: Duration::from_secs(300),
                percent: 20,
            };
            for action in [kick, drain] {
                let text = action.to_json();
                assert_eq!(OperatorAction::from_json(&text), Some(action), "{text}");
                assert_eq!(StoredPublish::from_json(&text), None, "{text}");
            }
        }
        for other in [
            r#"{"target":{"type":"all"},"message":{}}"#,
            r#"{"publish":{"channel":"room:7","frame":"{}"}}"#,
            r#"{"kick":{}}"#,
            "[]",
        ] {
            assert_eq!(OperatorAction::from_json(other), None, "{other}");
        }
    }

    #[test]
    fn every_code_of_a_kick_closes() {
        for code in [
            KickCode::Reconnect,
            KickCode::TokenExpired,
            KickCode::ClosedByOperator,
        ] {
            let code = ErrorCode::from(code);
            assert!(code.may_close(), "{code}");
        }
    }
}
