//! The behaviour of API Gateway: each test is a row of the tables in
//! docs/GATEWAY.md.
//!
//! Without `CONFORMANCE_URL` the suite runs against local stacks. With it, the
//! suite runs against the WebSocket API at that URL, a deployment of
//! tests/templates/misbehave.yaml, and failures are differences. A few rows
//! need another template or would throttle the whole account. Those are ignored
//! then, and the run prints each one with its reason.

mod events;
mod handshake;
mod limits;
mod management;
mod routing;
mod table;
mod target;
