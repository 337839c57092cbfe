//! Belfry's Lambda functions: the settings of each, and its wiring. The rules
//! are in `belfry-core`, the adapters in `belfry-aws`.

mod audit;
pub mod broadcaster;
mod common;
pub mod connect;
pub mod default;
pub mod disconnect;
mod environment;
mod error;
mod fanout;
pub mod hooks;
mod logging;
pub mod operator;
pub mod reader;
mod start;
pub mod sweeper;
mod tokens;
pub mod worker;

pub use environment::{Environment, SettingError};
pub use error::FunctionError;
pub use start::start;
