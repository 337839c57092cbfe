//! The log of a channel, which lets a client recover what it has missed.
//!
//! A log is a head and entries. The head names the epoch and holds the entries
//! that were appended last whole: one, or several that were appended together.
//! The entries before them are stored one by one.
//!
//! Invariants:
//! - Moving the head is the moment of publication. It moves from `n` to
//!   `n + k` if `k` messages are appended together, on condition that it is at
//!   `n`, so numbers have no holes and no number is given twice. The head is one
//!   item, so of messages that are appended together a reader finds all or none.
//! - **Every entry before the head's is stored.** Whoever moves the head makes
//!   sure first that the head's own entries are stored ([`Appender`]). So a
//!   publisher may die anywhere: what is published is never lost. Of several
//!   entries the newest is stored last: it tells that the others are.
//! - A reader reads the head first and the entries before it afterwards
//!   ([`Recovery`]). Those were stored before the head moved, so a gap means
//!   that entries have expired, or that the log was purged meanwhile.
//! - A purge moves the head to another epoch and keeps its number. So no position
//!   of before is one of the new epoch, not even that of an empty log, and whoever
//!   has one is told that something was lost. The head is one item, so a message is
//!   appended either before the purge or to the new epoch ([`Purger`]).
//! - A subscriber writes its subscription first and reads the log afterwards. A
//!   publisher appends first and lists the subscribers afterwards. So either
//!   the read finds the message, or the listing finds the subscriber.

mod append;
mod entry;
mod epoch;
mod purge;
mod recovery;
#[cfg(test)]
mod tests;

use belfry_protocol::MAX_STORED_FRAME_BYTES;

pub use append::{AppendError, Appended, Appender, Message};
pub use entry::{AppendId, Entry, Head, LogKey};
pub use purge::Purger;
pub use recovery::{Compared, Lost, Recovery, RecoveryLimits, RecoveryReader};

/// More than a position takes in a frame.
pub(crate) const POSITION_BYTES: usize = 120;

/// The longest frame that can be kept, in bytes, before it has its position.
pub(crate) const MAX_UNPLACED_BYTES: usize = MAX_STORED_FRAME_BYTES - POSITION_BYTES;
