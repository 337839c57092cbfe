//! What operators ask of a running stack.

mod drains;
mod kicks;
