//! Writing several items or none of them.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};
use belfry_core::ports::StoreError;

use super::{DynamoConnections, sdk_failed};
use crate::row::Item;

const OPERATION: &str = "TransactWriteItems";

/// How long a handshake's transaction is tried that meets other ones on its
/// way: a client waits for it.
pub(super) const IMPATIENT: Duration = Duration::from_secs(3);

/// How long others are tried. Where thousands leave together their
/// transactions meet at the same counters, and nobody repeats a `$disconnect`.
pub(super) const PATIENT: Duration = Duration::from_secs(15);

/// The longest wait before the second try; it doubles with each, up to
/// [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(10);

const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// One try of a transaction.
pub(super) struct Attempt {
    pub(super) items: Vec<TransactWriteItem>,
    /// Names the try for DynamoDB, which for ten minutes answers one that it
    /// has done without doing it again; `None` makes a name up. (AWS:
    /// "TransactWriteItems", ClientRequestToken.)
    pub(super) token: Option<String>,
}

impl From<Vec<TransactWriteItem>> for Attempt {
    fn from(items: Vec<TransactWriteItem>) -> Self {
        Self { items, token: None }
    }
}

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
    /// Writes all of the items or none, trying again for so long where another
    /// transaction is on its way or DynamoDB has too much to do. `attempt`
    /// makes each try, counted from zero.
    pub(super) async fn transact(
        &self,
        patience: Duration,
        attempt: impl Fn(u32) -> Attempt,
    ) -> Result<Transaction, StoreError> {
        let (begun, mut tries) = (Instant::now(), 0);
        loop {
            let Attempt { items, token } = attempt(tries);
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
            back_off(tries).await;
            tries += 1;
        }
    }
}

/// Sends an update, and again where it meets a transaction on its item: the SDK
/// does not.
pub(super) async fn past_transactions(
    update: UpdateItemFluentBuilder,
) -> Result<UpdateItemOutput, SdkError<UpdateItemError, HttpResponse>> {
    let (begun, mut tries) = (Instant::now(), 0);
    loop {
        let error = match update.clone().send().await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let in_the_way = matches!(
            error.as_service_error(),
            Some(UpdateItemError::TransactionConflictException(_))
        );
        if !in_the_way || begun.elapsed() > IMPATIENT {
            return Err(error);
        }
        back_off(tries).await;
        tries += 1;
    }
}

/// Waits for others to be through: anything from nothing to the whole wait
/// ("full jitter"), so that those who met do not meet again.
async fn back_off(tries: u32) {
    let wait = BACKOFF
        .saturating_mul(2u32.saturating_pow(tries))
        .min(MAX_BACKOFF);
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
