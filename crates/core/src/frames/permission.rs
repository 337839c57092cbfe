use std::time::Duration;

use belfry_protocol::{Action, ChannelError, ChannelName, ErrorCode, Refused};

use crate::channels::{Actions, ChannelRules, Decision};
use crate::connections::Connection;
use crate::ports::{
    Authorizer, JoinsPresence, MetricEvent, Metrics, Permission, Question, Subscription,
};
use crate::time::{UnixMillis, UnixSeconds};

/// What a connection may do in a channel, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) ends_at: UnixSeconds,
    pub(super) actions: Actions,
    /// Whether the application decides, not a rule.
    pub(super) by_application: bool,
}

impl Allowed {
    pub(super) fn subscription(
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

/// Judges what connections may do in channels.
#[derive(Debug)]
pub(super) struct Judge<'a, A, M> {
    pub(super) rules: &'a ChannelRules,
    pub(super) authorizer: &'a A,
    pub(super) metrics: &'a M,
}

impl<A: Authorizer, M: Metrics> Judge<'_, A, M> {
    /// Whether the action is allowed. What the application cannot say, or says
    /// in an odd way, is refused.
    pub(super) async fn allows(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        action: Action,
        now: UnixMillis,
    ) -> Option<Allowed> {
        let token_ends = connection.token_expires_at;
        match self.rules.decide(channel, &connection.claims) {
            Decision::Allowed { actions, .. } => actions.contains(action).then_some(Allowed {
                ends_at: token_ends,
                actions,
                by_application: false,
            }),
            Decision::Refused => None,
            Decision::Ask { .. } => {
                let Permission { actions, lifetime } =
                    self.ask(connection, channel, action).await?;
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
    pub(super) fn asks(&self, connection: &Connection, channel: &ChannelName) -> bool {
        let decision = self.rules.decide(channel, &connection.claims);
        matches!(decision, Decision::Ask { .. })
    }

    async fn ask(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        action: Action,
    ) -> Option<Permission> {
        let question = Question {
            user_id: &connection.user_id,
            claims: &connection.claims,
            channel,
            action,
        };
        match self.authorizer.ask(question).await {
            Ok(permission) if permission.lifetime > Duration::ZERO => Some(permission),
            Ok(_) => None,
            Err(reason) => {
                tracing::warn!(event = "channel.not-authorized", connectionId = %connection.id, reason, "could not ask what a user may do in a channel; nothing is allowed");
                self.metrics.record(MetricEvent::AuthorizationFailed);
                None
            }
        }
    }
}

const NOT_ALLOWED: &str = "not allowed in this channel";

pub(super) fn forbidden() -> Refused {
    Refused::new(ErrorCode::Forbidden, NOT_ALLOWED)
}

pub(super) fn forbidden_channel() -> ChannelError {
    ChannelError {
        code: ErrorCode::Forbidden,
        message: NOT_ALLOWED.into(),
    }
}
