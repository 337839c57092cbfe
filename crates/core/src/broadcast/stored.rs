//! What is remembered of a client's message that workers post.

use belfry_protocol::{Action, ChannelName, ConnectionId};
use serde_json::{Value, json};

use crate::ports::Listing;

/// A client's message to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPublish {
    pub(super) channel: ChannelName,
    pub(super) listing: Listing,
    pub(super) frame: String,
    /// The publisher's connection, if it gets no copy.
    pub(super) exclude: Option<ConnectionId>,
}

/// The member that tells it from a caller's request.
const PUBLISH: &str = "publish";

impl StoredPublish {
    pub(super) fn to_json(&self) -> String {
        let exclude = self.exclude.as_ref().map(ConnectionId::as_str);
        json!({PUBLISH: {
            "channel": self.channel.as_str(),
            "listing": to_text(self.listing),
            "frame": self.frame,
            "exclude": exclude,
        }})
        .to_string()
    }

    /// `None` if the text is something else.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let publish = value.get(PUBLISH)?;
        let text = |name: &str| publish.get(name)?.as_str();
        Some(Self {
            channel: ChannelName::parse(text("channel")?).ok()?,
            listing: match text("listing") {
                None => Listing::All,
                Some(listing) => from_text(listing)?,
            },
            frame: text("frame")?.to_owned(),
            exclude: text("exclude").and_then(|id| ConnectionId::parse(id).ok()),
        })
    }
}

const ALL: &str = "all";

const PRESENT: &str = "present";

fn to_text(listing: Listing) -> &'static str {
    match listing {
        Listing::All => ALL,
        Listing::Present => PRESENT,
        Listing::Allowed(action) => action.as_str(),
    }
}

fn from_text(text: &str) -> Option<Listing> {
    match text {
        ALL => Some(Listing::All),
        PRESENT => Some(Listing::Present),
        _ => {
            let mut known = Action::ALL.into_iter();
            let action = known.find(|action| action.as_str() == text)?;
            Some(Listing::Allowed(action))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connection_id;

    #[test]
    fn it_survives_its_text() {
        let cases = [
            (None, Listing::All),
            (Some(connection_id("c1")), Listing::Present),
            (None, Listing::Allowed(Action::Lock)),
        ];
        for (exclude, listing) in cases {
            let publish = StoredPublish {
                listing,
                channel: ChannelName::parse("room:7").unwrap(),
                frame: r#"{"type":"message","data":"\u0000 ü"}"#.into(),
                exclude,
            };
            let read = StoredPublish::from_json(&publish.to_json());
            assert_eq!(read, Some(publish));
        }
        let request = r#"{"target":{"type":"all"},"message":{}}"#;
        assert_eq!(StoredPublish::from_json(request), None);
    }
}
