//! Writing several items or none of them.

use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};
use belfry_core::ports::{Randomness, StoreError};
use tokio::time::Instant;

use super::row::Item;
use super::{DynamoDb, sdk_failed};
use crate::randomness::SystemRandomness;

const OPERATION: &str = "TransactWriteItems";

/// How long a handshake's transaction is retried while it conflicts with
/// others: a client waits for it.
pub(super) const IMPATIENT: Duration = Duration::from_secs(3);

/// How long other transactions are retried. If thousands of clients leave
/// together, their transactions conflict at the same counters, and nobody
/// retries a `$disconnect`.
pub(super) const PATIENT: Duration = Duration::from_secs(15);

/// The longest wait before the first retry. It doubles with each retry, up to
/// [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(10);

const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// One attempt of a transaction.
pub(super) struct TransactionAttempt {
    pub(super) items: Vec<TransactWriteItem>,
    /// Names the attempt. For ten minutes DynamoDB answers an attempt of the
    /// same name without writing again (AWS: "TransactWriteItems",
    /// ClientRequestToken). `None` makes up a name.
    pub(super) token: Option<String>,
}

impl From<Vec<TransactWriteItem>> for TransactionAttempt {
    fn from(items: Vec<TransactWriteItem>) -> Self {
        Self { items, token: None }
    }
}

/// Result of a transaction.
pub(super) enum Transaction {
    Done,
    /// Nothing was written, because some conditions did not hold.
    Refused(Vec<Condition>),
}

/// Result of one item's condition. They have the order of the items.
pub(super) enum Condition {
    Held,
    /// The item did not meet it; `None` if there was no item.
    Failed(Option<Item>),
}

impl Condition {
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl DynamoDb {
    /// Writes all of the items or none. While other transactions conflict or
    /// DynamoDB throttles, it retries for up to `patience`. `attempt` makes
    /// each attempt, counted from zero.
    pub(super) async fn transact(
        &self,
        patience: Duration,
        attempt: impl Fn(u32) -> TransactionAttempt,
    ) -> Result<Transaction, StoreError> {
        let (begun, mut retries) = (Instant::now(), 0);
        loop {
            let TransactionAttempt { items, token } = attempt(retries);
            let written = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items))
                .set_client_request_token(token)
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
            if !reasons.iter().any(passes) || begun.elapsed() > patience {
                return Err(sdk_failed(OPERATION, &error));
            }
            back_off(retries, &SystemRandomness).await;
            retries += 1;
        }
    }
}

/// Sends an update, and retries it while a transaction holds its item: the SDK
/// does not.
pub(super) async fn send_past_transactions(
    update: UpdateItemFluentBuilder,
) -> Result<UpdateItemOutput, SdkError<UpdateItemError, HttpResponse>> {
    let (begun, mut retries) = (Instant::now(), 0);
    loop {
        let error = match update.clone().send().await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let conflicts = matches!(
            error.as_service_error(),
            Some(UpdateItemError::TransactionConflictException(_))
        );
        if !conflicts || begun.elapsed() > IMPATIENT {
            return Err(error);
        }
        back_off(retries, &SystemRandomness).await;
        retries += 1;
    }
}

/// Waits with full jitter, so that attempts that conflicted do not conflict
/// again.
pub(super) async fn back_off(retries: u32, random: &impl Randomness) {
    let longest = BACKOFF
        .saturating_mul(2u32.saturating_pow(retries))
        .min(MAX_BACKOFF);
    tokio::time::sleep(random.between(Duration::ZERO, longest)).await;
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

/// Whether a retry may succeed.
fn passes(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    )
}
