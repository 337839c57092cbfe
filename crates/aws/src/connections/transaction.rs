//! Writing several items or none of them.

use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};
use belfry_core::ports::StoreError;

use super::{DynamoConnections, failed, sdk_failed};
use crate::row::Item;

const OPERATION: &str = "TransactWriteItems";

/// How often a transaction is tried that meets another one on its way.
const TRIES: u32 = 8;

/// The longest wait before the second try; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(10);

/// What became of a transaction.
pub(super) enum Transaction {
    Done,
    /// Nothing was written, since some conditions did not hold.
    Refused(Vec<Condition>),
}

/// What became of the condition of one item, in the order of the items.
pub(super) enum Condition {
    Held,
    /// The item did not meet it, as it was; `None` where there was no item.
    Failed(Option<Item>),
}

impl Condition {
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl DynamoConnections {
    /// Writes all of the items or none, trying again where another
    /// transaction is on its way or DynamoDB has too much to do.
    ///
    /// `token` names each try for DynamoDB, which for ten minutes answers a
    /// try that it knows without doing anything; `None` makes names up. (AWS:
    /// "TransactWriteItems", ClientRequestToken.)
    pub(super) async fn transact(
        &self,
        items: Vec<TransactWriteItem>,
        token: impl Fn(u32) -> Option<String>,
    ) -> Result<Transaction, StoreError> {
        for attempt in 0..TRIES {
            let written = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .set_client_request_token(token(attempt))
                .send()
                .await;
            let error = match written {
                Ok(_) => return Ok(Transaction::Done),
                Err(error) => error,
            };
            let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
                error.as_service_error()
            else {
                return Err(sdk_failed(OPERATION, &error));
            };
            let reasons = cancelled.cancellation_reasons();
            if reasons.iter().any(condition_failed) {
                let conditions = reasons.iter().map(condition).collect();
                return Ok(Transaction::Refused(conditions));
            }
            if !reasons.iter().any(passes) {
                return Err(sdk_failed(OPERATION, &error));
            }
            back_off(attempt).await;
        }
        Err(failed(
            OPERATION,
            "other transactions were always in the way",
        ))
    }
}

/// Waits for others to be through: anything from nothing to the whole wait
/// ("full jitter"), so that those who met do not meet again.
pub(super) async fn back_off(attempt: u32) {
    let wait = BACKOFF * 2u32.pow(attempt);
    tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
}

fn condition_failed(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

fn condition(reason: &CancellationReason) -> Condition {
    if condition_failed(reason) {
        Condition::Failed(reason.item().cloned())
    } else {
        Condition::Held
    }
}

/// Whether the cause goes away by itself.
fn passes(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    )
}
