//! What the system tests and benchmarks share: a running stack, clients, and
//! tokens that no issuer would issue.

mod client;
mod crafted;
mod crowd;
mod key_server;
mod local;
mod logs;
mod node;
mod process;
mod signing;
mod stack;
mod tables;

pub use client::{Socket, open, open_with_frames_up_to, refused, try_open};
pub use crafted::Crafted;
pub use crowd::{Broadcast, Crowd};
pub use key_server::{KeyAnswer, KeyServer};
pub use logs::Logs;
pub use node::{Terminal, node, node_text, wscat_path};
pub use signing::SigningKey;
pub use stack::{Ready, Stack, StackBuilder, binaries, repository, soon, template_with, until};
pub use tables::RowWatch;
