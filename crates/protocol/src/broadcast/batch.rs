//! Several messages in one broadcast.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Notice, NoticeType};
use crate::list::Item;
use crate::{FrameId, InvalidRequest, MessageId, NotificationData, Timestamp, Version, shape};

/// The longest `messageId` that frame ids are made of, in characters: `.50` has
/// to fit, too.
const MAX_STEM: usize = 125;

/// One of several messages of a broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchedNotice {
    /// The `id` of the message's frame. The default is the `messageId` of the
    /// broadcast, a dot and the message's number, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The frame type. Callers may send only notifications.
    #[serde(rename = "type", deserialize_with = "shape::variant")]
    pub notice_type: NoticeType,
    /// The protocol version that the message was written for.
    #[serde(default)]
    pub version: Option<Version>,
    /// When the event that the message reports happened. The default is the
    /// time of the broadcast.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// The `id` of the client's frame that this message answers.
    #[serde(default)]
    pub correlation_id: Option<FrameId>,
    /// The content of the notification.
    pub data: NotificationData,
}

impl Item for BatchedNotice {
    const NAME: &'static str = "message";
}

impl BatchedNotice {
    pub(super) fn notice(&self) -> Notice {
        Notice {
            notice_type: self.notice_type,
            version: self.version,
            timestamp: self.timestamp,
            correlation_id: self.correlation_id.clone(),
            data: self.data.clone(),
        }
    }

    pub(super) fn frame_id(&self, broadcast: &MessageId, number: usize) -> Option<FrameId> {
        let id = match &self.id {
            Some(id) => FrameId::parse(id.as_str()),
            None => FrameId::parse(format!("{broadcast}.{number}")),
        };
        id.ok()
    }
}

/// Checks that each message has an `id` of its own.
pub(super) fn check_ids(
    broadcast: Option<&MessageId>,
    messages: &[BatchedNotice],
) -> Result<(), InvalidRequest> {
    let makes_ids = messages.iter().any(|message| message.id.is_none());
    if makes_ids && broadcast.is_some_and(|id| id.as_str().len() > MAX_STEM) {
        return Err(InvalidRequest::new(
            "messageId: at most 125 characters, or give each of the messages an id",
        ));
    }
    let (mut ids, mut numbers) = (HashSet::new(), 1..);
    let mut is_new = |message: &BatchedNotice| {
        let number = numbers.next()?;
        // Any broadcast's id will do if it is to be made up.
        match (&message.id, broadcast) {
            (None, None) => None,
            (Some(id), _) => Some(ids.insert(id.to_string())),
            (None, Some(id)) => Some(ids.insert(format!("{id}.{number}"))),
        }
    };
    if messages
        .iter()
        .any(|message| is_new(message) == Some(false))
    {
        return Err(InvalidRequest::new("messages: their ids must be distinct"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BroadcastRequest;
    use serde_json::{Value, json};

    fn parse(id: Option<&str>, ids: &[Option<&str>]) -> Result<BroadcastRequest, String> {
        let message = |id: &Option<&str>| {
            let mut message = json!({"type": "notification", "data": {"kind": "k"}});
            message["id"] = id.map_or(Value::Null, Value::from);
            message
        };
        let messages: Vec<_> = ids.iter().map(message).collect();
        let request = json!({"messageId": id, "target": {"type": "all"}, "messages": messages});
        BroadcastRequest::parse(&request.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_frame_has_an_id_of_its_own() {
        let request = parse(None, &[None, Some("own"), None]).unwrap();
        let notices = request.notices(&MessageId::parse("m").unwrap());
        let ids: Vec<_> = notices.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["m.1", "own", "m.3"]);
        let again = BroadcastRequest::parse(&request.canonical());
        assert_eq!(again, Ok(request));
        for ids in [[Some("a"), Some("a")], [None, Some("m.1")]] {
            let error = parse(Some("m"), &ids).unwrap_err();
            assert!(error.contains("distinct"), "{error}");
        }
    }

    #[test]
    fn a_long_id_leaves_no_room_for_numbers() {
        let long = "m".repeat(126);
        assert!(parse(Some(&long), &[None]).unwrap_err().contains("125"));
        assert!(parse(Some(&long), &[Some("own")]).is_ok());
        assert!(parse(Some(&long[1..]), &[None; 50]).is_ok());
    }
}
