//! A plan made of a seed, and the world that plays it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_broker::faulty::{Faults, Faulty};
use sandhog_broker::routed::{Routed, Routes};
use sandhog_broker::{
    Broker, Command, Counts, DaemonReport, Enqueued, Fleet, FlowStored, Keep, KeepMax, LeaseAsk, Leased,
    Look, Outcome, Query, Renew, Renewal, Result, Seen, Settle, Wakes, WallClock,
};
use sandhog_config as config;
use sandhog_core::admit::Offer;
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::id::{
    DaemonId, FlowJobName, JobId, Kind, PluginName, QueueName, Revision, StateKey, TenantId, UniqueKey,
};
use sandhog_core::job::{JobOptions, JobRecord, NewJob, State};
use sandhog_core::quota::{FuelQuota, OnEmpty, QueueBounds, StateQuota};
use sandhog_core::rate::{RateLimit, RateOf};
use sandhog_core::reason::Reason;
use sandhog_core::retry::{Backoff, Growth, Jitter, RetryPolicy};
use sandhog_core::time::Timestamp;
use sandhog_daemon::app::{self, Parts};
use sandhog_daemon::capacity::concurrency::ConcurrencyLimits;
use sandhog_daemon::catalog::{Archive, Archived, Catalog, PluginTerms, TenantTerms, Version};
use sandhog_daemon::clock::Clock;
use sandhog_daemon::deploy::InUse;
use sandhog_daemon::shutdown::Shutdown;
use sandhog_daemon::vitals::Vitals;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::guests::{Act, End, Life, Players, SUCCESSES, Scripts, Stage};
use crate::heard::Heard;
use crate::shape::{self, FUEL_OF_A_RUN, Order, PluginPlan, Shape};
pub(crate) use crate::watched::Met;
use crate::watched::{Handed, Watched};

const MAX_ATTEMPTS: u32 = 4;
/// As it is by default.
const EXPIRIES_MAX: u32 = 5;
/// How long plugins that are late keep their jobs waiting after all else that is planned.
const LATE_BY: Duration = Duration::from_secs(40);
/// Makes what a seed means beyond the first of its drawings independent of those.
const SHAPES: u64 = 0x5ee_d5ea;
const HOLDS: u64 = 0xb10_cced;
const TIMES: u64 = 0xc10_c4ed;
const TIMEOUT: Duration = Duration::from_secs(20);
const LEASE: config::Lease = config::Lease {
    ttl: Duration::from_secs(10),
    margin: Duration::from_secs(2),
    renew_every: Duration::from_secs(2),
    expiries_max: EXPIRIES_MAX,
};

/// However badly things go, all is done by then.
const LATEST_END: Duration = Duration::from_secs(24 * 60 * 60);

/// All that is decided beforehand.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    seed: u64,
    tenants: Vec<TenantPlan>,
    concurrency: u32,
    daemons: usize,
    faults: Faults,
    /// What happens to the world, and how long after what came before.
    blows: Vec<(Duration, Blow)>,
    /// After each blow, every daemon gets a new revision of its plugins; and this tenant, if there is one, is missing
    /// until the next.
    missing: Vec<Option<usize>>,
    /// How many leases of a job may run out.
    expiries_max: u32,
    /// The tenant whose broker is another one, and how long that takes for a call or a reply at most.
    slow: Option<(usize, Duration)>,
}

#[derive(Debug, Clone)]
struct TenantPlan {
    name: String,
    quota: u32,
    jobs: Vec<JobPlan>,
    flows: Vec<FlowPlan>,
    shape: Shape,
}

/// Jobs that are stored in one step, some of which come after others.
#[derive(Debug, Clone)]
struct FlowPlan {
    enqueued_after: Duration,
    jobs: Vec<JobPlan>,
    /// Which job comes after which, by their places, and what becomes of it if that one ends badly.
    edges: Vec<(usize, usize, OnFailure)>,
}

#[derive(Debug, Clone)]
struct JobPlan {
    enqueued_after: Duration,
    delay: Duration,
    acts: Vec<Act>,
    cancelled_after: Option<Duration>,
    order: Order,
    unique_key: Option<UniqueKey>,
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    /// SIGKILL for one daemon; another takes its place.
    Kill(usize),
    /// SIGTERM for one daemon; another takes its place.
    Drain(usize),
    /// Nobody reaches the broker for a while.
    Outage(Duration),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    /// The leases in the order in which they were handed out.
    pub(crate) leases: Vec<Handed>,
    /// Calls in which at least one was handed out.
    pub(crate) calls: usize,
    /// Calls that settled.
    pub(crate) settle_calls: usize,
    /// What became of the jobs, by tenant: the state of each, and how many attempts counted.
    pub(crate) finals: BTreeMap<String, Vec<(JobId, State, u32)>>,
    /// How often rules were met that need not be.
    pub(crate) met: Met,
    took: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut plan = Self::plain_of_seed(seed);
        let r = &mut StdRng::seed_from_u64(seed ^ SHAPES);
        for tenant in &mut plan.tenants {
            tenant.shape = Shape::random(r, plan.daemons);
            for job in &mut tenant.jobs {
                job.order = tenant.shape.order(r, plan.daemons);
            }
            if r.random_bool(0.1) {
                tenant.jobs[0].acts = vec![Act { takes: millis(r, 0, 2_000), end: End::KillDaemon }];
            }
        }
        let r = &mut StdRng::seed_from_u64(seed ^ HOLDS);
        for tenant in &mut plan.tenants {
            tenant.shape.hold_back(r);
            for job in &mut tenant.jobs {
                job.order.group = shape::group(r);
            }
            tenant.flows =
                (0..r.random_range(0..4)).map(|_| FlowPlan::random(r, &tenant.shape, plan.daemons)).collect();
        }
        let r = &mut StdRng::seed_from_u64(seed ^ TIMES);
        for tenant in &mut plan.tenants {
            tenant.shape.time(r);
            for job in &mut tenant.jobs {
                job.unique_key = shape::unique_key(r);
            }
        }
        plan
    }

    /// The same for tenants of one plugin that all daemons have, with one queue, the usual priority, and no end of fuel.
    pub(crate) fn plain_of_seed(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let r = &mut random;
        let mut tenants: Vec<_> = (0..r.random_range(1..4)).map(|nth| TenantPlan::random(r, nth)).collect();
        let daemons = r.random_range(1..4);
        let blows: Vec<_> =
            (0..r.random_range(0..6)).map(|_| (millis(r, 0, 20_000), Blow::random(r, daemons))).collect();
        let faults = Faults {
            seed,
            lost_before: f64::from(r.random_range(0..10)) / 100.0,
            lost_after: f64::from(r.random_range(0..10)) / 100.0,
            delay_max: millis(r, 0, 3_000),
        };
        let concurrency = r.random_range(1..12);
        // Drawn last, so that what else a seed means doesn't depend on it.
        let missing = blows.iter().map(|_| r.random::<bool>().then(|| r.random_range(0..3))).collect();
        for tenant in &mut tenants {
            let quick = if r.random_bool(0.3) { r.random_range(0..150) } else { 0 };
            tenant.jobs.extend((0..quick).map(|_| JobPlan::lasting(Duration::ZERO, Duration::ZERO)));
        }
        for act in tenants.iter_mut().flat_map(|tenant| &mut tenant.jobs).flat_map(|job| &mut job.acts) {
            if matches!(act.end, End::Hang) && r.random() {
                act.end = End::HangUntilDrained;
            }
        }
        let expiries_max = EXPIRIES_MAX;
        Self { seed, tenants, concurrency, daemons, faults, blows, missing, expiries_max, slow: None }
    }

    /// A flood of one tenant, each job as long as it may be, and one job of another that arrives in the middle of it.
    pub(crate) fn flood_and_one() -> Self {
        let job = |enqueued_after| JobPlan::lasting(TIMEOUT - Duration::from_secs(1), enqueued_after);
        let flood = (0..100).map(|_| job(Duration::ZERO)).collect();
        let single = vec![job(Duration::from_secs(12))];
        Self::quiet(vec![TenantPlan::plain("flood", 50, flood), TenantPlan::plain("single", 50, single)])
    }

    /// A job that goes on until it is told to stop, of daemons that are replaced one after the other. In the end it is
    /// cancelled.
    pub(crate) fn drained_again_and_again() -> Self {
        let act = Act { takes: Duration::ZERO, end: End::HangUntilDrained };
        let job = JobPlan {
            enqueued_after: Duration::ZERO,
            delay: Duration::ZERO,
            acts: vec![act],
            cancelled_after: Some(Duration::from_secs(5 * (u64::from(MAX_ATTEMPTS) + 3))),
            order: Order::plain(),
            unique_key: None,
        };
        let blows: Vec<_> = (0..MAX_ATTEMPTS + 2).map(|_| (Duration::from_secs(4), Blow::Drain(0))).collect();
        Self {
            missing: vec![None; blows.len()],
            blows,
            concurrency: 1,
            ..Self::quiet(vec![TenantPlan::plain("single", 1, vec![job])])
        }
    }

    /// A job that takes its daemon with it each time, among others that last for seconds.
    pub(crate) fn one_that_kills_its_daemons() -> Self {
        let guilty = JobPlan {
            acts: vec![Act { takes: Duration::from_secs(1), end: End::KillDaemon }],
            ..JobPlan::lasting(Duration::ZERO, Duration::ZERO)
        };
        let innocent = (0..12).map(|_| JobPlan::lasting(Duration::from_secs(3), Duration::ZERO));
        Self {
            expiries_max: 3,
            daemons: 2,
            ..Self::quiet(vec![
                TenantPlan::plain("guilty", 2, vec![guilty]),
                TenantPlan::plain("innocent", 4, innocent.collect()),
            ])
        }
    }

    /// Quick jobs, and a broker whose replies are often lost. The first lease that runs out buries its job.
    pub(crate) fn replies_lost() -> Self {
        let jobs = (0..60).map(|nth| JobPlan::lasting(Duration::ZERO, Duration::from_millis(100 * nth)));
        Self {
            faults: Faults { seed: 1, lost_after: 0.3, ..Faults::default() },
            expiries_max: 0,
            ..Self::quiet(vec![TenantPlan::plain("single", 4, jobs.collect())])
        }
    }

    /// Two slots for three tenants. One has many jobs, and a broker that takes seconds for each call; the others have a job
    /// now and then, one of them jobs that wait for their time.
    pub(crate) fn slow_broker_beside_others() -> Self {
        let at = |first: u64, nth: u64| Duration::from_millis(first + 3_001 * nth);
        let brief = |enqueued_after| JobPlan::lasting(Duration::from_millis(1), enqueued_after);
        let stored_later = (0..20).map(|nth| brief(at(500, nth)));
        let due_later = (0..20).map(|nth| JobPlan { delay: at(1_100, nth), ..brief(Duration::ZERO) });
        let tenant = |name: &str, jobs| TenantPlan::plain(name, 2, jobs);
        let many = (0..40).map(|_| brief(Duration::ZERO)).collect();
        Self {
            slow: Some((0, Duration::from_secs(4))),
            concurrency: 2,
            ..Self::quiet(vec![
                tenant("slow", many),
                tenant("one", stored_later.collect()),
                tenant("two", due_later.collect()),
            ])
        }
    }

    /// One slot for these tenants, each with jobs that all last so long.
    pub(crate) fn one_slot(tenants: impl IntoIterator<Item = (&'static str, usize, Duration)>) -> Self {
        let tenant = |(name, count, takes): (&str, usize, Duration)| {
            let jobs = (0..count).map(|_| JobPlan::lasting(takes, Duration::ZERO)).collect();
            TenantPlan::plain(name, 4, jobs)
        };
        Self { concurrency: 1, ..Self::quiet(tenants.into_iter().map(tenant).collect()) }
    }

    /// One slot for twenty tenants, each with so many jobs of two milliseconds, and a broker that takes up to 80 milliseconds for
    /// each call.
    pub(crate) fn twenty_in_line_for_a_slow_broker(jobs: usize) -> Self {
        let job = || JobPlan::lasting(Duration::from_millis(2), Duration::ZERO);
        let tenant = |nth| TenantPlan::plain(format!("tenant-{nth}"), 4, (0..jobs).map(|_| job()).collect());
        Self {
            concurrency: 1,
            faults: Faults { delay_max: Duration::from_millis(40), ..Faults::default() },
            ..Self::quiet((0..20).map(tenant).collect())
        }
    }

    /// Three daemons with a slot each, and jobs of a second each of a plugin of which two runs may be under way: half of them in its own queue,
    /// the others in that of another plugin.
    pub(crate) fn limited_in_two_queues() -> Self {
        let few = PluginPlan { limit: NonZeroU32::new(2), ..PluginPlan::of("few", 1) };
        let others = PluginPlan {
            queue: QueueName::parse("elsewhere").expect("valid"),
            ..PluginPlan::of("others", 1)
        };
        let queues = [few.queue.clone(), others.queue.clone()];
        let job = |nth: usize| JobPlan {
            order: Order { queue: queues[nth % 2].clone(), ..Order::of("few") },
            ..JobPlan::lasting(Duration::from_secs(1), Duration::ZERO)
        };
        Self { concurrency: 1, ..Self::shaped(3, [few, others], FuelQuota::default(), (0..12).map(job)) }
    }

    /// Two daemons, many jobs of a plugin that none has for a while, and behind them in the same queue some that they can run.
    pub(crate) fn late_plugin_before_others() -> Self {
        let late = PluginPlan { is_late: true, ..PluginPlan::of("late", 1) };
        let waiting = (0..100).map(|_| JobPlan {
            order: Order::of("late"),
            ..JobPlan::lasting(Duration::ZERO, Duration::ZERO)
        });
        let others =
            (0..20).map(|nth| JobPlan::lasting(Duration::ZERO, Duration::from_millis(1_000 + 100 * nth)));
        Self::shaped(2, [late, PluginPlan::of("players", 1)], FuelQuota::default(), waiting.chain(others))
    }

    /// Jobs of a second each, of a tenant that may spend as much as so many runs in a minute. Then its jobs wait.
    pub(crate) fn held_for_fuel(runs: u64) -> Self {
        let fuel = FuelQuota { per_minute: Some(Fuel(runs * FUEL_OF_A_RUN.0)), ..FuelQuota::default() };
        let jobs = (0..20).map(|_| JobPlan::lasting(Duration::from_secs(1), Duration::ZERO));
        Self::shaped(1, [PluginPlan::of("players", 1)], fuel, jobs)
    }

    /// Tenants, and one daemon to which nothing happens.
    fn quiet(tenants: Vec<TenantPlan>) -> Self {
        Self {
            seed: 0,
            tenants,
            concurrency: 4,
            daemons: 1,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: None,
        }
    }

    /// One tenant with these plugins, and daemons to which nothing happens.
    fn shaped(
        daemons: usize,
        plugins: impl IntoIterator<Item = PluginPlan>,
        fuel: FuelQuota,
        jobs: impl IntoIterator<Item = JobPlan>,
    ) -> Self {
        let shape = Shape { plugins: plugins.into_iter().collect(), fuel, ..Shape::plain() };
        let tenant = TenantPlan::plain("single", 4, jobs.into_iter().collect());
        Self { daemons, ..Self::quiet(vec![TenantPlan { shape, ..tenant }]) }
    }

    /// Tenants without jobs.
    pub(crate) fn idle(tenants: usize, daemons: usize) -> Self {
        let tenant = |nth| TenantPlan::plain(format!("tenant-{nth}"), 4, Vec::new());
        Self { daemons, ..Self::quiet((0..tenants).map(tenant).collect()) }
    }

    /// Jobs that last so long, in their order, and daemons that run one at a time.
    pub(crate) fn one_at_a_time(daemons: usize, lasting: impl IntoIterator<Item = Duration>) -> Self {
        let jobs = lasting.into_iter().map(|takes| JobPlan::lasting(takes, Duration::ZERO)).collect();
        Self { concurrency: 1, daemons, ..Self::quiet(vec![TenantPlan::plain("single", 1, jobs)]) }
    }
}

impl Plan {
    /// The kinds that no daemon serves before the last deploy.
    fn late_kinds(&self) -> impl Iterator<Item = (TenantId, Kind)> {
        self.tenants.iter().flat_map(|tenant| {
            let late = tenant.shape.plugins.iter().filter(|plugin| plugin.is_late);
            late.flat_map(|plugin| &plugin.kinds).map(|kind| (tenant.id(), kind.clone()))
        })
    }
}

impl TenantPlan {
    fn plain(name: impl Into<String>, quota: u32, jobs: Vec<JobPlan>) -> Self {
        Self { name: name.into(), quota, jobs, flows: Vec::new(), shape: Shape::plain() }
    }

    fn id(&self) -> TenantId {
        tenant_id(&self.name)
    }

    /// How many jobs are stored for it, beside those of its guests.
    fn count(&self) -> u64 {
        let of_flows: usize = self.flows.iter().map(|flow| flow.jobs.len()).sum();
        (self.jobs.len() + of_flows) as u64
    }

    fn random(r: &mut StdRng, nth: u32) -> Self {
        let jobs = (0..r.random_range(1..25)).map(|_| JobPlan::random(r)).collect();
        Self::plain(format!("tenant-{nth}"), r.random_range(1..8), jobs)
    }
}

impl FlowPlan {
    fn random(r: &mut StdRng, shape: &Shape, daemons: usize) -> Self {
        let jobs: Vec<JobPlan> = (0..r.random_range(2..8))
            .map(|_| JobPlan { order: shape.order(r, daemons), ..JobPlan::random(r) })
            .collect();
        // One that is held for good would never end.
        let rules = [OnFailure::Fail, OnFailure::Ignore];
        let mut edges = Vec::new();
        for after in 1..jobs.len() {
            for first in 0..after {
                if r.random_bool(0.4) {
                    edges.push((after, first, rules[r.random_range(0..rules.len())]));
                }
            }
        }
        Self { enqueued_after: millis(r, 0, 5_000), jobs, edges }
    }

    /// The flow of jobs that are made of its plans.
    fn flow(&self, jobs: Vec<NewJob>) -> Flow {
        let name = |nth| FlowJobName::parse(&format!("job-{nth}")).expect("valid");
        let jobs = jobs.into_iter().enumerate().map(|(nth, job)| {
            let edges = self.edges.iter().filter(|(after, ..)| *after == nth);
            let after =
                edges.map(|(_, first, on_failure)| After { job: name(*first), on_failure: *on_failure });
            FlowJob { name: name(nth), job, after: after.collect(), takes_outputs: false }
        });
        Flow::new(jobs.collect()).expect("each comes after such as stand before it")
    }
}

impl JobPlan {
    /// One that returns after a while.
    fn lasting(takes: Duration, enqueued_after: Duration) -> Self {
        Self {
            enqueued_after,
            delay: Duration::ZERO,
            acts: vec![Act { takes, end: End::Return { spawns: 0 } }],
            cancelled_after: None,
            order: Order::plain(),
            unique_key: None,
        }
    }

    /// The job itself, with the script of its guests.
    fn job(&self, clock: &dyn WallClock, random: &mut StdRng, scripts: &mut Scripts) -> NewJob {
        let id = JobId::from_parts(clock.now(), random.random());
        scripts.0.insert(id, self.acts.clone());
        let Order { kind, queue, priority, group } = self.order.clone();
        NewJob {
            delay: self.delay,
            priority,
            unique_key: self.unique_key.clone(),
            options: JobOptions { group, ..JobOptions::default() },
            ..NewJob::new(id, queue, kind, Vec::new())
        }
    }

    fn random(r: &mut StdRng) -> Self {
        Self {
            enqueued_after: millis(r, 0, 5_000),
            delay: if r.random_bool(0.2) { millis(r, 0, 30_000) } else { Duration::ZERO },
            acts: (0..r.random_range(1..4)).map(|_| Act::random(r)).collect(),
            cancelled_after: r.random_bool(0.1).then(|| millis(r, 0, 20_000)),
            order: Order::plain(),
            unique_key: None,
        }
    }
}

impl Act {
    fn random(r: &mut StdRng) -> Self {
        let end = match r.random_range(0..20) {
            0..10 => End::Return { spawns: 0 },
            10 => End::Return { spawns: 2 },
            11..16 => End::Fail,
            16 => End::FailForGood,
            17 => End::OutOfFuel,
            18 => End::HostFault,
            _ => End::Hang,
        };
        Self { takes: millis(r, 0, 6_000), end }
    }
}

impl Blow {
    fn random(r: &mut StdRng, daemons: usize) -> Self {
        match r.random_range(0..3) {
            0 => Self::Kill(r.random_range(0..daemons)),
            1 => Self::Drain(r.random_range(0..daemons)),
            _ => Self::Outage(millis(r, 100, 30_000)),
        }
    }
}

fn millis(r: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(r.random_range(from..=to))
}

/// The calendar, driven by tokio's paused clock.
struct SimClock(Instant);

impl WallClock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).after(self.0.elapsed())
    }
}

/// No revision but the one in force.
struct NothingKept;

impl Archive<()> for NothingKept {
    fn find(&self, _plugin: (TenantId, PluginName), _revision: Revision) -> Archived<()> {
        Archived::Gone
    }
}

/// A daemon's own way to the broker, which ends with its life.
struct Line {
    broker: Arc<dyn Broker>,
    life: Life,
    heard: Arc<Heard>,
}

impl Line {
    async fn while_alive<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.life.over() => std::future::pending().await,
            answer = call => answer,
        }
    }
}

#[async_trait]
impl Broker for Line {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.while_alive(self.broker.enqueue_within(tenant, jobs, bounds)).await
    }
    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.while_alive(self.broker.lease(ask)).await
    }
    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.while_alive(self.broker.renew(tenant, ttl, leases)).await
    }
    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        let replies = self.while_alive(self.broker.settle(tenant, settlements)).await?;
        self.heard.tell(tenant, settlements, &replies);
        Ok(replies)
    }
    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        self.while_alive(self.broker.control(tenant, command)).await
    }
    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.while_alive(self.broker.look(tenant, look)).await
    }
    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.while_alive(self.broker.watch(tenants)).await
    }
    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.while_alive(self.broker.tenants()).await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.while_alive(self.broker.report_daemon(id, report)).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.while_alive(self.broker.daemons()).await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.while_alive(self.broker.check()).await
    }
}

/// One tenant's way to a broker of its own, and that of all others.
struct Roads {
    slow: (TenantId, Arc<dyn Broker>),
    common: Arc<dyn Broker>,
}

impl Routes for Roads {
    fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>> {
        let (slow, broker) = &self.slow;
        Ok(Arc::clone(if tenant == slow { broker } else { &self.common }))
    }

    fn all(&self) -> Vec<Arc<dyn Broker>> {
        vec![Arc::clone(&self.common), Arc::clone(&self.slow.1)]
    }

    fn of_fleet(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.common)
    }
}

/// Plays a plan to its end.
///
/// # Panics
/// If an invariant breaks, or not all is done in [`LATEST_END`].
pub(crate) fn play(plan: &Plan) -> History {
    under_paused_time(World::play(plan))
}

/// How many calls the broker gets in each of so many hours by daemons to whom nothing happens. They have had a minute to start.
pub(crate) fn calls_by_the_hour(plan: &Plan, hours: usize) -> Vec<usize> {
    under_paused_time(async {
        let (mut world, _no_jobs) = World::new(plan);
        let daemons: Vec<Daemon> = (0..plan.daemons).map(|nth| world.start_daemon(nth)).collect();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut calls = Vec::new();
        for _ in 0..hours {
            let before = world.watched.asked();
            tokio::time::sleep(Duration::from_secs(60 * 60)).await;
            calls.push(world.watched.asked() - before);
        }
        for daemon in daemons {
            daemon.life.end();
        }
        calls
    })
}

fn under_paused_time<T>(playing: impl Future<Output = T>) -> T {
    notice_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(playing);
    // Some tasks only panic when they are ended.
    drop(runtime);
    check_that_no_task_panicked();
    outcome
}

thread_local! {
    /// Panics of this thread, on which all tasks of a simulation are.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// What breaks in a task of a daemon's ends that task, and nobody else hears of it.
fn notice_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

fn check_that_no_task_panicked() {
    assert_eq!(PANICS.replace(0), 0, "a task has panicked; see above");
}

struct World {
    watched: Arc<Watched>,
    faulty: Arc<Faulty>,
    /// What daemons reach the brokers through.
    routed: Arc<dyn Broker>,
    clock: Arc<dyn WallClock>,
    stage: Arc<Stage>,
    scripts: Arc<Scripts>,
    tenants: Arc<BTreeMap<TenantId, (u32, Shape)>>,
    plan: Plan,
    /// Whether plugins that are late have come.
    has_late_ones: bool,
    /// What was heard of each daemon that there ever was.
    heard: Vec<Arc<Heard>>,
    random: StdRng,
}

struct Daemon {
    life: Life,
    shutdown: Arc<Shutdown>,
    swap: watch::Sender<Arc<Catalog<()>>>,
    concurrency_limits: ConcurrencyLimits,
}

impl World {
    /// The world, and the jobs that are to come.
    fn new(plan: &Plan) -> (Self, Vec<(JobPlan, TenantId, NewJob)>) {
        let clock: Arc<dyn WallClock> = Arc::new(SimClock(Instant::now()));
        let watched = Arc::new(Watched::new(Arc::clone(&clock)));
        let faulty = Arc::new(Faulty::new(Arc::clone(&watched) as Arc<dyn Broker>, plan.faults.clone()));
        let slow = plan.slow.map(|(nth, delay_max)| {
            let faults = Faults { delay_max, ..Faults::default() };
            let broker = Faulty::new(Arc::clone(&watched) as Arc<dyn Broker>, faults);
            (tenant_id(&plan.tenants[nth].name), Arc::new(broker) as Arc<dyn Broker>)
        });
        let common = Arc::clone(&faulty) as Arc<dyn Broker>;
        let routed = match slow {
            None => common,
            Some(slow) => Arc::new(Routed::new(Roads { slow, common })),
        };
        let mut random = StdRng::seed_from_u64(plan.seed);
        let (jobs, scripts) = jobs(plan, &*clock, &mut random);
        let world = Self {
            watched,
            faulty,
            routed,
            clock,
            stage: Arc::new(Stage::default()),
            scripts: Arc::new(scripts),
            tenants: Arc::new(
                plan.tenants
                    .iter()
                    .map(|tenant| (tenant.id(), (tenant.quota, tenant.shape.clone())))
                    .collect(),
            ),
            plan: plan.clone(),
            has_late_ones: false,
            heard: Vec::new(),
            random,
        };
        (world, jobs)
    }

    async fn play(plan: &Plan) -> History {
        let (mut world, jobs) = Self::new(plan);
        for tenant in &plan.tenants {
            let rules = &tenant.shape.group_rules;
            world.watched.set_group_rules(&tenant.id(), rules).await.expect("the model answers");
        }
        for (after, tenant, flow) in world.flows() {
            tokio::spawn(produce_flow(Arc::clone(&world.faulty), after, tenant, flow));
        }
        for (job_plan, tenant, job) in jobs {
            tokio::spawn(produce(Arc::clone(&world.faulty), job_plan, tenant, job));
        }
        let mut daemons: Vec<Daemon> = (0..plan.daemons).map(|nth| world.start_daemon(nth)).collect();
        let deploys = plan.missing.iter().copied().zip(1u8..);
        for ((pause, blow), (missing, revision)) in plan.blows.clone().into_iter().zip(deploys) {
            tokio::time::sleep(pause).await;
            world.strike(blow, &mut daemons).await;
            world.deploy(revision, missing, &mut daemons);
        }
        if plan.late_kinds().next().is_some() {
            tokio::time::sleep(LATE_BY).await;
            world.check_that_late_kinds_wait().await;
        }
        world.has_late_ones = true;
        world.deploy(u8::MAX, None, &mut daemons);
        let history = world.see_out(&mut daemons).await;
        for daemon in daemons {
            daemon.life.end();
        }
        history
    }

    fn start_daemon(&mut self, nth: usize) -> Daemon {
        let life = Life::new();
        let shutdown = Arc::new(Shutdown::default());
        let mut concurrency_limits = ConcurrencyLimits::default();
        let (swap, catalog) = watch::channel(Arc::new(self.catalog(nth, 0, None, &mut concurrency_limits)));
        let heard = Arc::new(Heard::default());
        self.heard.push(Arc::clone(&heard));
        let line = Line { broker: Arc::clone(&self.routed), life: life.clone(), heard: Arc::clone(&heard) };
        let clock = Clock::new(Arc::clone(&self.clock), StdRng::seed_from_u64(self.random.random()));
        let parts = Parts {
            broker: Arc::new(line),
            runner: Arc::new(Players {
                daemon: nth,
                stage: Arc::clone(&self.stage),
                scripts: Arc::clone(&self.scripts),
                tenants: Arc::clone(&self.tenants),
                life: life.clone(),
            }),
            catalog,
            archive: Arc::new(NothingKept),
            vitals: Vitals::new(format!("daemon {nth}"), clock.clone()),
            clock,
            observer: heard,
            concurrency: NonZeroU32::new(self.plan.concurrency).expect("at least one"),
            lease: config::Lease { expiries_max: self.plan.expiries_max, ..LEASE },
            grace: Duration::from_secs(3),
        };
        let (ended, of_process) = (Arc::clone(&shutdown), life.clone());
        tokio::spawn(async move {
            app::run(parts, &ended).await.expect("no loop ends by itself");
            of_process.end();
        });
        Daemon { life, shutdown, swap, concurrency_limits }
    }

    /// The flows that are to come.
    fn flows(&mut self) -> Vec<(Duration, TenantId, Flow)> {
        let mut flows = Vec::new();
        for tenant in &self.plan.tenants {
            for flow in &tenant.flows {
                let scripts = Arc::get_mut(&mut self.scripts).expect("no daemon was started yet");
                let jobs = flow.jobs.iter().map(|job| job.job(&*self.clock, &mut self.random, scripts));
                flows.push((flow.enqueued_after, tenant.id(), flow.flow(jobs.collect())));
            }
        }
        flows
    }

    /// A reload of every daemon, in the middle of its work.
    fn deploy(&self, revision: u8, missing: Option<usize>, daemons: &mut [Daemon]) {
        let missing = missing.and_then(|nth| self.plan.tenants.get(nth)).map(TenantPlan::id);
        for (nth, daemon) in daemons.iter_mut().enumerate() {
            let catalog = self.catalog(nth, revision, missing.as_ref(), &mut daemon.concurrency_limits);
            daemon.swap.send_replace(Arc::new(catalog));
        }
    }

    /// What a daemon has now.
    fn catalog(
        &self,
        daemon: usize,
        revision: u8,
        missing: Option<&TenantId>,
        concurrency_limits: &mut ConcurrencyLimits,
    ) -> Catalog<()> {
        let revision = Revision::from_sha256([revision; 32]);
        let terms = |(tenant, (quota, shape)): (&TenantId, &(u32, Shape))| {
            let there =
                |plugin: &&PluginPlan| plugin.is_on(daemon) && (self.has_late_ones || !plugin.is_late);
            let plugins = shape.plugins.iter().filter(there);
            let terms = TenantTerms {
                weight: NonZeroU32::MIN,
                concurrency: NonZeroU32::new(*quota).expect("at least one"),
                memory: Bytes::mib(1024),
                fuel: shape.fuel,
                queue: QueueBounds::default(),
                group_rules: shape.group_rules.clone(),
                breakers: shape.breakers(),
                keep_max: KeepMax::default(),
                plugins: plugins.map(|plugin| plugin_terms(tenant, plugin, revision)).collect(),
            };
            (tenant.clone(), terms)
        };
        let there = self.tenants.iter().filter(|(tenant, _)| Some(*tenant) != missing);
        Catalog::new(there.map(terms).collect(), concurrency_limits)
    }

    async fn strike(&mut self, blow: Blow, daemons: &mut [Daemon]) {
        match blow {
            Blow::Kill(nth) => {
                daemons[nth].life.end();
                daemons[nth] = self.start_daemon(nth);
            }
            Blow::Drain(nth) => {
                daemons[nth].shutdown.drain();
                // Its successor doesn't share its quota, so it waits until the old one is gone.
                let over = tokio::time::timeout(LATEST_END, daemons[nth].life.over()).await;
                over.expect("a drained daemon ends");
                daemons[nth] = self.start_daemon(nth);
            }
            Blow::Outage(duration) => {
                self.faulty.down();
                tokio::time::sleep(duration).await;
                self.faulty.up();
            }
        }
    }

    /// Waits until every job is final, and checks what has come of them.
    async fn see_out(&mut self, daemons: &mut [Daemon]) -> History {
        let started = Instant::now();
        while !self.all_done().await {
            check_that_no_task_panicked();
            assert!(started.elapsed() < LATEST_END, "not all is done: {:?}", self.counts().await);
            for (nth, daemon) in daemons.iter_mut().enumerate().filter(|(_, daemon)| !daemon.life.lives()) {
                *daemon = self.start_daemon(nth);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut finals = BTreeMap::new();
        for tenant in &self.plan.tenants {
            finals.insert(tenant.name.clone(), self.check(tenant).await);
        }
        let heard: usize = self.heard.iter().map(|heard| heard.check()).sum();
        let (leases, calls) = self.watched.handed();
        let settle_calls = self.watched.settle_calls();
        assert!(heard > 0 || leases.is_empty(), "settlements are observed");
        let met = self.watched.met();
        History { leases, calls, settle_calls, finals, met, took: started.elapsed() }
    }

    async fn counts(&self) -> Vec<Counts> {
        let mut counts = Vec::new();
        for tenant in &self.plan.tenants {
            let id = tenant_id(&tenant.name);
            self.watched.check_all(&id).await;
            counts.push(self.watched.counts(&id).await.expect("the model answers"));
        }
        counts
    }

    async fn all_done(&self) -> bool {
        let counts = self.counts().await;
        counts.iter().zip(&self.plan.tenants).all(|(counts, tenant)| {
            let stored = counts.total() + self.watched.refused(&tenant.id());
            counts.unfinished() == 0 && stored >= tenant.count() && self.has_fired(tenant)
        })
    }

    /// Whether all schedules of a tenant have enqueued what they are to.
    fn has_fired(&self, tenant: &TenantPlan) -> bool {
        let mut schedules = tenant.shape.plugins.iter().flat_map(|plugin| &plugin.schedules);
        schedules.all(|schedule| {
            let fired = self.watched.fired(&tenant.id(), &schedule.name) as u64;
            schedule.times_max.is_some_and(|most| fired == most.get())
        })
    }

    async fn finals(&self, tenant: &TenantId) -> Vec<JobRecord> {
        let mut jobs = Vec::new();
        for state in [State::Succeeded, State::Dead, State::Cancelled] {
            let query = Query::of(state, Query::LIMIT_MAX);
            jobs.extend(self.watched.jobs(tenant, query).await.expect("the model answers").jobs);
        }
        jobs
    }

    /// Invariant 11. What is buried for want of fuel, or ends as what it comes after has, needs no plugin for that.
    async fn check_that_late_kinds_wait(&self) {
        let late: BTreeSet<(TenantId, Kind)> = self.plan.late_kinds().collect();
        for tenant in &self.plan.tenants {
            for job in self.finals(&tenant.id()).await {
                let may_end = job.state == State::Cancelled
                    || matches!(job.reason, Some(Reason::OutOfBudget | Reason::ParentFailed));
                let is_late = late.contains(&(job.tenant.clone(), job.kind.clone()));
                assert!(may_end || !is_late, "no daemon has a plugin for it yet: {job:?}");
            }
        }
    }

    /// Invariant 7, effects exactly once, and why jobs were buried.
    async fn check(&self, tenant: &TenantPlan) -> Vec<(JobId, State, u32)> {
        let (id, fuel) = (tenant.id(), tenant.shape.fuel);
        let jobs = self.finals(&id).await;
        let succeeded = jobs.iter().filter(|job| job.state == State::Succeeded).count();
        let key = StateKey::parse(SUCCESSES).expect("valid");
        let mut counted = 0;
        for plugin in &tenant.shape.plugins {
            let text = self.watched.state(&id, &plugin.name, &key).await.expect("the model answers");
            let number = |text| String::from_utf8(text).expect("digits").parse::<usize>().expect("a number");
            counted += text.map_or(0, number);
        }
        assert_eq!(succeeded, counted, "each success has written its effects once");
        for job in &jobs {
            // The expiry after the last that is allowed buries the job.
            assert!(job.attempts <= MAX_ATTEMPTS && job.expiries <= self.plan.expiries_max + 1, "{job:?}");
            let is_rejecting = fuel.per_minute.is_some() && fuel.on_empty == OnEmpty::Reject;
            assert!(job.reason != Some(Reason::OutOfBudget) || is_rejecting, "{job:?}");
        }
        jobs.iter().map(|job| (job.id, job.state, job.attempts)).collect()
    }
}

/// Stores a job, as often as it takes, and cancels it if that is planned.
async fn produce(broker: Arc<Faulty>, plan: JobPlan, tenant: TenantId, job: NewJob) {
    tokio::time::sleep(plan.enqueued_after).await;
    let id = job.id;
    let stored = loop {
        match broker.enqueue(&tenant, std::slice::from_ref(&job)).await {
            Ok(answers) => break answers == [Enqueued::Stored],
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    if let Some(after) = plan.cancelled_after.filter(|_| stored) {
        tokio::time::sleep(after).await;
        while broker.cancel(&tenant, id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Stores a flow, as often as it takes.
async fn produce_flow(broker: Arc<Faulty>, after: Duration, tenant: TenantId, flow: Flow) {
    tokio::time::sleep(after).await;
    loop {
        match broker.store_flow(&tenant, &flow, &QueueBounds::default()).await {
            Ok(stored) => return assert_eq!(stored, FlowStored::Stored),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

fn jobs(
    plan: &Plan,
    clock: &dyn WallClock,
    random: &mut StdRng,
) -> (Vec<(JobPlan, TenantId, NewJob)>, Scripts) {
    let mut scripts = Scripts::default();
    let mut jobs = Vec::new();
    for tenant in &plan.tenants {
        for job_plan in &tenant.jobs {
            let job = job_plan.job(clock, random, &mut scripts);
            jobs.push((job_plan.clone(), tenant_id(&tenant.name), job));
        }
    }
    (jobs, scripts)
}

fn plugin_terms(tenant: &TenantId, plugin: &PluginPlan, revision: Revision) -> PluginTerms<()> {
    PluginTerms {
        name: plugin.name.clone(),
        queue: plugin.queue.clone(),
        concurrency: plugin.limit,
        rate: plugin.rate.map(|rate| RateLimit { of: RateOf::Plugin(plugin.name.clone()), rate }),
        stable: Version {
            revision,
            kinds: plugin.kinds.clone(),
            keep: Keep::default(),
            state: StateQuota { bytes: Bytes::mib(1), keys: 1000 },
            offer: offer(),
            in_use: Arc::new(InUse::new(tenant.clone(), plugin.name.clone(), revision)),
        },
        canary: None,
        keep_max: None,
        schedules: plugin.schedules.clone(),
    }
}

fn offer() -> Offer<()> {
    Offer {
        plugin: (),
        budget: Budget { timeout: TIMEOUT, ..Budget::DEFAULT },
        retry: Arc::new(RetryPolicy {
            max_attempts: NonZeroU32::new(MAX_ATTEMPTS).expect("at least one"),
            backoff: Backoff {
                base: Duration::from_millis(500),
                growth: Growth::Exponential { factor: 2.0 },
                max: Duration::from_secs(10),
                jitter: Jitter::Full,
            },
            ..RetryPolicy::default()
        }),
        payload_max: Bytes::mib(1),
    }
}

fn tenant_id(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}
