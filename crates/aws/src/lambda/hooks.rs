use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use belfry_core::hooks::HookSubject;
use belfry_core::ports::{DeadLetters, HOOK_TIME, Listener};
use belfry_protocol::{ChannelName, ConnectionId, HookEvent, UserId};
use serde::{Deserialize, Serialize};

use super::invoke;
use crate::sdk_error::describe;

/// Time limit for the start of a delivery. Somebody waits, and the schedule
/// delivers what was not started.
const START_TIME: Duration = Duration::from_secs(2);

/// The event of the function `Hooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", deny_unknown_fields)]
pub enum HooksTask {
    /// Tells the application of the events of a subject, or of all that wait.
    Deliver {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<SubjectName>,
    },
    /// Fails, so that Lambda keeps the event as a dead letter.
    GiveUp { event: HookEvent },
}

/// A subject in a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SubjectName {
    Connection {
        connection_id: ConnectionId,
    },
    Member {
        channel: ChannelName,
        user_id: UserId,
    },
}

impl From<&HookSubject> for SubjectName {
    fn from(subject: &HookSubject) -> Self {
        match subject.clone() {
            HookSubject::Connection(connection_id) => Self::Connection { connection_id },
            HookSubject::Member(channel, user_id) => Self::Member { channel, user_id },
        }
    }
}

impl From<SubjectName> for HookSubject {
    fn from(name: SubjectName) -> Self {
        match name {
            SubjectName::Connection { connection_id } => Self::Connection(connection_id),
            SubjectName::Member { channel, user_id } => Self::Member(channel, user_id),
        }
    }
}

/// The function `Hooks`: starts deliveries, and keeps dead letters.
#[derive(Debug, Clone)]
pub struct LambdaHooks {
    client: Client,
    function: String,
}

impl LambdaHooks {
    #[must_use]
    pub fn new(client: Client, function: String) -> Self {
        Self { client, function }
    }

    /// Starts the delivery of a subject's events, by an invocation that nobody
    /// waits for.
    pub(crate) async fn start(&self, subject: &HookSubject) -> Result<(), String> {
        let task = HooksTask::Deliver {
            subject: Some(subject.into()),
        };
        tokio::time::timeout(START_TIME, self.invoke_later(&task))
            .await
            .unwrap_or_else(|_| Err(format!("Lambda did not answer within {START_TIME:?}")))
    }

    async fn invoke_later(&self, task: &HooksTask) -> Result<(), String> {
        let payload = serde_json::to_vec(task).map_err(|error| error.to_string())?;
        let invoke = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload));
        let invoked = Box::pin(invoke.send()).await;
        invoked.map(drop).map_err(|error| describe(&error))
    }
}

/// As with broadcasts, Lambda writes what failed for good to the failure
/// destination. So an event is given up by an invocation of the same function
/// that fails. Lambda takes it into its queue before the event is forgotten.
impl DeadLetters for LambdaHooks {
    async fn keep(&self, event: &HookEvent) -> Result<(), String> {
        let event = event.clone();
        self.invoke_later(&HooksTask::GiveUp { event }).await
    }
}

/// Tells a Lambda function of the application's own.
#[derive(Debug, Clone)]
pub struct LambdaListener {
    client: Client,
    function: String,
}

impl LambdaListener {
    /// `client` must not retry: the deliverer does, and limits it.
    #[must_use]
    pub fn new(client: Client, function: String) -> Self {
        Self { client, function }
    }
}

impl Listener for LambdaListener {
    async fn tell(&self, event: &HookEvent) -> Result<(), String> {
        let invoked = invoke(&self.client, &self.function, event, HOOK_TIME).await;
        invoked.map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belfry_core::hooks::PendingEvent;
    use belfry_core::testing::{connection, connection_id, user_id};

    #[test]
    fn tasks_are_read_as_they_are_written() {
        let all = r#"{"action":"deliver"}"#;
        let read: HooksTask = serde_json::from_str(all).unwrap();
        assert_eq!(read, HooksTask::Deliver { subject: None });
        assert_eq!(serde_json::to_string(&read).unwrap(), all);
        let room = ChannelName::parse("room:7").unwrap();
        for (subject, text) in [
            (
                HookSubject::Connection(connection_id("c1")),
                r#"{"action":"deliver","subject":{"connectionId":"c1"}}"#,
            ),
            (
                HookSubject::Member(room, user_id("alice")),
                r#"{"action":"deliver","subject":{"channel":"room:7","userId":"alice"}}"#,
            ),
        ] {
            let name = Some(SubjectName::from(&subject));
            let task = HooksTask::Deliver { subject: name };
            assert_eq!(serde_json::to_string(&task).unwrap(), text);
            let HooksTask::Deliver {
                subject: Some(read),
            } = serde_json::from_str(text).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!(HookSubject::from(read), subject);
        }
        let event = PendingEvent::opened(&connection("c1", "alice")).event;
        let task = HooksTask::GiveUp { event };
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<HooksTask>(&text).unwrap(), task);
        for wrong in [
            "{}",
            r#"{"action":"dance"}"#,
            r#"{"action":"deliver","subject":{"channel":"room:7"}}"#,
            r#"{"action":"deliver","all":true}"#,
            r#"{"action":"giveUp"}"#,
        ] {
            assert!(serde_json::from_str::<HooksTask>(wrong).is_err(), "{wrong}");
        }
    }
}
