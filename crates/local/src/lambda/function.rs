//! One function and its execution environments.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::environment::{Environment, Failure};
use super::runtime_api::Environments;
use super::{Invocation, NotInvoked, Outcome, Settings, error_payload};
use crate::fault::Faults;
use crate::template::FunctionSpec;

/// A function. Its environments handle one event at a time each.
///
/// Two limits hold: `capacity` is Lambda's concurrency, beyond which an
/// invocation is refused; `slots` is what this machine runs of one function,
/// beyond which an event that Lambda would have started waits.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    settings: Settings,
    environments: Environments,
    capacity: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    idle: Mutex<Vec<Idle>>,
    faults: Faults,
}

/// The right to run one event now.
pub(super) struct Turn {
    _slot: OwnedSemaphorePermit,
    _capacity: OwnedSemaphorePermit,
}

struct Idle {
    since: Instant,
    environment: Environment,
}

impl Function {
    pub(super) fn new(
        spec: FunctionSpec,
        settings: Settings,
        environments: Environments,
        capacity: Arc<Semaphore>,
        faults: Faults,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(settings.environments));
        Self {
            spec,
            settings,
            environments,
            capacity,
            slots,
            stop: watch::Sender::new(false),
            idle: Mutex::default(),
            faults,
        }
    }

    pub(super) fn arn(&self) -> String {
        self.settings.arn(&self.spec.name)
    }

    /// Waits until this machine can run one more event, which Lambda then runs
    /// or refuses. Whoever stops waiting leaves the queue.
    pub(super) async fn turn(&self) -> Result<Turn, NotInvoked> {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return Err(NotInvoked::Stopping);
        };
        // After the slot: what waits for this machine is not under way.
        let Ok(capacity) = Arc::clone(&self.capacity).try_acquire_owned() else {
            let reserved = self.spec.reserved.is_some();
            return Err(NotInvoked::Throttled { reserved });
        };
        Ok(Turn {
            _slot: slot,
            _capacity: capacity,
        })
    }

    /// Handles one event, to its end.
    pub(super) async fn invoke(
        &self,
        _turn: Turn,
        invocation: Invocation,
    ) -> Result<Outcome, NotInvoked> {
        let request_id = invocation.request_id.clone();
        let ready = tokio::select! {
            biased;
            () = self.told_to_stop() => return Err(NotInvoked::Stopping),
            ready = self.ready_environment() => ready,
        };
        let mut environment = match ready {
            Ok(environment) => environment,
            Err(failure) => return Ok(self.failed(&request_id, &failure, Bytes::new())),
        };
        let fault = self.faults.on_event(&self.spec.name);
        let handled = tokio::select! {
            handled = environment.handle(invocation, self.spec.timeout, fault) => Some(handled),
            () = self.told_to_stop() => None,
        };
        let log = environment.log();
        match handled {
            Some(Ok(answer)) => {
                if answer.is_error {
                    tracing::warn!(
                        function = self.spec.name,
                        "the function answered with an error"
                    );
                }
                self.idle().push(Idle {
                    since: Instant::now(),
                    environment,
                });
                Ok(Outcome {
                    payload: answer.payload,
                    is_error: answer.is_error,
                    log,
                })
            }
            Some(Err(failure)) => {
                // The next event gets a new environment.
                environment.stop().await;
                Ok(self.failed(&request_id, &failure, log))
            }
            None => {
                environment.stop().await;
                Err(NotInvoked::Stopping)
            }
        }
    }

    /// An environment that asks for an event: the one that became idle last,
    /// or a new one. One that died while idle costs nobody an event.
    async fn ready_environment(&self) -> Result<Environment, Failure> {
        loop {
            let idle = self.idle().pop();
            let Some(Idle {
                mut environment, ..
            }) = idle
            else {
                break;
            };
            match environment.ready().await {
                Ok(()) => return Ok(environment),
                Err(failure) => {
                    tracing::warn!(function = self.spec.name, reason = %failure, "an idle environment ended, starting another");
                }
            }
        }
        let mut environment = Environment::spawn(&self.spec, &self.settings, &self.environments)?;
        environment.ready().await?;
        Ok(environment)
    }

    fn failed(&self, request_id: &str, failure: &Failure, log: Bytes) -> Outcome {
        tracing::error!(function = self.spec.name, reason = %failure, "the function failed");
        let message = format!("RequestId: {request_id} Error: {failure}");
        Outcome {
            payload: error_payload(failure.error_type(), &message),
            is_error: true,
            log,
        }
    }

    async fn told_to_stop(&self) {
        // Fails only without a sender, and this is the sender.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle
            .lock()
            .expect("no one panics while holding the list")
    }

    /// Ends the environments that have been idle for so long.
    pub(super) async fn reclaim(&self, after: Duration) {
        let old: Vec<_> = self
            .idle()
            .extract_if(.., |idle| idle.since.elapsed() >= after)
            .collect();
        for idle in old {
            tracing::debug!(
                function = self.spec.name,
                "an idle environment is reclaimed"
            );
            idle.environment.stop().await;
        }
    }

    /// Ends every environment, busy ones too, and lets no other start.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        // Whoever holds a slot ends its environment now; with all slots back
        // only idle environments are left.
        let all = u32::try_from(self.settings.environments).unwrap_or(u32::MAX);
        let slots = self.slots.acquire_many(all).await;
        self.slots.close();
        drop(slots);
        let idle = std::mem::take(&mut *self.idle());
        for idle in idle {
            idle.environment.stop().await;
        }
    }
}
