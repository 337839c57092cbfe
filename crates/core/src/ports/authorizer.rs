use std::future::Future;
use std::time::Duration;

use belfry_protocol::{Action, ChannelName, UserId};

use crate::channels::{Actions, Claims};

/// A question for the application: may this user do this?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    pub user_id: &'a UserId,
    pub claims: &'a Claims,
    pub channel: &'a ChannelName,
    pub action: Action,
}

/// What the application allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    pub actions: Actions,
    /// How long the answer holds.
    pub lifetime: Duration,
}

/// Asks the application what a user may do in a channel whose rule says `ask`.
pub trait Authorizer: Send + Sync {
    /// Asks. An error means that nothing is allowed; the text is for the
    /// operator.
    fn ask(
        &self,
        question: Question<'_>,
    ) -> impl Future<Output = Result<Permission, String>> + Send;
}
