//! Shared by the system tests and the benchmarks: a running local stack,
//! clients, and tokens that no issuer would issue.

mod client;
mod clock;
mod crafted;
mod figures;
mod function;
mod gate;
mod key_server;
mod local;
mod logs;
mod node;
mod patience;
mod peers;
mod process;
mod program;
mod python;
mod signing;
mod sink;
mod stack;
mod tables;
mod work;

pub use belfry_loadtest::{
    Announcer, Answers, Broadcast, Crowd, SOLO, Ticket, percentile, user_of, users_for,
};
pub use client::{Socket, open, open_with_frames_up_to, refused, request, try_open};
pub use clock::unix_time;
pub use crafted::Crafted;
pub use figures::Figures;
pub use function::Function;
pub use gate::Gate;
pub use key_server::{KeyAnswer, KeyServer};
pub use logs::Logs;
pub use node::{Terminal, node, node_text, wscat_path};
pub use patience::{ended, few_at_a_time, http, soon, until};
pub use peers::{belfry, measured, node_peer, python_peer};
pub use program::{Clients, Program};
pub use python::python;
pub use signing::SigningKey;
pub use sink::Sink;
pub use stack::{CONTENTION, Ready, Stack, StackBuilder, binaries, repository, template_with};
pub use tables::{Item, Places, RowWatch, text_of};
pub use work::Work;
