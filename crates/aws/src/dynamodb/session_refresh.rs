use belfry_core::frames::TokenBucket;
use belfry_core::ports::{Extended, Extension, SessionRefresh, Sessions, StoreError, Touched};
use belfry_core::{UnixMillis, UnixSeconds};
use belfry_protocol::{ConnectionId, UserId};

use super::row::{self, Row, integer, number, text};
use super::sessions::{Counted, FrameChange};
use super::{DynamoDb, failed, state};

impl SessionRefresh for DynamoDb {
    async fn extend(
        &self,
        id: &ConnectionId,
        extension: &Extension,
        bucket: &TokenBucket,
        now: UnixMillis,
    ) -> Result<Extended, StoreError> {
        let change = FrameChange {
            set: "tokenExpiresAt = :end, claims = :claims,",
            condition: "AND userId = :user AND tokenExpiresAt < :end",
            values: vec![
                (":user", text(extension.user_id.as_str())),
                (":end", number(extension.expires_at.0)),
                (":claims", row::claims(&extension.claims)),
            ],
        };
        let meets = |row: &Row| {
            row.connection.user_id == extension.user_id
                && row.connection.token_expires_at < extension.expires_at
        };
        let counted = Box::pin(self.count_frame(id, bucket, now, &change, meets)).await?;
        match counted {
            Counted::Yes(row) => {
                let row = row::connection(&row).map_err(|error| failed("UpdateItem", error))?;
                Ok(Extended::Until(row))
            }
            Counted::NotServed(why) => Ok(Extended::NotServed(why)),
            // The token is another user's, or the present end is as late
            // already. The frame counts all the same.
            Counted::Unmet => {
                let touched = Box::pin(self.touch(id, bucket, now)).await?;
                Ok(match touched {
                    Touched::Live(row) if row.user_id != extension.user_id => Extended::OtherUser,
                    Touched::Live(row) => Extended::Until(row),
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
