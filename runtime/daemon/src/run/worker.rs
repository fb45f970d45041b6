//! One attempt, from its lease to its end.
//!
//! [`sandhog_core::attempt`] decides which step may follow which; this file performs the decisions:
//!
//! ```text
//! admit ──> run ──────────────> settle ──> end
//!            │ events: renewal loop, drain, time
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt;
use sandhog_broker::{Broker, HoldOutcome, Keep, Ran, Settle};
use sandhog_core::account::Traffic;
use sandhog_core::admit::{Admission, Choice, admit};
use sandhog_core::attempt::{Action, Attempt, Ending, Event};
use sandhog_core::budget::Bytes;
use sandhog_core::hold::{HOLDS_MAX, HoldScope, NewHold};
use sandhog_core::id::{DaemonId, LeaseNo, LeaseToken, PluginName, TenantId};
use sandhog_core::job::{Job, Lease};
use sandhog_core::outcome::{Limit, Outcome, Report, StopReason};
use sandhog_core::quota::{QueueBounds, Verdict};
use sandhog_core::reason::Reason;
use sandhog_core::settle::{AttemptCounts, HOST_FAULT_REST, Settlement};
use sandhog_core::time::Mono;
use sandhog_engine::{Abort, Class, Host, Input, MemoryAccount, Share, StopHint};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::capacity::permits::RunPermit;
use crate::catalog::{Archive, Chosen, NoVersion, Plugin, Tenant};
use crate::clock::Clock;
use crate::lease::renewal::{LeaseGuard, LeaseTable, Notes};
use crate::lease::suspects::Watch;
use crate::run::breakers::Reports;
use crate::run::guest_host::GuestHost;
use crate::run::parent_outputs;
use crate::run::runner::Runner;
use crate::run::settler::{Answer, Settler, Unsettled};
use crate::shutdown::{Follow, Phase};
use crate::telemetry::{self, Observer};

/// Number of a job's first lease.
const FIRST_LEASE: LeaseNo = LeaseNo(1);

/// State that all attempts of a tenant share.
pub(crate) struct TenantContext<R: Runner> {
    pub(crate) tenant: TenantId,
    pub(crate) daemon: DaemonId,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) runner: Arc<R>,
    pub(crate) archive: Arc<dyn Archive<R::Plugin>>,
    pub(crate) settler: Settler,
    pub(crate) reports: Reports,
    pub(crate) lease_table: Arc<LeaseTable>,
    /// Account of the memory that its runs hold, whatever terms they began under.
    pub(crate) memory: MemoryAccount,
    pub(crate) phase: Follow,
    pub(crate) clock: Clock,
    pub(crate) observer: Arc<dyn Observer>,
}

/// Leased job, with what its attempt needs to know.
pub(crate) struct LeasedJob<P> {
    pub(crate) lease: Lease,
    /// Keeps the lease renewed until this is dropped.
    pub(crate) lease_guard: LeaseGuard,
    /// Time up to which the lease can be trusted.
    pub(crate) trusted_until: Mono,
    /// Time by which all its attempts have to be over. `None` if it has no deadline.
    pub(crate) deadline: Option<Mono>,
    /// The tenant's terms when the job was leased.
    pub(crate) terms: Arc<Tenant<P>>,
    /// Whether the tenant had fuel when the job was leased.
    pub(crate) verdict: Verdict,
    /// The right to run a suspect, held until the job's end. `None` if the job isn't one: its lease hasn't run out before.
    pub(crate) watch: Option<Watch>,
}

impl<P> LeasedJob<P> {
    /// Plugin that handles the job. `None` if there is none.
    pub(crate) fn plugin(&self) -> Option<&Arc<Plugin<P>>> {
        self.terms.kinds.get(&self.lease.job.kind)
    }
}

impl<R: Runner> TenantContext<R> {
    /// Drives one job to its end. `permit` is given back with its settlement, or at the end, whatever happens.
    pub(crate) async fn attempt(self: Arc<Self>, leased_job: LeasedJob<R::Plugin>, permit: RunPermit) {
        let token = leased_job.lease.token;
        let plugin = leased_job.plugin().cloned();
        let (choice, chosen) = choose(plugin.as_deref(), &leased_job.lease.job, &*self.archive);
        let Job { attempts, faults, .. } = leased_job.lease.job;
        let tally = AttemptCounts { lease: token.lease, attempts, faults };
        let driver = AttemptDriver {
            machine: Attempt::new(tally, leased_job.trusted_until).with_deadline(leased_job.deadline),
            deadline: leased_job.deadline,
            context: &self,
            token,
            job: Arc::new(leased_job.lease.job),
            terms: leased_job.terms,
            verdict: leased_job.verdict,
            plugin,
            chosen,
            lease_guard: leased_job.lease_guard,
            _watch: leased_job.watch,
            permit: Some(permit),
            abort: Abort::new(),
            ran: None,
            started: self.clock.mono(),
            put_off_max: Duration::ZERO,
            sent: Notes::default(),
            was_started: false,
            waited: None,
            settled: None,
        };
        driver.finish(choice).await;
    }

    /// Gives back a job that hasn't started. If the settlement doesn't get through, its lease runs out by itself.
    pub(crate) fn give_back(&self, leased_job: LeasedJob<R::Plugin>, after: Duration, reason: Reason) {
        let (tenant, job) = (&self.tenant, leased_job.lease.job.id);
        self.observer.on(&telemetry::Event::Deferred { tenant, job, after, reason });
        let settle = Settle::new(leased_job.lease.token, Settlement::Release { after, reason });
        let answer = self.settler.send(Unsettled { settle, permit: None });
        // Held until the answer: a daemon that drains waits as long as the guard is alive.
        let lease_guard = leased_job.lease_guard;
        tokio::spawn(answer.map(|_| drop(lease_guard)));
    }
}

/// Driver of one attempt: the state machine, and what it takes to perform its decisions.
struct AttemptDriver<'a, R: Runner> {
    machine: Attempt,
    /// See [`LeasedJob::deadline`].
    deadline: Option<Mono>,
    context: &'a TenantContext<R>,
    token: LeaseToken,
    job: Arc<Job>,
    terms: Arc<Tenant<R::Plugin>>,
    verdict: Verdict,
    plugin: Option<Arc<Plugin<R::Plugin>>>,
    chosen: Option<Chosen<R::Plugin>>,
    lease_guard: LeaseGuard,
    _watch: Option<Watch>,
    /// Permit of the run, until it goes to the settler, or else to the end.
    permit: Option<RunPermit>,
    abort: Abort,
    ran: Option<Ran>,
    /// Time at which the run has started.
    started: Mono,
    /// Maximum time for which its handler may put it off.
    put_off_max: Duration,
    /// Notes that went along with the settlement that isn't answered yet. If that is refused, none of them is stored, and they
    /// go with the next.
    sent: Notes,
    /// Whether observers were told of its start.
    was_started: bool,
    /// Time from the enqueueing to the start, if this is the first attempt.
    waited: Option<Duration>,
    /// Slug and reason of the settlement that was sent last.
    settled: Option<(&'static str, Option<Reason>)>,
}

impl<R: Runner> AttemptDriver<'_, R> {
    async fn finish(mut self, choice: Choice<R::Plugin>) {
        let admission = match (admit(&self.job, choice), &self.verdict) {
            // Only a job that would run here is refused for want of fuel: another daemon may have the plugin.
            (Admission::Run(_), Verdict::Reject { reason, message, .. }) => {
                Admission::Reject { reason: *reason, message: message.clone() }
            }
            // If jobs are to be held, the broker hands out none; one that came all the same is run.
            (admission, _) => admission,
        };
        let action = match admission {
            Admission::Run(plan) => {
                let deadline = self.context.clock.mono().after(plan.budget().timeout);
                match self.decide(Event::Admitted { retry: Arc::clone(plan.retry()), deadline }) {
                    Action::Start => self.run(plan).await,
                    other => other,
                }
            }
            Admission::Defer { after, reason } => {
                let (tenant, job) = (&self.context.tenant, self.job.id);
                self.context.observer.on(&telemetry::Event::Deferred { tenant, job, after, reason });
                self.decide(Event::Deferred { after, reason })
            }
            Admission::Reject { reason, message } => self.decide(Event::Rejected { reason, message }),
        };
        let ending = match action {
            Action::Settle(settlement) => self.settle(settlement).await,
            Action::PauseAndSettle(settlement) => {
                let settlement = self.pause(settlement).await;
                self.settle(settlement).await
            }
            Action::End(ending) => ending,
            // The machine is past its start and not running: it settles or ends.
            Action::Wait | Action::Start | Action::Stop(_) | Action::SettleAgain => Ending::Lost,
        };
        if ending == Ending::Lost {
            let (tenant, token) = (&self.context.tenant, self.token);
            self.context.observer.on(&telemetry::Event::LeaseLost { tenant, token });
        }
        self.tell_of_end(ending);
    }

    fn tell_of_end(&self, ending: Ending) {
        let queues = &self.terms.queues;
        let queue = queues.binary_search_by(|queue| queue.name.cmp(&self.job.queue));
        self.context.observer.on(&telemetry::Event::Finished(telemetry::Finished {
            tenant: &self.context.tenant,
            queue: queue.ok().map(|at| &queues[at].name),
            kind: self.plugin.is_some().then_some(&self.job.kind),
            settled: self.settled.filter(|_| ending == Ending::Settled),
            attempt: self.job.attempts.saturating_add(1),
            was_started: self.was_started,
            waited: self.waited,
            ran: self.ran.as_ref().map(|ran| ran.usage),
            age: self.context.clock.now().since(self.job.enqueued_at),
        }));
    }

    fn decide(&mut self, event: Event) -> Action {
        let clock = &self.context.clock;
        let happened = event.slug();
        let action = self.machine.on(event, clock.mono(), clock.chance());
        if !self.machine.wants_lease() {
            self.lease_guard.handle.let_go();
        }
        tracing::trace!(token = %self.token, event = happened, action = action.slug(), "attempt");
        action
    }

    /// Runs the plan. Returns the first action that is neither to wait nor to stop.
    async fn run(&mut self, plan: sandhog_core::admit::Plan<R::Plugin>) -> Action {
        let Some(plugin) = self.plugin.clone() else { return Action::End(Ending::Lost) };
        let context = self.context;
        let host: Arc<dyn Host> = Arc::new(GuestHost {
            runtime: Handle::current(),
            broker: Arc::clone(&context.broker),
            clock: context.clock.clone(),
            tenant: context.tenant.clone(),
            terms: Arc::clone(&self.terms),
            plugin: plugin.name.clone(),
            job: Arc::clone(&self.job),
            handle: Arc::clone(&self.lease_guard.handle),
            warned_of_queue: AtomicBool::new(false),
        });
        let class = match self.verdict {
            Verdict::RunIdle(_) => Class::Idle,
            Verdict::Run | Verdict::Hold { .. } | Verdict::Reject { .. } => Class::Normal,
        };
        let share = Share {
            tenant: context.tenant.clone(),
            weight: self.terms.weight,
            class,
            memory: context.memory.clone(),
            memory_max: self.terms.memory,
        };
        let (tenant, job, kind) = (&context.tenant, self.job.id, &self.job.kind);
        context.observer.on(&telemetry::Event::Started { tenant, plugin: &plugin.name, job, kind });
        self.was_started = true;
        if self.token.lease == FIRST_LEASE {
            self.waited = Some(context.clock.now().since(self.job.enqueued_at));
        }
        let payload = match parent_outputs::payload(&*context.broker, &self.job).await {
            Ok(payload) => payload,
            Err(error) => {
                let message = format!("the outputs of the jobs that it comes after can't be had: {error}");
                return self.decide(Event::Exited(Outcome::HostFault { message }));
            }
        };
        let input = self.input(&plan, payload);
        self.started = context.clock.mono();
        self.put_off_max = plan.retry().retry_after_max;
        let mut run = context.runner.run(plan, input, host, share, self.abort.clone());
        let phase = context.phase.clone();
        let mut drained = Phase::Running;
        loop {
            let event = tokio::select! {
                biased;
                report = &mut run => self.exited(report, &plugin.name, drained),
                event = self.lease_guard.handle.event() => event,
                () = phase.reached(next(drained)), if drained < Phase::Releasing => {
                    drained = next(drained);
                    if drained == Phase::Draining {
                        self.abort.ask(StopHint::Draining);
                        Event::Draining
                    } else {
                        Event::Drain
                    }
                }
                () = context.clock.reached(self.machine.wake_at()) => Event::Tick,
            };
            match self.decide(event) {
                Action::Wait => {}
                Action::Stop(reason) => {
                    if reason == StopReason::Cancelled {
                        self.abort.ask(StopHint::Cancelled);
                    }
                    self.abort.stop(reason);
                }
                decided => return decided,
            }
        }
    }

    fn input(&self, plan: &sandhog_core::admit::Plan<R::Plugin>, payload: Vec<u8>) -> Input {
        let job = &self.job;
        Input {
            id: job.id,
            kind: job.kind.clone(),
            payload,
            tenant: job.tenant.clone(),
            queue: job.queue.clone(),
            attempt: job.attempts.saturating_add(1),
            max_attempts: plan.retry().attempts_most().get(),
            deadline: self.context.clock.now().after(self.time_left(plan.budget().timeout)),
            enqueued_at: job.enqueued_at,
            options: job.options.clone(),
        }
    }

    /// Returns the time that a run may take from now on, whose own timeout is this.
    fn time_left(&self, timeout: Duration) -> Duration {
        let now = self.context.clock.mono().since_origin();
        let left = self.deadline.map(|deadline| deadline.since_origin().saturating_sub(now));
        left.map_or(timeout, |left| left.min(timeout))
    }

    fn exited(&mut self, report: Report, name: &PluginName, drained: Phase) -> Event {
        if drained == Phase::Running {
            let times = (self.started, self.context.clock.mono());
            let (terms, kind) = (&self.terms, &self.job.kind);
            self.context.reports.note(terms, kind, &report.outcome, times, self.put_off_max);
        }
        let (tenant, job, usage) = (&self.context.tenant, self.job.id, report.usage);
        if let Some(permit) = &mut self.permit {
            permit.was_needed_for(report.needed());
        }
        let failure = Some(&report.outcome).filter(|outcome| !matches!(outcome, Outcome::Returned { .. }));
        self.context.observer.on(&telemetry::Event::Ended { tenant, plugin: name, job, failure, usage });
        if let Some(Chosen { version, trial }) = &self.chosen {
            let traffic = Traffic { input: Bytes::of(self.job.payload.len()), output: Bytes(0) };
            let (revision, state_max) = (version.revision, version.state);
            // The payload of each job to be enqueued was held against its own bound when the guest asked for the job.
            let queue_max = QueueBounds { payload: QueueBounds::PAYLOAD_MAX, ..self.terms.queue };
            let (daemon, plugin) = (self.context.daemon, name.clone());
            self.ran = Some(Ran { daemon, plugin, revision, usage, traffic, state_max, queue_max });
            if let Some((trial, side)) = trial {
                trial.record(*side, &report);
            }
        }
        let mut outcome = with_knob_of(report.outcome, tenant, name);
        if let Outcome::Returned { effects, .. } = &mut outcome {
            effects.end(self.context.clock.now());
        }
        Event::Exited(outcome)
    }

    /// Sends the settlement until the broker has answered or the lease can't be trusted any longer.
    async fn settle(&mut self, settlement: Settlement) -> Ending {
        let mut answer = self.send(settlement).await;
        loop {
            let (event, returned) = tokio::select! {
                biased;
                answer = &mut answer => match answer {
                    Ok(Ok(reply)) => (Event::Settled(reply), None),
                    Ok(Err(unsettled)) => (Event::SettleFailed, Some(unsettled)),
                    // The settler is gone, and with it the daemon.
                    Err(_) => return Ending::Lost,
                },
                event = self.lease_guard.handle.event() => (event, None),
                () = self.context.clock.reached(self.machine.wake_at()) => (Event::Tick, None),
            };
            match (self.decide(event), returned) {
                (Action::Settle(instead), _) => {
                    let instead = self.with_owner(instead);
                    answer = self.send(instead).await;
                }
                (Action::PauseAndSettle(instead), _) => {
                    let instead = self.pause(self.with_owner(instead)).await;
                    answer = self.send(instead).await;
                }
                (Action::SettleAgain, Some(unsettled)) => answer = self.send_again(*unsettled).await,
                (Action::End(ending), _) => return ending,
                (Action::Wait | Action::Start | Action::Stop(_) | Action::SettleAgain, _) => {}
            }
        }
    }

    /// Pauses the jobs of the same kind in the same queue, unless somebody has, as this one has used up its attempts. Returns what to
    /// record then: it waits with them. The pause comes first: if the daemon is gone before it settles, they are paused all the same.
    async fn pause(&self, settlement: Settlement) -> Settlement {
        let Settlement::Retry { reason, message, .. } = settlement else { return settlement };
        let (tenant, broker, job) = (&self.context.tenant, &self.context.broker, &self.job);
        let scope = HoldScope { queue: Some(job.queue.clone()), kind: Some(job.kind.clone()) };
        let paused = match broker.holds(tenant).await {
            Ok(holds) if holds.iter().any(|hold| hold.is_by_hand() && hold.scope == scope) => {
                Ok(HoldOutcome::Held)
            }
            Ok(_) => broker.hold(tenant, NewHold::of_exhausted(scope.clone(), job.id, reason)).await,
            Err(error) => Err(error),
        };
        match paused {
            Ok(HoldOutcome::TooMany) => {
                let message =
                    format!("{message}; {scope} isn't paused, as there are {HOLDS_MAX} holds already");
                Settlement::Bury { reason, message }
            }
            Ok(HoldOutcome::Held | HoldOutcome::Lifted | HoldOutcome::NotHeld) => {
                tracing::warn!(%tenant, job = %job.id, %scope, %reason, "paused, as a job has used up its attempts");
                Settlement::Retry { after: Duration::ZERO, reason, message }
            }
            Err(error) => {
                tracing::warn!(%tenant, job = %job.id, %scope, %error, again_in = ?HOST_FAULT_REST, "a job has used up its attempts, and what is like it can't be paused");
                Settlement::Retry { after: HOST_FAULT_REST, reason, message }
            }
        }
    }

    /// Adds the plugin or tenant to a refusal's message: the broker names the knob, and doesn't know whose it is.
    fn with_owner(&self, settlement: Settlement) -> Settlement {
        let tenant = &self.context.tenant;
        let name = |reason: Reason, message: String| match (reason, &self.ran) {
            (Reason::StateFull, Some(ran)) => format!("{message} of plugin {tenant}/{}", ran.plugin),
            (Reason::QueueFull, _) => format!("{message} of tenants.{tenant}"),
            _ => message,
        };
        match settlement {
            Settlement::Bury { reason, message } => {
                Settlement::Bury { reason, message: name(reason, message) }
            }
            Settlement::Retry { after, reason, message } => {
                Settlement::Retry { after, reason, message: name(reason, message) }
            }
            other => other,
        }
    }

    /// Takes the notes that the run has reported and no renewal has brought to the broker. A renewal that is under way is
    /// waited for, as long as the lease can be trusted: if it fails, the notes that it took along have to go with the
    /// settlement.
    async fn last_notes(&self) -> Notes {
        tokio::select! {
            biased;
            () = self.lease_guard.handle.notes_are_here() => {}
            () = self.context.clock.reached(self.machine.wake_at()) => {}
        }
        self.lease_guard.handle.take_notes()
    }

    /// Returns all notes that have to go with the next settlement.
    async fn notes_to_send(&mut self) -> Notes {
        let mut notes = self.last_notes().await;
        notes.restore(std::mem::take(&mut self.sent));
        if !notes.is_empty() {
            self.sent = notes.clone();
        }
        notes
    }

    async fn send(&mut self, settlement: Settlement) -> oneshot::Receiver<Answer> {
        self.settled = Some((settlement.slug(), settlement.why().map(|(reason, _)| reason)));
        let notes = self.notes_to_send().await;
        let mut ran = self.ran.clone();
        if let (Some(ran), Settlement::Succeed { output, effects }) = (&mut ran, &settlement) {
            ran.traffic.output = Bytes(Bytes::of(output.len()).0 + effects.size().0);
        }
        let settle = Settle {
            ran,
            progress: notes.progress,
            log: notes.log,
            keep: self.chosen.as_ref().map_or_else(Keep::default, |chosen| chosen.version.keep),
            ..Settle::new(self.token, settlement)
        };
        // A tenant that may run out of fuel leases nothing before what was spent is on record: the permit stays here.
        let permit = if self.terms.fuel.is_bounded() { None } else { self.permit.take() };
        self.context.settler.send(Unsettled { settle, permit })
    }

    async fn send_again(&mut self, mut unsettled: Unsettled) -> oneshot::Receiver<Answer> {
        let notes = self.notes_to_send().await;
        (unsettled.settle.progress, unsettled.settle.log) = (notes.progress, notes.log);
        self.context.settler.send(unsettled)
    }
}

/// Returns the catalog's choice for a job, and the version that it would run on.
fn choose<P: Clone>(
    plugin: Option<&Plugin<P>>,
    job: &Job,
    archive: &dyn Archive<P>,
) -> (Choice<P>, Option<Chosen<P>>) {
    match plugin.map(|plugin| plugin.choose(job, archive)) {
        None => (Choice::NoPlugin, None),
        Some(Ok(chosen)) => (Choice::Offer(chosen.version.offer.clone()), Some(chosen)),
        Some(Err(NoVersion::Loading)) => (Choice::Loading, None),
        Some(Err(NoVersion::Gone(revision))) => (Choice::NoRevision(revision), None),
    }
}

/// Adds the plugin or tenant to a limit's message, which ends with the knob to turn: the engine doesn't know whose it is.
fn with_knob_of(outcome: Outcome, tenant: &TenantId, plugin: &PluginName) -> Outcome {
    let Outcome::Exceeded { limit, message } = outcome else { return outcome };
    let message = match limit {
        // The stack's limit is the same for all plugins.
        Limit::Stack => message,
        Limit::TenantMemory => format!("{message} of tenants.{tenant}"),
        _ => format!("{message} of plugin {tenant}/{plugin}"),
    };
    Outcome::Exceeded { limit, message }
}

fn next(phase: Phase) -> Phase {
    match phase {
        Phase::Running => Phase::Draining,
        Phase::Draining | Phase::Releasing => Phase::Releasing,
    }
}
