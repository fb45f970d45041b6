//! Guests that follow a script, and a runner that plays them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::admit::Plan;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::JobOptions;
use sandhog_core::outcome::{Limit, Outcome, Report, StopReason, Usage};
use sandhog_daemon::run::runner::Runner;
use sandhog_engine::{Abort, Host, Input, JobAsk, Share, Start, StopHint};
use tokio::sync::Notify;

use crate::shape::{FUEL_OF_A_RUN, Order, PluginPlan, Shape};

/// The state key that every success adds 1 to.
pub(crate) const SUCCESSES: &str = "successes";

/// How often a guest looks whether its daemon shuts down.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// What one attempt does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    /// How long it takes.
    pub(crate) takes: Duration,
    /// How it ends, if nobody stops it.
    pub(crate) end: End,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Returns, with an increment of [`SUCCESSES`] and so many further jobs.
    Return { spawns: u32 },
    /// Fails in a way that may go away.
    Fail,
    /// Fails for good.
    FailForGood,
    /// Runs out of fuel.
    OutOfFuel,
    /// The host goes wrong.
    HostFault,
    /// Goes on until it is stopped.
    Hang,
    /// Goes on until it is told that its daemon shuts down, and then fails in a way that may go away.
    HangUntilDrained,
    /// Takes its daemon with it.
    KillDaemon,
}

/// What each job does, attempt by attempt; the last act is repeated, and jobs that guests enqueue just return.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scripts(pub(crate) HashMap<JobId, Vec<Act>>);

impl Scripts {
    fn act(&self, job: JobId, attempt: u32) -> Act {
        let then = Act { takes: Duration::from_millis(10), end: End::Return { spawns: 0 } };
        let Some(acts) = self.0.get(&job) else { return then };
        let nth = usize::try_from(attempt).expect("few attempts") - 1;
        acts.get(nth).or_else(|| acts.last()).copied().unwrap_or(then)
    }
}

/// All runs that are under way, of all daemons.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    running: Mutex<HashMap<JobId, Cast>>,
}

/// Where a run is, and whose.
#[derive(Debug, Clone, PartialEq)]
struct Cast {
    daemon: usize,
    tenant: TenantId,
    plugin: PluginName,
}

/// A run under way; it is over when this is dropped.
struct Running<'a> {
    stage: &'a Stage,
    job: JobId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stage.running.lock().expect("one thread").remove(&self.job);
    }
}

impl Stage {
    /// Invariants 4 and 5, and the half of 8 that is about runs.
    fn enter(&self, daemon: usize, input: &Input, quota: u32, plugin: &PluginPlan) -> Running<'_> {
        let mut running = self.running.lock().expect("one thread");
        let (job, tenant) = (input.id, input.tenant.clone());
        let other = running.insert(job, Cast { daemon, tenant: tenant.clone(), plugin: plugin.name.clone() });
        assert_eq!(other, None, "two runs of {job} at once");
        let of_tenant = || running.values().filter(|run| run.tenant == tenant);
        let here = of_tenant().filter(|run| run.daemon == daemon).count();
        assert!(here <= quota as usize, "{here} runs of {tenant} at once, and its quota is {quota}");
        let of_plugin = of_tenant().filter(|run| run.plugin == plugin.name).count();
        if let Some(limit) = plugin.limit {
            let name = &plugin.name;
            assert!(
                of_plugin <= limit.get() as usize,
                "{of_plugin} runs of {tenant}/{name}, and {limit} may be"
            );
        }
        assert!(plugin.is_on(daemon), "{job} runs where its plugin isn't");
        Running { stage: self, job }
    }
}

/// Whether a daemon's process lives. Clones are about the same one.
#[derive(Debug, Clone)]
pub(crate) struct Life(Arc<(AtomicBool, Notify)>);

impl Life {
    pub(crate) fn new() -> Self {
        Self(Arc::new((AtomicBool::new(true), Notify::new())))
    }

    /// Ends it, like a SIGKILL.
    pub(crate) fn end(&self) {
        let (lives, ended) = &*self.0;
        lives.store(false, Ordering::SeqCst);
        ended.notify_waiters();
    }

    /// Whether it goes on.
    pub(crate) fn lives(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Resolves once it has ended. Those who wait are woken in the order in which they began to.
    pub(crate) async fn over(&self) {
        let (lives, ended) = &*self.0;
        let mut ended = std::pin::pin!(ended.notified());
        ended.as_mut().enable();
        if lives.load(Ordering::SeqCst) {
            ended.await;
        }
    }
}

/// The runner of one daemon.
pub(crate) struct Players {
    pub(crate) daemon: usize,
    pub(crate) stage: Arc<Stage>,
    pub(crate) scripts: Arc<Scripts>,
    /// What each tenant has, and its quota of runs.
    pub(crate) tenants: Arc<BTreeMap<TenantId, (u32, Shape)>>,
    pub(crate) life: Life,
}

#[async_trait]
impl Runner for Players {
    type Plugin = ();

    async fn run(
        &self,
        _plan: Plan<()>,
        input: Input,
        host: Arc<dyn Host>,
        _share: Share,
        abort: Abort,
    ) -> Report {
        let (quota, shape) = &self.tenants[&input.tenant];
        let running = self.stage.enter(self.daemon, &input, *quota, shape.plugin(&input.kind));
        let act = self.scripts.act(input.id, input.attempt);
        let exit = self.play(act, &abort).await;
        drop(running);
        let outcome = match exit {
            Exit::Killed => std::future::pending().await,
            Exit::Stopped(StopReason::Deadline) => {
                Outcome::Exceeded { limit: Limit::Time, message: "timed out".into() }
            }
            Exit::Stopped(reason) => Outcome::Aborted(reason),
            Exit::Done => perform(act.end, &input, &shape.spawned, &*host),
        };
        let usage = Usage { fuel: FUEL_OF_A_RUN, host_calls: 1, ..Usage::default() };
        Report { outcome, usage, slept: true }
    }
}

/// How a run came to its end.
enum Exit {
    /// Its daemon was killed, and reports nothing any more.
    Killed,
    Stopped(StopReason),
    Done,
}

impl Players {
    async fn play(&self, act: Act, abort: &Abort) -> Exit {
        let acted = async {
            tokio::time::sleep(act.takes).await;
            match act.end {
                End::Hang => std::future::pending().await,
                End::HangUntilDrained => {
                    while abort.asked() != Some(StopHint::Draining) {
                        tokio::time::sleep(LOOKS_EVERY).await;
                    }
                }
                End::KillDaemon => {
                    self.life.end();
                    std::future::pending().await
                }
                _ => {}
            }
        };
        tokio::select! {
            biased;
            () = self.life.over() => Exit::Killed,
            reason = abort.wait() => Exit::Stopped(reason),
            () = acted => Exit::Done,
        }
    }
}

fn perform(end: End, input: &Input, spawned: &[Order], host: &dyn Host) -> Outcome {
    match end {
        End::Return { spawns } => {
            let mut effects = Effects::default();
            let successes = StateKey::parse(SUCCESSES).expect("valid");
            effects.increment(successes, 1).expect("a number");
            // Which ones differs from job to job.
            let first = usize::try_from(input.id.as_u128() % 64).expect("a small number");
            for order in spawned.iter().cycle().skip(first).take(spawns as usize) {
                effects.enqueue(host.new_job(ask(order)).expect("its queue is named"));
            }
            Outcome::Returned { output: b"done".to_vec(), effects }
        }
        End::Fail | End::HangUntilDrained => {
            Outcome::FailedTransiently { message: "as told".into(), code: None, retry_after: None }
        }
        End::FailForGood => Outcome::FailedPermanently { message: "as told".into() },
        End::OutOfFuel => Outcome::Exceeded { limit: Limit::Fuel, message: "as told".into() },
        End::HostFault => Outcome::HostFault { message: "as told".into() },
        End::Hang | End::KillDaemon => {
            Outcome::HostFault { message: "a hanging guest ended by itself".into() }
        }
    }
}

fn ask(order: &Order) -> JobAsk {
    JobAsk {
        kind: order.kind.clone(),
        payload: Vec::new(),
        queue: Some(order.queue.clone()),
        start: Start::After(Duration::ZERO),
        priority: order.priority,
        unique_key: None,
        options: JobOptions::default(),
    }
}
