//! A plan made of a seed, and the world that plays it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog::ambient::Ambient;
use sandhog::app::{self, Parts};
use sandhog::catalog::{Archive, Archived, Catalog, PluginTerms, TenantTerms, Version};
use sandhog::config;
use sandhog::deploy::InUse;
use sandhog::drain::Shutdown;
use sandhog::gate::Gates;
use sandhog_broker::faulty::{Faults, Faulty};
use sandhog_broker::routed::{Routed, Routes};
use sandhog_broker::{
    Broker, Clock, Command, Counts, Enqueued, Keep, KeepMax, LeaseAsk, Leased, Look, Outcome, Query, Renew,
    Renewal, Result, Seen, Settle, Wakes,
};
use sandhog_core::admit::Offer;
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::{Budget, Bytes};
use sandhog_core::id::{JobId, Kind, PluginName, QueueName, Revision, StateKey, TenantId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::{FuelQuota, QueueBounds, StateQuota};
use sandhog_core::settle::{Backoff, Jitter, RetryPolicy};
use sandhog_core::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::guests::{Act, End, Life, Players, SUCCESSES, Scripts, Stage};
use crate::watched::{Handed, Watched};

const MAX_ATTEMPTS: u32 = 4;
const EXPIRIES_MAX: u32 = 5;
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
}

#[derive(Debug, Clone)]
struct JobPlan {
    enqueued_after: Duration,
    delay: Duration,
    acts: Vec<Act>,
    cancelled_after: Option<Duration>,
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
    /// What became of the jobs, by tenant: the state of each, and how many attempts counted.
    pub(crate) finals: BTreeMap<String, Vec<(JobId, State, u32)>>,
    took: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
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
        Self {
            seed: 0,
            tenants: vec![
                TenantPlan { name: "flood".into(), quota: 50, jobs: flood },
                TenantPlan { name: "single".into(), quota: 50, jobs: single },
            ],
            concurrency: 4,
            daemons: 1,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: None,
        }
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
        };
        let blows: Vec<_> = (0..MAX_ATTEMPTS + 2).map(|_| (Duration::from_secs(4), Blow::Drain(0))).collect();
        Self {
            seed: 0,
            tenants: vec![TenantPlan { name: "single".into(), quota: 1, jobs: vec![job] }],
            concurrency: 1,
            daemons: 1,
            faults: Faults::default(),
            missing: vec![None; blows.len()],
            blows,
            expiries_max: EXPIRIES_MAX,
            slow: None,
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
            seed: 0,
            tenants: vec![
                TenantPlan { name: "guilty".into(), quota: 2, jobs: vec![guilty] },
                TenantPlan { name: "innocent".into(), quota: 4, jobs: innocent.collect() },
            ],
            concurrency: 4,
            daemons: 2,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: 3,
            slow: None,
        }
    }

    /// Quick jobs, and a broker whose replies are often lost. The first lease that runs out buries its job.
    pub(crate) fn replies_lost() -> Self {
        let jobs = (0..60).map(|nth| JobPlan::lasting(Duration::ZERO, Duration::from_millis(100 * nth)));
        Self {
            seed: 0,
            tenants: vec![TenantPlan { name: "single".into(), quota: 4, jobs: jobs.collect() }],
            concurrency: 4,
            daemons: 1,
            faults: Faults { seed: 1, lost_after: 0.3, ..Faults::default() },
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: 0,
            slow: None,
        }
    }

    /// Two seats for three tenants. One has many jobs, and a broker that takes seconds for each call; the others have a job
    /// now and then, one of them jobs that wait for their time.
    pub(crate) fn slow_broker_beside_others() -> Self {
        let at = |first: u64, nth: u64| Duration::from_millis(first + 3_001 * nth);
        let brief = |enqueued_after| JobPlan::lasting(Duration::from_millis(1), enqueued_after);
        let stored_later = (0..20).map(|nth| brief(at(500, nth)));
        let due_later = (0..20).map(|nth| JobPlan { delay: at(1_100, nth), ..brief(Duration::ZERO) });
        let tenant = |name: &str, jobs| TenantPlan { name: name.into(), quota: 2, jobs };
        let many = (0..40).map(|_| brief(Duration::ZERO)).collect();
        Self {
            seed: 0,
            tenants: vec![
                tenant("slow", many),
                tenant("one", stored_later.collect()),
                tenant("two", due_later.collect()),
            ],
            concurrency: 2,
            daemons: 1,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: Some((0, Duration::from_secs(4))),
        }
    }

    /// One seat for these tenants, each with jobs that all last so long.
    pub(crate) fn one_seat(tenants: impl IntoIterator<Item = (&'static str, usize, Duration)>) -> Self {
        let tenant = |(name, count, takes): (&str, usize, Duration)| {
            let jobs = (0..count).map(|_| JobPlan::lasting(takes, Duration::ZERO)).collect();
            TenantPlan { name: name.into(), quota: 4, jobs }
        };
        Self {
            seed: 0,
            tenants: tenants.into_iter().map(tenant).collect(),
            concurrency: 1,
            daemons: 1,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: None,
        }
    }

    /// Tenants without jobs.
    pub(crate) fn idle(tenants: usize, daemons: usize) -> Self {
        let tenant = |nth| TenantPlan { name: format!("tenant-{nth}"), quota: 4, jobs: Vec::new() };
        Self {
            seed: 0,
            tenants: (0..tenants).map(tenant).collect(),
            concurrency: 4,
            daemons,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: None,
        }
    }

    /// Jobs that last so long, in their order, and daemons that run one at a time.
    pub(crate) fn one_at_a_time(daemons: usize, lasting: impl IntoIterator<Item = Duration>) -> Self {
        let jobs = lasting.into_iter().map(|takes| JobPlan::lasting(takes, Duration::ZERO)).collect();
        Self {
            seed: 0,
            tenants: vec![TenantPlan { name: "single".into(), quota: 1, jobs }],
            concurrency: 1,
            daemons,
            faults: Faults::default(),
            blows: Vec::new(),
            missing: Vec::new(),
            expiries_max: EXPIRIES_MAX,
            slow: None,
        }
    }
}

impl TenantPlan {
    fn random(r: &mut StdRng, nth: u32) -> Self {
        let jobs = (0..r.random_range(1..25)).map(|_| JobPlan::random(r)).collect();
        Self { name: format!("tenant-{nth}"), quota: r.random_range(1..8), jobs }
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
        }
    }

    fn random(r: &mut StdRng) -> Self {
        Self {
            enqueued_after: millis(r, 0, 5_000),
            delay: if r.random_bool(0.2) { millis(r, 0, 30_000) } else { Duration::ZERO },
            acts: (0..r.random_range(1..4)).map(|_| Act::random(r)).collect(),
            cancelled_after: r.random_bool(0.1).then(|| millis(r, 0, 20_000)),
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

impl Clock for SimClock {
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
        self.while_alive(self.broker.settle(tenant, settlements)).await
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
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(playing)
}

struct World {
    watched: Arc<Watched>,
    faulty: Arc<Faulty>,
    /// What daemons reach the brokers through.
    routed: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    stage: Arc<Stage>,
    scripts: Arc<Scripts>,
    plan: Plan,
    random: StdRng,
}

struct Daemon {
    life: Life,
    shutdown: Arc<Shutdown>,
    swap: watch::Sender<Arc<Catalog<()>>>,
    gates: Gates,
}

impl World {
    /// The world, and the jobs that are to come.
    fn new(plan: &Plan) -> (Self, Vec<(JobPlan, TenantId, NewJob)>) {
        let clock: Arc<dyn Clock> = Arc::new(SimClock(Instant::now()));
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
            plan: plan.clone(),
            random,
        };
        (world, jobs)
    }

    async fn play(plan: &Plan) -> History {
        let (mut world, jobs) = Self::new(plan);
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
        let (quotas, mut gates) = (self.quotas(), Gates::default());
        let (swap, catalog) = watch::channel(Arc::new(catalog(&quotas, 0, &mut gates)));
        let parts = Parts {
            broker: Arc::new(Line { broker: Arc::clone(&self.routed), life: life.clone() }),
            runner: Arc::new(Players {
                daemon: nth,
                stage: Arc::clone(&self.stage),
                scripts: Arc::clone(&self.scripts),
                quotas,
                life: life.clone(),
            }),
            catalog,
            archive: Arc::new(NothingKept),
            ambient: Ambient::new(Arc::clone(&self.clock), StdRng::seed_from_u64(self.random.random())),
            concurrency: NonZeroU32::new(self.plan.concurrency).expect("at least one"),
            lease: config::Lease { expiries_max: self.plan.expiries_max, ..LEASE },
            grace: Duration::from_secs(3),
        };
        let (ended, of_process) = (Arc::clone(&shutdown), life.clone());
        tokio::spawn(async move {
            app::run(parts, &ended).await.expect("no loop ends by itself");
            of_process.end();
        });
        Daemon { life, shutdown, swap, gates }
    }

    fn quotas(&self) -> BTreeMap<TenantId, u32> {
        self.plan.tenants.iter().map(|tenant| (tenant_id(&tenant.name), tenant.quota)).collect()
    }

    /// A reload of every daemon, in the middle of its work.
    fn deploy(&self, revision: u8, missing: Option<usize>, daemons: &mut [Daemon]) {
        let mut quotas = self.quotas();
        if let Some(tenant) = missing.and_then(|nth| self.plan.tenants.get(nth)) {
            quotas.remove(&tenant_id(&tenant.name));
        }
        for daemon in daemons {
            daemon.swap.send_replace(Arc::new(catalog(&quotas, revision, &mut daemon.gates)));
        }
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
            assert!(started.elapsed() < LATEST_END, "not all is done: {:?}", self.counts().await);
            for (nth, daemon) in daemons.iter_mut().enumerate().filter(|(_, daemon)| !daemon.life.lives()) {
                *daemon = self.start_daemon(nth);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut finals = BTreeMap::new();
        for tenant in &self.plan.tenants {
            finals.insert(tenant.name.clone(), self.check(&tenant_id(&tenant.name)).await);
        }
        let (leases, calls) = self.watched.handed();
        History { leases, calls, finals, took: started.elapsed() }
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
        counts
            .iter()
            .zip(&self.plan.tenants)
            .all(|(counts, tenant)| counts.unfinished() == 0 && counts.total() >= tenant.jobs.len() as u64)
    }

    /// Invariant 7, and effects exactly once.
    async fn check(&self, tenant: &TenantId) -> Vec<(JobId, State, u32)> {
        let mut jobs = Vec::new();
        for state in [State::Succeeded, State::Dead, State::Cancelled] {
            let query = Query::of(state, Query::LIMIT_MAX);
            jobs.extend(self.watched.jobs(tenant, query).await.expect("the model answers").jobs);
        }
        let succeeded = jobs.iter().filter(|job| job.state == State::Succeeded).count();
        let key = StateKey::parse(SUCCESSES).expect("valid");
        let counted = self.watched.state(tenant, &plugin_name(), &key).await.expect("the model answers");
        let counted =
            counted.map_or(0, |text| String::from_utf8(text).expect("digits").parse().expect("a number"));
        assert_eq!(succeeded, counted, "each success has written its effects once");
        for job in &jobs {
            // The expiry after the last that is allowed buries the job.
            assert!(job.attempts <= MAX_ATTEMPTS && job.expiries <= self.plan.expiries_max + 1, "{job:?}");
        }
        jobs.iter().map(|job| (job.id, job.state, job.attempts)).collect()
    }
}

/// Stores a job, as often as it takes, and cancels it if that is planned.
async fn produce(broker: Arc<Faulty>, plan: JobPlan, tenant: TenantId, job: NewJob) {
    tokio::time::sleep(plan.enqueued_after).await;
    let id = job.id;
    while broker.enqueue(&tenant, std::slice::from_ref(&job)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if let Some(after) = plan.cancelled_after {
        tokio::time::sleep(after).await;
        while broker.cancel(&tenant, id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn jobs(plan: &Plan, clock: &dyn Clock, random: &mut StdRng) -> (Vec<(JobPlan, TenantId, NewJob)>, Scripts) {
    let mut scripts = Scripts::default();
    let mut jobs = Vec::new();
    for tenant in &plan.tenants {
        for job_plan in &tenant.jobs {
            let id = JobId::from_parts(clock.now(), random.random());
            scripts.0.insert(id, job_plan.acts.clone());
            let job = NewJob {
                delay: job_plan.delay,
                ..NewJob::new(
                    id,
                    QueueName::parse("default").expect("valid"),
                    Kind::parse("sim.act").expect("valid"),
                    Vec::new(),
                )
            };
            jobs.push((job_plan.clone(), tenant_id(&tenant.name), job));
        }
    }
    (jobs, scripts)
}

fn catalog(quotas: &BTreeMap<TenantId, u32>, revision: u8, gates: &mut Gates) -> Catalog<()> {
    let terms = |(tenant, quota): (&TenantId, &u32)| {
        let quota = NonZeroU32::new(*quota).expect("at least one");
        let plugins = vec![plugin_terms(tenant, Revision::from_sha256([revision; 32]))];
        (
            tenant.clone(),
            TenantTerms {
                weight: NonZeroU32::MIN,
                concurrency: quota,
                memory: Bytes::mib(1024),
                fuel: FuelQuota::default(),
                queue: QueueBounds::default(),
                keep_max: KeepMax::default(),
                plugins,
            },
        )
    };
    Catalog::new(quotas.iter().map(terms).collect(), gates)
}

fn plugin_terms(tenant: &TenantId, revision: Revision) -> PluginTerms<()> {
    PluginTerms {
        name: plugin_name(),
        queue: QueueName::parse("default").expect("valid"),
        concurrency: None,
        stable: Version {
            revision,
            kinds: vec![Kind::parse("sim.act").expect("valid")],
            keep: Keep::default(),
            state: StateQuota { bytes: Bytes::mib(1), keys: 1000 },
            offer: offer(),
            in_use: Arc::new(InUse::new(tenant.clone(), plugin_name(), revision)),
        },
        canary: None,
    }
}

fn offer() -> Offer<()> {
    Offer {
        plugin: (),
        budget: Budget { timeout: TIMEOUT, ..Budget::DEFAULT },
        retry: RetryPolicy {
            max_attempts: NonZeroU32::new(MAX_ATTEMPTS).expect("at least one"),
            backoff: Backoff {
                base: Duration::from_millis(500),
                factor: 2.0,
                max: Duration::from_secs(10),
                jitter: Jitter::Full,
            },
            ..RetryPolicy::default()
        },
        payload_max: Bytes::mib(1),
    }
}

fn tenant_id(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}

fn plugin_name() -> PluginName {
    PluginName::parse("players").expect("valid")
}
