//! Belfry's adapters to AWS: DynamoDB, the API Gateway management API,
//! Cognito's tokens, and the events that API Gateway sends to a Lambda.
//!
//! SDK errors are classified here; no SDK type crosses into `belfry-core`.
#![warn(missing_docs)]

pub mod apigateway;
mod clients;
mod clock;
pub mod cognito;
mod connections;
mod metrics;
mod outbox;
mod row;
mod sdk_error;
mod state;
mod workers;

pub use clients::Clients;
pub use clock::SystemClock;
pub use connections::{DynamoConnections, Tables};
pub use metrics::EmfMetrics;
pub use outbox::ManagementOutbox;
pub use workers::{LambdaWorkers, WorkOrder};
