use std::fmt;
use std::str::FromStr;

use belfry_protocol::ConnectionId;

/// Where a segment's listing continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// After this connection of a scan.
    After(ConnectionId),
    /// At this index of the list that the request named.
    Index(usize),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(id) => write!(f, "after:{id}"),
            Self::Index(index) => write!(f, "index:{index}"),
        }
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed cursor")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        match text.split_once(':') {
            Some(("after", id)) => ConnectionId::parse(id)
                .map(Self::After)
                .map_err(|_| InvalidCursor),
            Some(("index", index)) => index.parse().map(Self::Index).map_err(|_| InvalidCursor),
            _ => Err(InvalidCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(index: usize, id in "[A-Za-z0-9_=:-]{1,40}") {
            for cursor in [Cursor::Index(index), Cursor::After(ConnectionId::parse(id.as_str()).unwrap())] {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert!(text.starts_with("after:") || text.starts_with("index:"), "{:?}", cursor);
            }
        }
    }
}
