//! What docs/GATEWAY.md says that API Gateway does: each test is a row of its
//! table.
//!
//! Without `CONFORMANCE_URL` the suite runs against local stacks. With it, it
//! runs against the WebSocket API at that URL, which must be a deployment of
//! tests/templates/misbehave.yaml, and what fails are the differences. Rows
//! that need their own template or would throttle a whole account are told as
//! skipped then.

mod events;
mod handshake;
mod limits;
mod management;
mod routing;
mod table;
mod target;
