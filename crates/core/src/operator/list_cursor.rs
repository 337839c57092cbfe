use std::fmt;

use belfry_protocol::{ConnectionId, Target};

/// Where a listing continues: after a connection that is or was at this place in
/// the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListCursor {
    /// A listing of another kind has other places.
    kind: &'static str,
    /// In the list that the request names.
    pub(super) index: usize,
    pub(super) after: Option<ConnectionId>,
}

/// The text is not a cursor of a listing of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor: must be the cursor of an earlier page of the same list")]
pub struct InvalidListCursor;

impl ListCursor {
    pub(super) fn start(target: &Target) -> Self {
        let kind = match target {
            Target::All {} => "all",
            Target::Channel { .. } => "channel",
            Target::User { .. } => "user",
            Target::Users { .. } => "users",
            Target::Connections { .. } => "connections",
        };
        Self {
            kind,
            index: 0,
            after: None,
        }
    }

    pub(super) fn parse(text: &str, target: &Target) -> Result<Self, InvalidListCursor> {
        let start = Self::start(target);
        let read = || {
            let (kind, rest) = text.split_once(':')?;
            let (index, after) = rest.split_once(':')?;
            let cursor = Self {
                index: index.parse().ok()?,
                after: match after {
                    "" => None,
                    after => Some(ConnectionId::parse(after).ok()?),
                },
                ..start
            };
            // Only what was made here, and not "+1" for example.
            (kind == cursor.kind && cursor.to_string() == text).then_some(cursor)
        };
        read().ok_or(InvalidListCursor)
    }

    pub(super) fn after(&self, id: ConnectionId) -> Self {
        Self {
            after: Some(id),
            ..self.clone()
        }
    }

    /// The beginning of another part of the list that the request names.
    pub(super) fn at(&self, index: usize) -> Self {
        Self {
            index,
            after: None,
            ..*self
        }
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.as_ref().map_or("", ConnectionId::as_str);
        write!(f, "{}:{}:{after}", self.kind, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connection_id, user_id};
    use proptest::prelude::*;

    fn user() -> Target {
        Target::User {
            user_id: user_id("alice"),
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(index: usize, id in "[!-~]{1,40}") {
            let start = ListCursor::start(&user()).at(index);
            for cursor in [start.after(connection_id(&id)), start] {
                let read = ListCursor::parse(&cursor.to_string(), &user());
                prop_assert_eq!(read, Ok(cursor.clone()));
                let other = ListCursor::parse(&cursor.to_string(), &Target::All {});
                prop_assert_eq!(other, Err(InvalidListCursor));
            }
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,40}") {
            if let Ok(cursor) = ListCursor::parse(&text, &Target::All {}) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn hostile_cursors_are_refused() {
        let long = format!("all:0:{}", "c".repeat(10_000));
        for text in [
            "",
            ":",
            "all",
            "all:",
            "all:0",
            "all:-1:c",
            "all:+1:c",
            "all:00:c",
            "all:1e3:c",
            "all:18446744073709551616:c",
            "user:0:c",
            "All:0:c",
            "all:0:a b",
            "all:0:\u{e9}",
            &long,
        ] {
            let read = ListCursor::parse(text, &Target::All {});
            assert_eq!(read, Err(InvalidListCursor), "{text}");
        }
    }
}
