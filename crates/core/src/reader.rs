//! Readers over HTTP: the same tokens, rules and logs without a socket.
//!
//! A reader sees what logs keep and nothing else: messages that are not kept
//! are for connections. It subscribes nowhere, so nothing must be removed when
//! it goes, which nobody would notice: Lambda does not tell a function that its
//! client has left.

mod refusal;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use belfry_protocol::{
    Action, Address, BearerToken, ErrorCode, MessageId, Messages, Publish, Published, Refused,
    Since,
};

pub use refusal::Refusal;
pub use stream::{Event, EventStream, Step};
use watch::Watch;

use crate::broadcast::{DeliverySettings, Fanout, FanoutSettings};
use crate::channels::ChannelRules;
use crate::connections::OriginPolicy;
use crate::frames::{Caller, Judge, PublishHandler, TokenBucket, forbidden};
use crate::ports::{
    Acks, Authorizer, Clock, Identity, LogAppends, LogPeeks, LogReads, MetricEvent, Metrics,
    NewBroadcasts, Outbox, Randomness, ReaderLimits, ReaderPlace, Removals, SegmentOffers,
    SessionRefresh, Subscribers, Subscriptions, TokenVerifier, Workers,
};

/// The first wait for a message. It doubles while nothing comes.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How often a reader that waits looks whether its user was signed out.
const SIGN_OUT_CHECK: Duration = Duration::from_secs(5);

/// How long the last look and the end of a stream or poll may take.
const OVERTIME: Duration = Duration::from_secs(5);

/// Serves HTTP readers.
#[derive(Debug)]
pub struct Reader<V, A, S, O, C, M, W, R> {
    pub verifier: V,
    /// Asked what a user may do, if a channel's rule says so.
    pub authorizer: A,
    pub store: S,
    pub outbox: O,
    pub clock: C,
    pub metrics: M,
    pub workers: W,
    pub random: R,
    pub rules: ChannelRules,
    pub origins: OriginPolicy,
    pub delivery: DeliverySettings,
    pub fanout: FanoutSettings,
    /// How long a stream lasts.
    pub stream_time: Duration,
    /// The streams and waiting polls of a user at a time.
    pub places_per_user: u32,
    /// The messages that a user may publish.
    pub bucket: TokenBucket,
    /// The longest body of a request to publish, in bytes.
    pub max_message_bytes: usize,
}

/// Who asks, as the request says.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The token from each source that held one.
    pub tokens: Vec<BearerToken>,
}

impl<V, A, S, O, C, M, W, R> Reader<V, A, S, O, C, M, W, R>
where
    V: TokenVerifier,
    A: Authorizer,
    S: Acks
        + LogAppends
        + LogPeeks
        + LogReads
        + NewBroadcasts
        + ReaderLimits
        + Removals
        + SegmentOffers
        + SessionRefresh
        + Subscribers
        + Subscriptions,
    O: Outbox,
    C: Clock,
    M: Metrics,
    W: Workers,
    R: Randomness,
{
    /// Whether pages of this origin may use the reader.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        self.origins.allows(origin)
    }

    /// Whose request this is.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn identify(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        if !self.allows_origin(credentials.origin.as_deref()) {
            return Err(Refusal::Origin);
        }
        let token = match credentials.tokens.as_slice() {
            [] => return Err(Refusal::NoToken),
            [token] => token,
            _ => return Err(Refusal::SeveralTokens),
        };
        let verified = self.verifier.verify(token.reveal(), self.clock.now()).await;
        let identity = verified.map_err(Refusal::Token)?;
        if self.is_signed_out(&identity).await? {
            return Err(Refusal::SignedOut);
        }
        Ok(identity)
    }

    /// Opens a stream. Its first event has the result for each channel, and what
    /// the reader has missed follows.
    ///
    /// # Errors
    /// [`Refusal`], also if none of the channels can be read.
    pub async fn stream(
        &self,
        identity: Identity,
        channels: Vec<(Address, Option<Since>)>,
    ) -> Result<(EventStream, Vec<Event>), Refusal> {
        let mut watch = self.watch(identity, channels).await?;
        let place = self.take_place(&watch.identity, self.stream_time).await?;
        let read = match self.read(&mut watch).await {
            Ok(read) => read,
            Err(error) => {
                self.leave_place(&watch.identity, place).await;
                return Err(error.into());
            }
        };
        self.metrics.record(MetricEvent::ReaderServed("stream"));
        Ok(self.begin(watch, place, read))
    }

    /// Answers a poll: at once if there are messages, otherwise after the wait.
    ///
    /// # Errors
    /// [`Refusal`], also if none of the channels can be read.
    pub async fn poll(
        &self,
        identity: Identity,
        channels: Vec<(Address, Option<Since>)>,
        wait: Duration,
    ) -> Result<Messages, Refusal> {
        let mut watch = self.watch(identity, channels).await?;
        if wait.is_zero() {
            return self.wait(&mut watch, wait).await;
        }
        let place = self.take_place(&watch.identity, wait).await?;
        let answer = self.wait(&mut watch, wait).await;
        self.leave_place(&watch.identity, place).await;
        answer
    }

    /// Waits for messages.
    async fn wait(&self, watch: &mut Watch, wait: Duration) -> Result<Messages, Refusal> {
        let begun = self.clock.now();
        let mut pause = SHORTEST_WAIT;
        loop {
            let read = self.read(watch).await?;
            let waited = self.clock.now().since(begun);
            let has_news = !read.messages.is_empty() || !read.lost.is_empty();
            if has_news || waited >= wait {
                self.metrics.record(MetricEvent::ReaderServed("poll"));
                return Ok(Messages {
                    messages: read.messages.into_iter().map(|(frame, _)| frame).collect(),
                    cursor: watch.cursor().to_string(),
                    channels: watch.states(),
                    session: watch.session(),
                });
            }
            self.clock.sleep(pause.min(wait - waited)).await;
            pause = (pause * 2).min(LONGEST_WAIT);
            self.check(watch).await?;
        }
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn publish(
        &self,
        identity: &Identity,
        body: &str,
        request_id: &MessageId,
    ) -> Result<Published, Refusal> {
        let (judge, now) = (self.judge(), self.clock.now());
        // Every request counts, whatever becomes of it.
        let taken = self.store.take_token(&identity.user_id, &self.bucket, now);
        if let Err(wait) = taken.await? {
            return Err(rate_limited("too many messages", wait));
        }
        let message = Publish::parse(body, self.max_message_bytes)?;
        let caller = caller(identity);
        let allowed = judge.allows(caller, &message.channel, Action::Publish, now);
        if allowed.await.is_none() {
            return Err(forbidden().into());
        }
        let handler = PublishHandler {
            judge,
            fanout: Fanout {
                store: &self.store,
                outbox: &self.outbox,
                clock: &self.clock,
                metrics: &self.metrics,
                workers: &self.workers,
                random: &self.random,
                delivery: self.delivery,
                settings: self.fanout,
            },
        };
        let published = handler.publish(&identity.user_id, message, None, request_id);
        let published = published.await?;
        self.metrics.record(MetricEvent::ReaderServed("publish"));
        Ok(published)
    }
}

impl<V, A, S, O, C, M: Metrics, W, R> Reader<V, A, S, O, C, M, W, R> {
    /// Counts a request that was refused.
    pub fn count_refusal(&self, refusal: &Refusal) {
        self.metrics
            .record(MetricEvent::ReaderRefused(refusal.code()));
    }

    fn judge(&self) -> Judge<'_, A, M> {
        Judge {
            rules: &self.rules,
            authorizer: &self.authorizer,
            metrics: &self.metrics,
        }
    }
}

impl<V, A, S: SessionRefresh, O, C, M, W, R> Reader<V, A, S, O, C, M, W, R> {
    async fn is_signed_out(&self, identity: &Identity) -> Result<bool, Refusal> {
        let mark = self.store.signed_out_at(&identity.user_id).await?;
        Ok(mark.is_some_and(|mark| identity.issued_at <= mark))
    }
}

impl<V, A, S: ReaderLimits, O, C: Clock, M, W, R> Reader<V, A, S, O, C, M, W, R> {
    async fn take_place(
        &self,
        identity: &Identity,
        time: Duration,
    ) -> Result<ReaderPlace, Refusal> {
        let now = self.clock.now();
        let until = now.plus(time + OVERTIME);
        let (user, places) = (&identity.user_id, self.places_per_user);
        let place = self.store.take_place(user, places, until, now).await?;
        place.ok_or_else(|| rate_limited("too many streams and polls of this user", OVERTIME))
    }

    /// Frees a place. One that is not freed is free after its end.
    async fn leave_place(&self, identity: &Identity, place: ReaderPlace) {
        if let Err(error) = self.store.leave_place(&identity.user_id, place).await {
            tracing::warn!(event = "reader.place-kept", reason = %error, "could not free the place of a reader; it is free after its end");
        }
    }
}

fn rate_limited(message: &str, wait: Duration) -> Refusal {
    Refused {
        retry_after_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        ..Refused::new(ErrorCode::RateLimited, message)
    }
    .into()
}

fn caller(identity: &Identity) -> Caller<'_> {
    Caller {
        user_id: &identity.user_id,
        claims: &identity.claims,
        token_expires_at: identity.expires_at,
    }
}
