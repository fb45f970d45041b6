//! Versions of the contract `sandhog:job`: which of them a component is built against, and what differs between them.
//!
//! The host serves the interfaces of all versions at once, by their names, so a component imports those that it knows. Which version
//! its `handle` is of, its type says. What both versions have is written once, by the macro `serve`, and calls what
//! [`RunState`] can do; what only one has, or has otherwise, follows it.

use std::time::Duration;

use sandhog_core::id::{
    ContentType, GroupKey, InvalidName, Kind, LabelName, LabelValue, QueueName, UniqueKey,
};
use sandhog_core::job::{JobOptions, Level, Priority};
use sandhog_core::labels::Labels;
use sandhog_core::settle::UNAVAILABLE_REST;
use sandhog_core::time::Timestamp;
use sandhog_core::unique::{Debounce, OnClash, UniqueRule, UniqueUntil};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use super::{EnqueueRefused, GivenJob, RunState, StateRefusal, millis};
use crate::abort::StopHint;
use crate::ending::NoInstance;
use crate::host::{JobAsk, Start};

/// Texts of the contract, the latest version last.
pub(crate) const CONTRACTS: [&str; 2] =
    [include_str!("../../../../wit/0.1.0/job.wit"), include_str!("../../../../wit/job.wit")];

/// Bindings that are generated from `wit/`.
#[allow(missing_docs, unreachable_pub)]
mod bindings {
    pub mod v0_1 {
        wasmtime::component::bindgen!({
            path: "../../wit/0.1.0",
            world: "handler",
            imports: {
                "sandhog:job/state.get": async | trappable,
                "sandhog:job/state.compare-and-set": async | trappable,
                default: trappable,
            },
            exports: { default: async },
        });
    }

    pub mod v0_2 {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "handler",
            imports: {
                "sandhog:job/state.get": async | trappable,
                "sandhog:job/state.compare-and-set": async | trappable,
                default: trappable,
            },
            exports: { default: async },
        });
    }
}

/// Reason why a handler gave up, in whichever version's words.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again may help.
    Transient {
        /// Description of what went wrong.
        message: String,
        /// Kind of the failure, as the handler names it.
        code: Option<String>,
        /// Time to wait before the next attempt; `None` for the backoff.
        retry_after: Option<Duration>,
    },
    /// Trying again can't help.
    Permanent(String),
    /// The job is to be run again after this time.
    Snoozed(Duration),
    /// The same, as what the handler calls takes no more calls. The name is as the handler gives it.
    RateLimited(Option<String>, Duration),
    /// The same, as what the handler calls is unavailable.
    Unavailable(String, Duration),
}

/// Component that is linked as a handler of the version that it was built against.
pub(crate) enum Pre {
    V0_1(bindings::v0_1::HandlerPre<RunState>),
    V0_2(bindings::v0_2::HandlerPre<RunState>),
}

impl Pre {
    /// Chooses the version by the type of the component's `handle`.
    ///
    /// # Errors
    /// It is that of no version. The error is about the latest one.
    pub(crate) fn new(linked: InstancePre<RunState>) -> wasmtime::Result<Self> {
        match bindings::v0_2::HandlerPre::new(linked.clone()) {
            Ok(pre) => Ok(Self::V0_2(pre)),
            Err(error) => bindings::v0_1::HandlerPre::new(linked).map(Self::V0_1).map_err(|_| error),
        }
    }

    /// Makes an instance and has it handle a job.
    ///
    /// # Errors
    /// The run has ended otherwise than by what the handler returned: with [`NoInstance`] if there was no instance.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<RunState>,
        job: GivenJob,
    ) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        let no_instance = |error: wasmtime::Error| error.context(NoInstance);
        let GivenJob { id, kind, payload } = job;
        match self {
            Self::V0_1(pre) => {
                let handler = pre.instantiate_async(&mut *store).await.map_err(no_instance)?;
                let job = bindings::v0_1::Job { id, kind, payload };
                Ok(handler.call_handle(store, &job).await?.map_err(Failure::from))
            }
            Self::V0_2(pre) => {
                let handler = pre.instantiate_async(&mut *store).await.map_err(no_instance)?;
                let job = bindings::v0_2::Job { id, kind, payload };
                Ok(handler.call_handle(store, &job).await?.map_err(Failure::from))
            }
        }
    }
}

impl From<bindings::v0_1::Failure> for Failure {
    fn from(failure: bindings::v0_1::Failure) -> Self {
        match failure {
            bindings::v0_1::Failure::Transient(failure) => Self::Transient {
                message: failure.message,
                code: None,
                retry_after: failure.retry_after_ms.map(Duration::from_millis),
            },
            bindings::v0_1::Failure::Permanent(message) => Self::Permanent(message),
        }
    }
}

impl From<bindings::v0_2::Failure> for Failure {
    fn from(failure: bindings::v0_2::Failure) -> Self {
        match failure {
            bindings::v0_2::Failure::Transient(failure) => Self::Transient {
                message: failure.message,
                code: failure.code,
                retry_after: failure.retry_after_ms.map(Duration::from_millis),
            },
            bindings::v0_2::Failure::Permanent(message) => Self::Permanent(message),
            bindings::v0_2::Failure::Snoozed(ms) => Self::Snoozed(Duration::from_millis(ms)),
            bindings::v0_2::Failure::RateLimited(limit) => {
                Self::RateLimited(limit.downstream, Duration::from_millis(limit.after_ms))
            }
            bindings::v0_2::Failure::Unavailable(outage) => {
                let after = outage.after_ms.map_or(UNAVAILABLE_REST, Duration::from_millis);
                Self::Unavailable(outage.downstream, after)
            }
        }
    }
}

/// Adds the interfaces of all versions to a linker.
pub(crate) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    bindings::v0_1::Handler::add_to_linker::<_, HasSelf<_>>(linker, RunState::called)?;
    bindings::v0_2::Handler::add_to_linker::<_, HasSelf<_>>(linker, RunState::called)
}

/// Serves the interfaces of a version that are the same in all. `context` is it but for the functions that are given.
macro_rules! serve {
    ($version:ident { $($of_context:item)* }) => {
        mod $version {
            use super::*;
            use super::bindings::$version::sandhog::job::{context, enqueue, log, progress, secrets, state, types};

            impl types::Host for RunState {}

            impl context::Host for RunState {
                fn attempt_info(&mut self) -> wasmtime::Result<context::Attempt> {
                    Ok(context::Attempt {
                        tenant: self.facts.tenant.as_str().to_owned(),
                        queue: self.facts.queue.as_str().to_owned(),
                        attempt: self.facts.attempt,
                        max_attempts: self.facts.max_attempts,
                        idempotency_key: self.facts.id.to_string(),
                        deadline_ms: self.facts.deadline_ms,
                    })
                }

                fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
                    Ok(millis(self.remaining()))
                }

                fn stop_requested(&mut self) -> wasmtime::Result<Option<context::StopReason>> {
                    Ok(self.abort.asked().map(|hint| match hint {
                        StopHint::Cancelled => context::StopReason::Cancelled,
                        StopHint::Draining => context::StopReason::Draining,
                    }))
                }

                $($of_context)*
            }

            impl log::Host for RunState {
                fn write(
                    &mut self,
                    level: log::Level,
                    message: String,
                    fields: Vec<(String, String)>,
                ) -> wasmtime::Result<()> {
                    let level = match level {
                        log::Level::Trace => Level::Trace,
                        log::Level::Debug => Level::Debug,
                        log::Level::Info => Level::Info,
                        log::Level::Warn => Level::Warn,
                        log::Level::Error => Level::Error,
                    };
                    self.write_line(level, message, fields)
                }
            }

            impl progress::Host for RunState {
                fn report(&mut self, done: u64, total: Option<u64>, message: Option<String>) -> wasmtime::Result<()> {
                    self.report(done, total, message)
                }
            }

            impl enqueue::Host for RunState {
                fn enqueue(
                    &mut self,
                    job: enqueue::NewJob,
                ) -> wasmtime::Result<Result<String, enqueue::EnqueueError>> {
                    Ok(self.enqueue(job.size(), || job.ask())?.map_err(|refused| match refused {
                        EnqueueRefused::UnknownKind(reason) => enqueue::EnqueueError::UnknownKind(reason),
                        EnqueueRefused::Invalid(reason) => enqueue::EnqueueError::Invalid(reason),
                        EnqueueRefused::Limit(reason) => enqueue::EnqueueError::Limit(reason),
                    }))
                }
            }

            impl From<StateRefusal> for state::StateError {
                fn from(refusal: StateRefusal) -> Self {
                    match refusal {
                        StateRefusal::InvalidKey(reason) => Self::InvalidKey(reason),
                        StateRefusal::Limit(reason) => Self::Limit(reason),
                        StateRefusal::NotANumber => Self::NotANumber,
                        StateRefusal::Unavailable(reason) => Self::Unavailable(reason),
                    }
                }
            }

            type StateAnswer<T> = wasmtime::Result<Result<T, state::StateError>>;

            impl state::Host for RunState {
                async fn get(&mut self, key: String) -> StateAnswer<Option<Vec<u8>>> {
                    Ok(self.get_state(key).await?.map_err(state::StateError::from))
                }

                fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> StateAnswer<()> {
                    Ok(self.set_state(key, value, ttl_ms)?.map_err(state::StateError::from))
                }

                fn delete(&mut self, key: String) -> StateAnswer<()> {
                    Ok(self.delete_state(key)?.map_err(state::StateError::from))
                }

                async fn compare_and_set(
                    &mut self,
                    key: String,
                    expected: Option<Vec<u8>>,
                    value: Vec<u8>,
                    ttl_ms: Option<u64>,
                ) -> StateAnswer<state::Swapped> {
                    let swapped = self.swap_state(key, expected, value, ttl_ms).await?;
                    let swapped = swapped.map_err(state::StateError::from);
                    Ok(swapped.map(|swapped| if swapped { state::Swapped::Yes } else { state::Swapped::No }))
                }

                fn increment(&mut self, key: String, by: i64) -> StateAnswer<()> {
                    Ok(self.increment_state(key, by)?.map_err(state::StateError::from))
                }
            }

            impl secrets::Host for RunState {
                fn get(&mut self, name: String) -> wasmtime::Result<Result<String, secrets::SecretError>> {
                    Ok(self.secret(name)?.map_err(secrets::SecretError::NotGranted))
                }
            }
        }
    };
}

serve!(v0_1 {});

serve!(v0_2 {
    fn job_info(&mut self) -> wasmtime::Result<context::JobFacts> {
        let JobOptions { group, deadline, labels, content_type, .. } = &self.facts.options;
        let text = |text: &str| text.to_owned();
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| (text(name.as_str()), text(value.as_str()))).collect();
        let size = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.meter.bytes(size)?;
        Ok(context::JobFacts {
            enqueued_at_ms: self.facts.enqueued_at.as_millis(),
            content_type: content_type.as_ref().map(|content_type| text(content_type.as_str())),
            group: group.as_ref().map(|group| text(group.as_str())),
            labels,
            deadline_ms: deadline.map(|deadline| self.facts.enqueued_at.after(deadline).as_millis()),
        })
    }
});

fn parsed<T>(
    text: Option<String>,
    parse: impl FnOnce(&str) -> Result<T, InvalidName>,
) -> Result<Option<T>, String> {
    text.as_deref().map(parse).transpose().map_err(|error| error.to_string())
}

impl bindings::v0_1::sandhog::job::enqueue::NewJob {
    /// Number of bytes that are charged for the job.
    fn size(&self) -> usize {
        self.payload.len()
    }

    /// Returns the job as the host is asked for it.
    ///
    /// # Errors
    /// A value is malformed; the text says which rule it breaks.
    fn ask(self) -> Result<JobAsk, String> {
        Ok(JobAsk {
            kind: Kind::parse(&self.kind).map_err(|error| error.to_string())?,
            payload: self.payload,
            queue: parsed(self.queue, QueueName::parse)?,
            start: Start::After(Duration::from_millis(self.delay_ms)),
            priority: Priority(self.priority),
            unique_key: parsed(self.unique_key, UniqueKey::parse)?,
            options: JobOptions::default(),
        })
    }
}

impl bindings::v0_2::sandhog::job::enqueue::NewJob {
    /// Number of bytes that are charged for the job.
    fn size(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len());
        self.payload.len() + labels.sum::<usize>()
    }

    /// Returns the job as the host is asked for it.
    ///
    /// # Errors
    /// A value is malformed, or two of them rule each other out; the text says which rule that breaks.
    fn ask(self) -> Result<JobAsk, String> {
        use bindings::v0_2::sandhog::job::enqueue;
        let mut start = match self.start {
            enqueue::Start::After(ms) => Start::After(Duration::from_millis(ms)),
            enqueue::Start::At(ms) => Start::At(Timestamp::from_millis(ms)),
        };
        let invalid = |error: InvalidName| error.to_string();
        let labels = self.labels.iter().map(|(name, value)| {
            Ok((LabelName::parse(name).map_err(invalid)?, LabelValue::parse(value).map_err(invalid)?))
        });
        let labels = labels.collect::<Result<Vec<_>, String>>()?;
        let mut options = JobOptions {
            group: parsed(self.group, GroupKey::parse)?,
            start_within: self.start_within_ms.map(Duration::from_millis),
            deadline: self.deadline_ms.map(Duration::from_millis),
            labels: Labels::of(labels).map_err(|error| error.to_string())?,
            content_type: parsed(self.content_type, ContentType::parse)?,
            ..JobOptions::default()
        };
        let mut unique_key = None;
        if let Some(unique) = self.unique {
            unique_key = Some(UniqueKey::parse(&unique.key).map_err(invalid)?);
            options.unique = unique_rule(unique.rule, &mut start)?;
        }
        Ok(JobAsk {
            kind: Kind::parse(&self.kind).map_err(invalid)?,
            payload: self.payload,
            queue: parsed(self.queue, QueueName::parse)?,
            start,
            priority: Priority(self.priority),
            unique_key,
            options,
        })
    }
}

/// Returns the rule of a unique key. A debounced job starts after its delay.
fn unique_rule(
    rule: bindings::v0_2::sandhog::job::enqueue::UniqueRule,
    start: &mut Start,
) -> Result<UniqueRule, String> {
    use bindings::v0_2::sandhog::job::enqueue;
    match rule {
        enqueue::UniqueRule::Hold(hold) => {
            let until = match hold.until {
                enqueue::UniqueUntil::Settled => UniqueUntil::Settled,
                enqueue::UniqueUntil::Started => UniqueUntil::Started,
                enqueue::UniqueUntil::Over => UniqueUntil::Over,
            };
            if until == UniqueUntil::Over && hold.lasts_ms.is_none() {
                return Err("a unique key that is held until its time is over needs that time".to_owned());
            }
            let on_clash = if hold.replaces { OnClash::Replace } else { OnClash::Keep };
            Ok(UniqueRule { until, lasts: hold.lasts_ms.map(Duration::from_millis), on_clash })
        }
        enqueue::UniqueRule::Debounce(_) if *start != Start::After(Duration::ZERO) => {
            Err("a debounced job starts by the rule of its unique key, and at no other time".to_owned())
        }
        enqueue::UniqueRule::Debounce(debounce) => {
            let [delay, longest] = [debounce.delay_ms, debounce.longest_ms].map(Duration::from_millis);
            let rule = Debounce::new(delay, longest).map_err(|error| error.to_string())?;
            if debounce.leading {
                return Ok(UniqueRule::leading(rule));
            }
            *start = Start::After(delay);
            Ok(UniqueRule::trailing(rule))
        }
    }
}
