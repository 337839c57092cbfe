//! Belfry's adapters to AWS: DynamoDB, API Gateway, Lambda, Cognito's tokens
//! and CloudWatch's metrics.
//!
//! SDK errors are classified here; no SDK type crosses into `belfry-core`.

pub mod apigateway;
mod clients;
mod clock;
pub mod cognito;
mod dynamodb;
pub mod functionurl;
mod http;
mod lambda;
mod metrics;
mod randomness;
mod sdk_error;

pub use clients::Clients;
pub use clock::SystemClock;
pub use dynamodb::{DynamoDb, Tables};
pub use http::Http;
pub use lambda::{
    CALL_TIME, HooksTask, LambdaAuthorizer, LambdaCallee, LambdaHooks, LambdaListener,
    LambdaWorkers, SegmentTask, SubjectName,
};
pub use metrics::EmfMetrics;
pub use randomness::SystemRandomness;
