//! One function and its execution environments.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::environment::{Environment, EnvironmentError};
use super::response_stream::StreamSink;
use super::runtime_api::RuntimeRegistry;
use super::{Invocation, NotInvoked, Outcome, Settings, error_payload};
use crate::console::Recorder;
use crate::fault::Faults;
use crate::template::FunctionSpec;

/// A function. Each of its environments handles one event at a time.
///
/// Two limits apply. `concurrency` is Lambda's: beyond it, an invocation is
/// refused. `environments` is this machine's: beyond it, an event that Lambda
/// would have started waits.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    settings: Settings,
    runtimes: RuntimeRegistry,
    concurrency: Arc<Semaphore>,
    environments: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    idle: Mutex<Vec<IdleEnvironment>>,
    faults: Faults,
    recorder: Recorder,
}

/// Permission to run one event now.
pub(super) struct Permit {
    _environment: OwnedSemaphorePermit,
    _concurrency: OwnedSemaphorePermit,
}

struct IdleEnvironment {
    since: Instant,
    environment: Environment,
}

impl Function {
    pub(super) fn new(
        spec: FunctionSpec,
        settings: Settings,
        runtimes: RuntimeRegistry,
        concurrency: Arc<Semaphore>,
        faults: Faults,
        recorder: Recorder,
    ) -> Self {
        let environments = Arc::new(Semaphore::new(settings.max_environments));
        Self {
            spec,
            settings,
            runtimes,
            concurrency,
            environments,
            stop: watch::Sender::new(false),
            idle: Mutex::default(),
            faults,
            recorder,
        }
    }

    pub(super) fn arn(&self) -> String {
        self.settings.arn(&self.spec.name)
    }

    /// This machine's limit, if it is reached.
    pub(super) fn busy_environments(&self) -> Option<usize> {
        let is_busy = self.environments.available_permits() == 0;
        is_busy.then_some(self.settings.max_environments)
    }

    /// Waits until this machine can run one more event. Lambda then runs or
    /// refuses it. Cancelling this leaves the queue.
    pub(super) async fn acquire(&self) -> Result<Permit, NotInvoked> {
        let Ok(environment) = Arc::clone(&self.environments).acquire_owned().await else {
            return Err(NotInvoked::Stopping);
        };
        // Second, because an event that waits for this machine is not running yet.
        let Ok(concurrency) = Arc::clone(&self.concurrency).try_acquire_owned() else {
            let reserved = self.spec.reserved_concurrency.is_some();
            let refused = NotInvoked::Throttled { reserved };
            self.recorder.not_invoked(&self.spec.name, &refused);
            return Err(refused);
        };
        Ok(Permit {
            _environment: environment,
            _concurrency: concurrency,
        })
    }

    /// Runs one event to its end. With a sink, the function may stream its
    /// response.
    pub(super) async fn invoke(
        &self,
        _permit: Permit,
        invocation: Invocation,
        sink: Option<StreamSink>,
    ) -> Result<Outcome, NotInvoked> {
        let request_id = invocation.request_id.clone();
        let started = self.recorder.started();
        let outcome = self.run(&request_id, invocation, sink).await;
        if let (Some(started), Ok(outcome)) = (started, &outcome) {
            let (name, duration) = (&self.spec.name, started.elapsed());
            self.recorder.invoked(name, &request_id, duration, outcome);
        }
        outcome
    }

    async fn run(
        &self,
        request_id: &str,
        invocation: Invocation,
        sink: Option<StreamSink>,
    ) -> Result<Outcome, NotInvoked> {
        let ready = tokio::select! {
            biased;
            () = self.stop_requested() => return Err(NotInvoked::Stopping),
            ready = self.ready_environment() => ready,
        };
        let mut environment = match ready {
            Ok(environment) => environment,
            Err(error) => return Ok(self.failed(request_id, &error, Bytes::new())),
        };
        let fault = self.faults.on_event(&self.spec.name);
        let response = tokio::select! {
            response = environment.handle(invocation, sink, self.spec.timeout, fault) => Some(response),
            () = self.stop_requested() => None,
        };
        let log_tail = environment.log_tail();
        match response {
            Some(Ok(response)) => {
                if response.is_error {
                    tracing::warn!(function = self.spec.name, "the function returned an error");
                }
                self.idle().push(IdleEnvironment {
                    since: Instant::now(),
                    environment,
                });
                Ok(Outcome {
                    payload: response.payload,
                    is_error: response.is_error,
                    log_tail,
                })
            }
            Some(Err(error)) => {
                // The next event gets a new environment.
                environment.stop().await;
                Ok(self.failed(request_id, &error, log_tail))
            }
            None => {
                environment.stop().await;
                Err(NotInvoked::Stopping)
            }
        }
    }

    /// An environment that asks for an event: the one that became idle last, or
    /// a new one. An environment that died while idle is replaced, and no event
    /// is lost.
    async fn ready_environment(&self) -> Result<Environment, EnvironmentError> {
        loop {
            let idle = self.idle().pop();
            let Some(IdleEnvironment {
                mut environment, ..
            }) = idle
            else {
                break;
            };
            match environment.ready().await {
                Ok(()) => return Ok(environment),
                Err(error) => {
                    tracing::warn!(function = self.spec.name, reason = %error, "an idle environment ended; starting another");
                }
            }
        }
        let mut environment = Environment::spawn(&self.spec, &self.settings, &self.runtimes)?;
        environment.ready().await?;
        Ok(environment)
    }

    fn failed(&self, request_id: &str, error: &EnvironmentError, log_tail: Bytes) -> Outcome {
        tracing::error!(function = self.spec.name, reason = %error, "the function failed");
        let message = format!("RequestId: {request_id} Error: {error}");
        Outcome {
            payload: error_payload(error.error_type(), &message),
            is_error: true,
            log_tail,
        }
    }

    async fn stop_requested(&self) {
        // This fails only without a sender, and `self` holds the sender.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<IdleEnvironment>> {
        self.idle
            .lock()
            .expect("no code panics while holding the lock")
    }

    /// Stops the environments that have been idle for `after`.
    pub(super) async fn reclaim(&self, after: Duration) {
        let old: Vec<_> = self
            .idle()
            .extract_if(.., |idle| idle.since.elapsed() >= after)
            .collect();
        for idle in old {
            tracing::debug!(function = self.spec.name, "reclaiming an idle environment");
            idle.environment.stop().await;
        }
    }

    /// Stops every environment, busy ones too, and starts no more.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        // Running invocations stop their environments now. After all permits are
        // back, only idle environments are left.
        let all = u32::try_from(self.settings.max_environments).unwrap_or(u32::MAX);
        let permits = self.environments.acquire_many(all).await;
        self.environments.close();
        drop(permits);
        let idle = std::mem::take(&mut *self.idle());
        for idle in idle {
            idle.environment.stop().await;
        }
    }
}
