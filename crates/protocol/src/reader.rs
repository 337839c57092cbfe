//! Requests of HTTP readers, and their answers.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Address, Epoch, ErrorCode, MAX_CHANNELS, MessageFrame, Position, Publish, ReaderSession,
    Refused, Since, SubscribedTo, json, shape,
};

/// The longest wait of a poll, in seconds. It is shorter than the time limits of
/// common proxies.
pub const MAX_POLL_SECONDS: u8 = 25;

/// The longest cursor, in bytes: more than 50 positions of Belfry's take.
const MAX_CURSOR_BYTES: usize = 4 * 1024;

/// What a reader has seen of each of its channels, in their order.
///
/// As text, `epoch.seq` for each channel, joined by commas, `acked` for what the
/// user has acknowledged, and `-` for a channel of which no position is known. That
/// of no channel is empty.
/// So a client that knows positions can make a cursor, for example when it
/// changes from a socket to HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(Vec<Option<Since>>);

impl Cursor {
    /// Where the reader is in each channel, in the order of the channels.
    #[must_use]
    pub fn parts(&self) -> &[Option<Since>] {
        &self.0
    }
}

impl FromIterator<Option<Since>> for Cursor {
    fn from_iter<I: IntoIterator<Item = Option<Since>>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match part {
                Some(Since::Position(Position { epoch, seq })) => write!(f, "{epoch}.{seq}")?,
                Some(Since::Acked) => f.write_str(Since::ACKED)?,
                None => f.write_str("-")?,
            }
        }
        Ok(())
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor must have epoch.seq, acked or - for each channel, joined by commas")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > MAX_CURSOR_BYTES {
            return Err(InvalidCursor);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parts = text.split(',').map(|part| match part {
            "-" => Ok(None),
            Since::ACKED => Ok(Some(Since::Acked)),
            _ => {
                let position = position(part).ok_or(InvalidCursor)?;
                Ok(Some(Since::Position(position)))
            }
        });
        parts.collect::<Result<_, _>>().map(Self)
    }
}

fn position(text: &str) -> Option<Position> {
    let (epoch, seq) = text.rsplit_once('.')?;
    let is_plain = seq == "0" || !seq.starts_with(['0', '+']);
    Some(Position {
        epoch: Epoch::parse(epoch).ok()?,
        seq: seq.parse().ok().filter(|_| is_plain)?,
    })
}

/// What a reader wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The channels, and after what the messages begin.
    pub channels: Vec<(Address, Option<Since>)>,
    /// How long to wait for a message, in seconds.
    pub wait_seconds: u8,
}

impl ReadRequest {
    /// Reads the decoded parameters of a query. `last_event_id` is the header
    /// that a browser sends when it resumes a stream; it is newer than the
    /// cursor in the address. Unknown parameters are ignored.
    ///
    /// # Errors
    /// [`Refused`] for parameters that are missing, twice or malformed.
    pub fn parse<N: AsRef<str>, V: AsRef<str>>(
        parameters: impl IntoIterator<Item = (N, V)>,
        last_event_id: Option<&str>,
    ) -> Result<Self, Refused> {
        let mut channels = Vec::new();
        let (mut cursor, mut wait) = (None, None);
        for (name, value) in parameters {
            let value = value.as_ref();
            match name.as_ref() {
                "channel" => {
                    if channels.len() == MAX_CHANNELS {
                        let text = format!("at most {MAX_CHANNELS} channels can be read at once");
                        return Err(Refused::new(ErrorCode::TooManyChannels, text));
                    }
                    let address = Address::parse(value).map_err(|error| invalid(error.to_string()));
                    channels.push(address?);
                }
                "cursor" => once(&mut cursor, value.to_owned(), "cursor")?,
                "wait" => once(&mut wait, seconds(value)?, "wait")?,
                _ => {}
            }
        }
        let newest = last_event_id.filter(|id| !id.is_empty());
        let cursor: Option<Cursor> = match newest.or(cursor.as_deref()) {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|error: InvalidCursor| invalid(error.to_string()))?,
            ),
        };
        let parts = match cursor {
            None => vec![None; channels.len()],
            Some(Cursor(parts)) if parts.len() == channels.len() => parts,
            Some(_) => return Err(invalid("cursor must have one part for each channel")),
        };
        Ok(Self {
            channels: channels.into_iter().zip(parts).collect(),
            wait_seconds: wait.unwrap_or(0),
        })
    }

    /// Refuses a request that waits for the messages of no channel.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn of_channels(self) -> Result<Self, Refused> {
        if self.channels.is_empty() {
            return Err(invalid("name at least one channel, like ?channel=room:7"));
        }
        Ok(self)
    }
}

impl Publish {
    /// Reads the body of a request to publish: what a `publish` frame has as
    /// `data`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn parse(text: &str, max_bytes: usize) -> Result<Self, Refused> {
        if text.len() > max_bytes {
            let message = format!("the body must have at most {max_bytes} bytes");
            return Err(Refused::new(ErrorCode::MessageTooLarge, message));
        }
        match json::parse(text) {
            Ok(serde_json::Value::Object(object)) => shape::read(object).map_err(invalid),
            Ok(_) => Err(invalid("the body must be a JSON object")),
            Err(error) => Err(invalid(error.to_string())),
        }
    }
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Messages {
    /// The messages, each in its channel's order.
    pub messages: Vec<MessageFrame>,
    /// What the next poll asks with.
    pub cursor: String,
    /// The result for each channel, in the order of the request. `messages` of
    /// a channel are left out: they are above.
    pub channels: Vec<SubscribedTo>,
    /// Whose token the request had.
    #[serde(flatten)]
    pub session: ReaderSession,
}

fn seconds(text: &str) -> Result<u8, Refused> {
    let digits = text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok().filter(|_| digits);
    seconds
        .filter(|seconds| *seconds <= MAX_POLL_SECONDS)
        .ok_or_else(|| {
            invalid(format!(
                "wait must be a whole number from 0 to {MAX_POLL_SECONDS}"
            ))
        })
}

fn once<T>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), Refused> {
    if slot.replace(value).is_some() {
        return Err(invalid(format!("{name} is given twice")));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidMessage, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(epoch: &str, seq: u64) -> Since {
        Since::Position(Position {
            epoch: Epoch::parse(epoch).unwrap(),
            seq,
        })
    }

    fn parse(query: &[(&str, &str)], last: Option<&str>) -> Result<ReadRequest, Refused> {
        ReadRequest::parse(query.iter().copied(), last)
    }

    #[test]
    fn a_cursor_says_for_each_channel_where_the_reader_is() {
        let cursor: Cursor = "19b7a.41,-,x.y.0,acked".parse().unwrap();
        let parts = [
            Some(at("19b7a", 41)),
            None,
            Some(at("x.y", 0)),
            Some(Since::Acked),
        ];
        assert_eq!(cursor.parts(), parts);
        assert_eq!(cursor.to_string(), "19b7a.41,-,x.y.0,acked");
        let too_long = "-,".repeat(3_000);
        for wrong in [
            ",",
            "a",
            "a.",
            ".1",
            "a.-1",
            "a.+1",
            "a.01",
            "a.1,",
            "a b.1",
            "ü.1",
            "a.1\n",
            "a.18446744073709551616",
            "Acked",
            &too_long,
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong:?}");
        }
    }

    #[test]
    fn a_query_names_channels_and_where_they_begin() {
        let query = [
            ("channel", "@me"),
            ("channel", "room:7"),
            ("wait", "20"),
            ("x", "y"),
        ];
        let request = parse(&query, None).unwrap();
        assert_eq!(request.wait_seconds, 20);
        let addresses: Vec<_> = request.channels.iter().map(|(a, _)| a.as_str()).collect();
        assert_eq!(addresses, ["@me", "room:7"]);
        let with_cursor = [&query[..], &[("cursor", "-,e.4")]].concat();
        let request = parse(&with_cursor, None).unwrap();
        assert_eq!(request.channels[1].1, Some(at("e", 4)));
        let request = parse(&with_cursor, Some("e.1,e.9")).unwrap();
        assert_eq!(request.channels[1].1, Some(at("e", 9)), "the newest counts");
        let request = parse(&with_cursor, Some("")).unwrap();
        assert_eq!(request.channels[1].1, Some(at("e", 4)));
        let none = parse(&[("cursor", "")], None).unwrap();
        assert_eq!(
            none.channels,
            [],
            "the cursor of an answer without channels"
        );
    }

    #[test]
    fn a_wrong_query_is_refused_with_its_parameter() {
        let nothing = parse(&[], None).unwrap().of_channels().unwrap_err();
        assert!(nothing.message.contains("channel"), "{nothing}");
        for (query, named) in [
            (&[("channel", "@nobody")][..], "channel"),
            (&[("channel", "a"), ("wait", "26")], "wait"),
            (&[("channel", "a"), ("wait", "+1")], "wait"),
            (&[("channel", "a"), ("wait", "1"), ("wait", "1")], "wait"),
            (&[("channel", "a"), ("cursor", "e.1,e.2")], "cursor"),
            (&[("channel", "a"), ("cursor", "secret")], "cursor"),
            (&[("channel", "a"), ("cursor", "")], "cursor"),
            (&[("channel", "a"), ("cursor", ",")], "cursor"),
            (&[("cursor", "-")], "cursor"),
        ] {
            let refused = parse(query, None).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidMessage);
            assert!(refused.message.contains(named), "{refused}");
            assert!(!refused.message.contains("secret"), "{refused}");
        }
        let many = [("channel", "a"); MAX_CHANNELS + 1];
        assert!(parse(&many[..MAX_CHANNELS], None).is_ok());
        let refused = parse(&many, None).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyChannels);
    }

    #[test]
    fn a_body_is_the_data_of_a_publish_frame() {
        let publish = Publish::parse(r#"{"channel":"room:7","kind":"chat"}"#, 100).unwrap();
        assert_eq!(publish.channel.as_str(), "room:7");
        for (body, code) in [
            ("[]", ErrorCode::InvalidMessage),
            ("{", ErrorCode::InvalidMessage),
            (
                r#"{"channel":"@all","kind":"a"}"#,
                ErrorCode::InvalidMessage,
            ),
            (&" ".repeat(101), ErrorCode::MessageTooLarge),
        ] {
            assert_eq!(Publish::parse(body, 100).unwrap_err().code, code, "{body}");
        }
    }

    fn since() -> impl Strategy<Value = Since> {
        let position = ("[0-9a-f]{8,19}", any::<u64>());
        prop_oneof![
            position.prop_map(|(epoch, seq)| at(&epoch, seq)),
            Just(Since::Acked),
        ]
    }

    proptest! {
        #[test]
        fn a_cursor_survives_the_way(
            parts in prop::collection::vec(prop::option::of(since()), 0..51),
        ) {
            let cursor: Cursor = parts.into_iter().collect();
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_not(text in ".{0,80}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
