//! What operators ask for.

mod inspect;
mod list;
mod list_cursor;
mod purge;
mod sign_out;
mod stats;
mod unlock;

pub use inspect::Inspect;
pub use list::{List, ListError};
pub use list_cursor::InvalidListCursor;
pub use purge::Purge;
pub use sign_out::SignOut;
pub use stats::ReadStats;
pub use unlock::Unlock;
