//! Belfry's Lambda functions: the settings of each, and how its parts are put
//! together. The rules are in `belfry-core`, the way to AWS in `belfry-aws`.
#![warn(missing_docs)]

pub mod broadcaster;
pub mod connect;
pub mod default;
pub mod disconnect;
mod environment;
mod error;
pub mod fanout;
mod logging;
pub mod sweeper;
mod tokens;
pub mod worker;

pub use environment::{Environment, SettingError};
pub use error::FunctionError;
pub use logging::start;
