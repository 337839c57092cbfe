//! What people read and paste, as `belfry ops` prints it.

pub(crate) use belfry_ops::{commands, printable};
