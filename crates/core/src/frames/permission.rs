use std::time::Duration;

use belfry_protocol::{Action, ChannelError, ChannelName, ErrorCode, Refused, UserId};

use crate::channels::{Actions, ChannelRules, Claims, Decision};
use crate::connections::Connection;
use crate::ports::{
    Authorizer, JoinsPresence, MetricEvent, Metrics, Permission, Question, Subscription,
};
use crate::time::{UnixMillis, UnixSeconds};

/// Whose request it is, as a token said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) user_id: &'a UserId,
    pub(crate) claims: &'a Claims,
    pub(crate) token_expires_at: UnixSeconds,
}

impl<'a> From<&'a Connection> for Caller<'a> {
    fn from(connection: &'a Connection) -> Self {
        Self {
            user_id: &connection.user_id,
            claims: &connection.claims,
            token_expires_at: connection.token_expires_at,
        }
    }
}

/// What a caller may do in a channel, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) ends_at: UnixSeconds,
    pub(crate) actions: Actions,
    /// Whether the application decides, not a rule.
    pub(crate) by_application: bool,
}

impl Allowed {
    pub(crate) fn subscription(
        self,
        channel: &ChannelName,
        presence: JoinsPresence,
    ) -> Subscription {
        Subscription {
            channel: channel.clone(),
            ends_at: self.ends_at,
            allowed: self.by_application.then_some(self.actions),
            actions: self.actions,
            presence,
        }
    }
}

/// Judges what callers may do in channels.
#[derive(Debug)]
pub(crate) struct Judge<'a, A, M> {
    pub(crate) rules: &'a ChannelRules,
    pub(crate) authorizer: &'a A,
    pub(crate) metrics: &'a M,
}

impl<A: Authorizer, M: Metrics> Judge<'_, A, M> {
    /// Whether the action is allowed. What the application cannot say, or says
    /// in an odd way, is refused.
    pub(crate) async fn allows(
        &self,
        caller: Caller<'_>,
        channel: &ChannelName,
        action: Action,
        now: UnixMillis,
    ) -> Option<Allowed> {
        let token_ends = caller.token_expires_at;
        match self.rules.decide(channel, caller.claims) {
            Decision::Allowed { actions, .. } => actions.contains(action).then_some(Allowed {
                ends_at: token_ends,
                actions,
                by_application: false,
            }),
            Decision::Refused => None,
            Decision::Ask { .. } => {
                let Permission { actions, lifetime } = self.ask(caller, channel, action).await?;
                let ends_at = now.plus(lifetime).to_seconds().min(token_ends);
                actions.contains(action).then_some(Allowed {
                    ends_at,
                    actions,
                    by_application: true,
                })
            }
        }
    }

    /// Whether the application is the one to decide.
    pub(crate) fn asks(&self, caller: Caller<'_>, channel: &ChannelName) -> bool {
        let decision = self.rules.decide(channel, caller.claims);
        matches!(decision, Decision::Ask { .. })
    }

    async fn ask(
        &self,
        caller: Caller<'_>,
        channel: &ChannelName,
        action: Action,
    ) -> Option<Permission> {
        let question = Question {
            user_id: caller.user_id,
            claims: caller.claims,
            channel,
            action,
        };
        match self.authorizer.ask(question).await {
            Ok(permission) if permission.lifetime > Duration::ZERO => Some(permission),
            Ok(_) => None,
            Err(reason) => {
                tracing::warn!(event = "channel.not-authorized", userId = %caller.user_id, reason, "could not ask what a user may do in a channel; nothing is allowed");
                self.metrics.record(MetricEvent::AuthorizationFailed);
                None
            }
        }
    }
}

const NOT_ALLOWED: &str = "not allowed in this channel";

pub(crate) fn forbidden() -> Refused {
    Refused::new(ErrorCode::Forbidden, NOT_ALLOWED)
}

pub(crate) fn forbidden_channel() -> ChannelError {
    ChannelError {
        code: ErrorCode::Forbidden,
        message: NOT_ALLOWED.into(),
    }
}
