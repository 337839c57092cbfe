use belfry_core::frames::TokenBucket;
use belfry_core::ports::{Extended, Extension, NotServed, SessionRefresh, StoreError, Touched};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};

use super::row::{Row, integer, number, text};
use super::sessions::{ANSWER_PING, HAS_TOKEN, TAKE_TOKEN, Updated, in_session, not_served, run};
use super::{DynamoDb, state};

impl SessionRefresh for DynamoDb {
    async fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        let update = self
            .frame_taking_token(id, bucket, now)
            .update_expression(format!(
                "SET tokenExpiresAt = :end, {TAKE_TOKEN} {ANSWER_PING}"
            ))
            .condition_expression(format!(
                "{} AND userId = :user AND tokenExpiresAt < :end AND {HAS_TOKEN}",
                in_session()
            ))
            .expression_attribute_values(":user", text(extension.user_id.as_str()))
            .expression_attribute_values(":end", number(extension.expires_at.0));
        let row = match Box::pin(run(update)).await? {
            Updated::Yes(_) => return Ok(Extended::Until(extension.expires_at)),
            Updated::No(row) => row,
        };
        let is_others = |row: &Row| row.connection.user_id != extension.user_id;
        match not_served(row.as_ref(), bucket, now) {
            Some(why @ (NotServed::Unknown | NotServed::TokenExpired)) => {
                Ok(Extended::NotServed(why))
            }
            _ if row.as_ref().is_some_and(is_others) => Ok(Extended::OtherUser),
            Some(NotServed::RateLimited { retry_after, .. }) => {
                let refused = self.count_refusal(id, bucket, now, retry_after);
                Box::pin(refused).await.map(Extended::NotServed)
            }
            // The present end is as late already.
            None => {
                let touched = Box::pin(self.take_token(id, bucket, now)).await?;
                Ok(match touched {
                    Touched::Live(row) => Extended::Until(row.token_expires_at),
                    Touched::NotServed(why) => Extended::NotServed(why),
                })
            }
        }
    }

    async fn signed_out_at(&self, user: &UserId) -> Result<Option<UnixSeconds>, StoreError> {
        let item = self.item(&self.tables.state, state::user(user)).await?;
        Ok(item.and_then(|item| integer(&item, "signedOutAt").ok().map(UnixSeconds)))
    }
}
