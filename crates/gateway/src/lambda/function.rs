//! One function and its execution environments.

use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::environment::{Environment, Failure};
use super::runtime_api::Environments;
use super::{Outcome, Settings};
use crate::template::FunctionSpec;

/// A function. Its environments handle one event at a time each; events
/// beyond the limit wait.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    settings: Settings,
    environments: Environments,
    slots: Semaphore,
    stop: watch::Sender<bool>,
    idle: Mutex<Vec<Environment>>,
}

impl Function {
    pub(super) fn new(spec: FunctionSpec, settings: Settings, environments: Environments) -> Self {
        let slots = Semaphore::new(settings.concurrency);
        Self {
            spec,
            settings,
            environments,
            slots,
            stop: watch::Sender::new(false),
            idle: Mutex::default(),
        }
    }

    /// Handles one event.
    pub(super) async fn invoke(&self, event: Bytes) -> Outcome {
        let Ok(_slot) = self.slots.acquire().await else {
            return stopping();
        };
        let ready = tokio::select! {
            biased;
            () = self.told_to_stop() => return stopping(),
            ready = self.ready_environment() => ready,
        };
        let mut environment = match ready {
            Ok(environment) => environment,
            Err(failure) => return self.failed(&failure),
        };
        let handled = tokio::select! {
            handled = environment.handle(event, self.spec.timeout) => Some(handled),
            () = self.told_to_stop() => None,
        };
        match handled {
            Some(Ok(outcome)) => {
                if outcome.is_error {
                    tracing::warn!(
                        function = self.spec.name,
                        "the function answered with an error"
                    );
                }
                self.idle().push(environment);
                outcome
            }
            Some(Err(failure)) => {
                // The next event gets a new environment.
                environment.stop().await;
                self.failed(&failure)
            }
            None => {
                environment.stop().await;
                stopping()
            }
        }
    }

    /// An environment that asks for an event: one that is idle, or a new one.
    /// One that died while idle costs nobody an event.
    async fn ready_environment(&self) -> Result<Environment, Failure> {
        loop {
            let idle = self.idle().pop();
            let Some(mut environment) = idle else { break };
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

    fn failed(&self, failure: &Failure) -> Outcome {
        tracing::error!(function = self.spec.name, reason = %failure, "the function failed");
        Outcome::error(failure.error_type(), &failure.to_string())
    }

    async fn told_to_stop(&self) {
        // Fails only without a sender, and this is the sender.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Environment>> {
        self.idle
            .lock()
            .expect("no one panics while holding the list")
    }

    /// Ends every environment, busy ones too, and lets no other start.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        // Whoever holds a slot ends its environment now; with all slots back
        // only idle environments are left.
        let all = u32::try_from(self.settings.concurrency).unwrap_or(u32::MAX);
        let slots = self.slots.acquire_many(all).await;
        self.slots.close();
        drop(slots);
        let idle = std::mem::take(&mut *self.idle());
        for environment in idle {
            environment.stop().await;
        }
    }
}

fn stopping() -> Outcome {
    Outcome::error("ServiceException", "the local stack is stopping")
}
