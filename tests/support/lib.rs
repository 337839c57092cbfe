//! What the system tests and benchmarks share: a running stack, clients, and
//! tokens that no issuer would issue.

mod client;
mod crafted;
mod figures;
mod function;
mod key_server;
mod local;
mod logs;
mod node;
mod peers;
mod process;
mod signing;
mod sink;
mod stack;
mod tables;

pub use belfry_loadtest::{
    Announcer, Answers, Broadcast, Crowd, SOLO, Ticket, percentile, user_of, users_for,
};
pub use client::{Socket, open, open_with_frames_up_to, refused, try_open};
pub use crafted::Crafted;
pub use figures::Figures;
pub use function::Function;
pub use key_server::{KeyAnswer, KeyServer};
pub use logs::Logs;
pub use node::{Terminal, node, node_text, wscat_path};
pub use peers::{belfry, node_peer, python_peer};
pub use signing::SigningKey;
pub use sink::Sink;
pub use stack::{Ready, Stack, StackBuilder, binaries, repository, soon, template_with, until};
pub use tables::RowWatch;
