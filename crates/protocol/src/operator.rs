//! Requests of operators and their reports.

mod close;
mod connections;
mod history;
mod locks;
mod stats;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use close::{Drain, Kick, KickCode, SignOut, SignOutReport};
pub use connections::{
    ConnectionDetails, ConnectionList, InspectConnection, ListConnections, ListedConnection,
    Socket, SubscribedChannel,
};
pub use history::{PurgeHistory, PurgeReport, SubscribersTold};
pub use locks::{ChannelLocks, HeldByConnection, ListLocks, ReleaseLock, ReleaseReport};
pub use stats::{ChannelCounts, ReadStats, Stats, SubscriberCount};

use crate::{
    BroadcastReport, ChannelName, InvalidRequest, MessageId, PresentInChannel, WaitSeconds, request,
};

/// A request from an operator. `action` selects what to do.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(tag = "action", rename_all = "camelCase")]
pub enum OperatorRequest {
    /// Sign a user out: close every connection of the user, and refuse every
    /// token that was issued before.
    SignOut(SignOut),
    /// List connections.
    List(ListConnections),
    /// Tell everything that is known of a connection.
    Inspect(InspectConnection),
    /// Close connections. Their clients are told what to do.
    Kick(Kick),
    /// Ask clients to open another connection, spread over some time.
    Drain(Drain),
    /// Return the report of a `kick` or a `drain`.
    Report(ActionInquiry),
    /// Continue a `kick` or a `drain` that has stopped, then return its report.
    /// Has no effect on one that is running or done.
    Resume(ActionInquiry),
    /// Count the connections of the stack and the subscribers of its channels.
    Stats(ReadStats),
    /// Delete a channel's history and begin another one.
    Purge(PurgeHistory),
    /// Return who is present in a channel.
    Presence(ReadChannelPresence),
    /// List the locks of a channel that are held.
    Locks(ListLocks),
    /// Release a lock, whoever holds it.
    Unlock(ReleaseLock),
}

/// Every `action`, for the error message.
const ACTIONS: [&str; 12] = [
    "signOut", "list", "inspect", "kick", "drain", "report", "resume", "stats", "purge",
    "presence", "locks", "unlock",
];

/// A question about a `kick` or a `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionInquiry {
    /// The `messageId` of its report.
    pub message_id: MessageId,
    /// How long to wait for it to finish, in seconds. The default is 0: do not
    /// wait.
    #[serde(default)]
    pub wait_seconds: WaitSeconds,
}

/// A request for the users who are present in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadChannelPresence {
    /// The channel.
    pub channel: ChannelName,
}

impl OperatorRequest {
    /// Parses a request.
    ///
    /// # Errors
    /// [`InvalidRequest`], which names the field.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let mut object = request::object(text)?;
        let action = object.remove("action");
        let action = action.ok_or_else(|| InvalidRequest::new("missing field `action`"))?;
        // Each action is a type of its own, so that errors name its fields.
        Ok(match action.as_str() {
            Some("signOut") => Self::SignOut(request::read(object, &[])?),
            Some("list") => Self::List(request::read(object, &["target"])?),
            Some("inspect") => Self::Inspect(request::read(object, &[])?),
            Some("kick") => Self::Kick(request::read(object, &["target"])?),
            Some("drain") => Self::Drain(request::read(object, &["target"])?),
            Some("report") => Self::Report(request::read(object, &[])?),
            Some("resume") => Self::Resume(request::read(object, &[])?),
            Some("stats") => Self::Stats(request::read(object, &[])?),
            Some("purge") => Self::Purge(request::read(object, &[])?),
            Some("presence") => Self::Presence(request::read(object, &[])?),
            Some("locks") => Self::Locks(request::read(object, &[])?),
            Some("unlock") => Self::Unlock(request::read(object, &[])?),
            _ => {
                let actions = ACTIONS.join(", ");
                return Err(InvalidRequest::new(&format!(
                    "action must be one of {actions}"
                )));
            }
        })
    }

    /// The request's `action`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::SignOut(_) => "signOut",
            Self::List(_) => "list",
            Self::Inspect(_) => "inspect",
            Self::Kick(_) => "kick",
            Self::Drain(_) => "drain",
            Self::Report(_) => "report",
            Self::Resume(_) => "resume",
            Self::Stats(_) => "stats",
            Self::Purge(_) => "purge",
            Self::Presence(_) => "presence",
            Self::Locks(_) => "locks",
            Self::Unlock(_) => "unlock",
        }
    }
}

/// The report on an operator's request. Its fields depend on the `action`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OperatorReport {
    /// The report on `signOut`.
    SignOut(SignOutReport),
    /// The report on `list`.
    List(ConnectionList),
    /// The report on `inspect`.
    Inspect(Box<ConnectionDetails>),
    /// The report on `kick`, `drain`, `report` and `resume`. `success` counts
    /// the clients that were told, and after a `kick` their connections are
    /// closed.
    Progress(BroadcastReport),
    /// The report on `stats`.
    Stats(Stats),
    /// The report on `purge`.
    Purge(PurgeReport),
    /// The report on `presence`.
    Presence(PresentInChannel),
    /// The report on `locks`.
    Locks(ChannelLocks),
    /// The report on `unlock`.
    Unlock(ReleaseReport),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_action_is_parsed() {
        for request in [
            r#"{"action":"signOut","userId":"alice"}"#,
            r#"{"action":"list","target":{"type":"all"}}"#,
            r#"{"action":"list","target":{"type":"channel","channel":"room:7"},"origin":"https://app.example","minAgeSeconds":60,"minSilenceSeconds":60,"limit":10,"cursor":"c"}"#,
            r#"{"action":"inspect","connectionId":"c1"}"#,
            r#"{"action":"kick","target":{"type":"user","userId":"alice"}}"#,
            r#"{"action":"kick","target":{"type":"all"},"code":"CLOSED_BY_OPERATOR","messageId":"m","waitSeconds":20}"#,
            r#"{"action":"drain","target":{"type":"all"},"withinSeconds":300,"percent":50}"#,
            r#"{"action":"report","messageId":"m"}"#,
            r#"{"action":"resume","messageId":"m","waitSeconds":5}"#,
            r#"{"action":"stats"}"#,
            r#"{"action":"purge","channel":"room:7"}"#,
            r#"{"action":"presence","channel":"room:7"}"#,
            r#"{"action":"locks","channel":"room:7"}"#,
            r#"{"action":"unlock","channel":"room:7","name":"field"}"#,
        ] {
            let parsed = OperatorRequest::parse(request);
            let parsed = parsed.unwrap_or_else(|error| panic!("{request}: {error}"));
            let value: Value = serde_json::from_str(request).unwrap();
            assert_eq!(value["action"], parsed.action());
            assert!(ACTIONS.contains(&parsed.action()));
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (wrong, names) in [
            ("{}", "action"),
            ("[]", "object"),
            (
                r#"{"action":"dance"}"#,
                "action must be one of signOut, list",
            ),
            (r#"{"action":7}"#, "action must be one of"),
            (r#"{"action":"signOut"}"#, "userId"),
            (r#"{"action":"signOut","userId":""}"#, "userId"),
            (r#"{"action":"signOut","userId":"alice","now":true}"#, "now"),
            (
                r#"{"action":"signOut","action":"signOut","userId":"alice"}"#,
                "action",
            ),
            (r#"{"action":"list"}"#, "target"),
            (
                r#"{"action":"list","target":["all"]}"#,
                "target must be a JSON object",
            ),
            (
                r#"{"action":"list","target":{"type":"all"},"limit":501}"#,
                "limit: must be an integer from 1 to 500",
            ),
            (r#"{"action":"inspect"}"#, "connectionId"),
            (
                r#"{"action":"kick","target":{"type":"all"},"code":"SIGNED_OUT"}"#,
                "code",
            ),
            (
                r#"{"action":"drain","target":{"type":"all"}}"#,
                "withinSeconds",
            ),
            (
                r#"{"action":"drain","target":{"type":"all"},"withinSeconds":1}"#,
                "withinSeconds: must be an integer from 10 to 7200",
            ),
            (
                r#"{"action":"drain","target":{"type":"all"},"withinSeconds":60,"percent":0}"#,
                "percent: must be an integer from 1 to 100",
            ),
            (r#"{"action":"purge","channel":"*"}"#, "channel"),
            (r#"{"action":"unlock","channel":"room:7"}"#, "name"),
        ] {
            let error = OperatorRequest::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(names), "{wrong}: {error}");
        }
    }
}
