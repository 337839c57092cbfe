//! The whole of Belfry: real binaries, real sockets, real SDK clients. Each
//! test runs a local stack of its own.

mod acks;
mod asynchronous;
mod authorize;
mod broadcast;
mod calls;
mod channel_rules;
mod channels;
mod clients;
mod command_line;
mod examples;
mod fanout;
mod faults;
mod frames;
mod function_urls;
mod functions;
mod gone;
mod handshake;
mod histories;
mod invoke;
mod keys;
mod lifetime;
mod limits;
mod loadtest;
mod locks;
mod management;
mod metrics;
mod outage;
mod pages;
mod presence;
mod rows;
mod scale;
mod start;
mod stop;
mod terminal;
mod upgrade;
