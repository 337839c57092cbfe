use belfry_protocol::{Ack, Acked, ErrorCode, Position, Refused};

use super::history::{HistoryReader, readable};
use super::permission::Judge;
use super::rejection::Rejection;
use crate::connections::Connection;
use crate::ports::{Acks, Authorizer, Clock, LogReads, Metrics, Randomness, Subscriptions};

/// `ack`: moves the user's position in a channel forward. A position that is
/// not in the log is refused, even if the user's own is newer: the answer never
/// depends on what other devices have acknowledged.
pub(super) async fn handle<A, M, S, C, R>(
    judge: &Judge<'_, A, M>,
    reader: &HistoryReader<'_, S, C, R>,
    connection: &Connection,
    frame: Ack,
) -> Result<Acked, Rejection>
where
    A: Authorizer,
    M: Metrics,
    S: Acks + LogReads + Subscriptions,
    C: Clock,
    R: Randomness,
{
    let (store, now) = (reader.log.store, reader.now());
    let Ack {
        channel,
        epoch,
        seq,
    } = frame;
    let log = readable(judge, reader, connection, &channel).await?;
    let position = Position {
        epoch,
        seq: seq.get(),
    };
    let newest = store.head(&log).await?.map(|head| head.position());
    let Some(newest) = newest.filter(|newest| newest.epoch == position.epoch) else {
        return Err(invalid("epoch is not that of the channel's history").into());
    };
    if position.seq > newest.seq {
        return Err(invalid("seq is beyond the channel's newest message").into());
    }
    let user = &connection.user_id;
    let position = store.acknowledge(&log, user, &position, now).await?;
    Ok(Acked { channel, position })
}

fn invalid(message: &str) -> Refused {
    Refused::new(ErrorCode::InvalidMessage, message)
}
