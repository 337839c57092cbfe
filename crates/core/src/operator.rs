//! What operators ask for.

mod sign_out;

pub use sign_out::SignOut;
