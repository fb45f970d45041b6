//! What a tenant has beside its jobs: plugins with their kinds and queues, which daemons have them, and its fuel.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use sandhog_core::breaker::{BreakerRule, BreakerTerms};
use sandhog_core::budget::Fuel;
use sandhog_core::fair::FairRule;
use sandhog_core::group::{GroupRule, OnDead, QueueRule};
use sandhog_core::id::{BreakerName, GroupKey, Kind, PluginName, QueueName, ScheduleName, UniqueKey};
use sandhog_core::job::Priority;
use sandhog_core::quota::{FuelQuota, OnEmpty};
use sandhog_core::rate::Rate;
use sandhog_core::schedule::{Base, CatchUp, Overlap, Schedule, Source, Template, Times, Zone};

/// What each run spends.
pub(crate) const FUEL_OF_A_RUN: Fuel = Fuel(1_000);

const QUEUES: [&str; 3] = ["default", "second", "third"];
const GROUPS: [&str; 3] = ["ann", "ben", "cho"];
const PRIORITIES: [u8; 4] = [0, 50, 100, 255];

/// One tenant's.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) plugins: Vec<PluginPlan>,
    pub(crate) fuel: FuelQuota,
    /// The queues whose jobs of a group wait for each other.
    pub(crate) group_rules: BTreeMap<QueueName, QueueRule>,
    /// What its guests enqueue, by turns.
    pub(crate) spawned: Vec<Order>,
}

#[derive(Debug, Clone)]
pub(crate) struct PluginPlan {
    pub(crate) name: PluginName,
    pub(crate) queue: QueueName,
    pub(crate) kinds: Vec<Kind>,
    /// Its runs under way at once, on all daemons together.
    pub(crate) limit: Option<NonZeroU32>,
    /// Its jobs that are leased within a time, by all daemons together.
    pub(crate) rate: Option<Rate>,
    /// The rule of its breaker.
    pub(crate) breaker: Option<BreakerRule>,
    pub(crate) schedules: Vec<Schedule>,
    /// The daemons that never have it.
    pub(crate) missing_on: BTreeSet<usize>,
    /// No daemon has it before the last deploy.
    pub(crate) is_late: bool,
}

/// What is asked for in a job.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) queue: QueueName,
    pub(crate) priority: Priority,
    pub(crate) group: Option<GroupKey>,
}

impl Shape {
    /// One plugin of one kind, and no end of fuel.
    pub(crate) fn plain() -> Self {
        Self {
            plugins: vec![PluginPlan::of("players", 1)],
            fuel: FuelQuota::default(),
            group_rules: BTreeMap::new(),
            spawned: vec![Order::plain()],
        }
    }

    pub(crate) fn random(r: &mut StdRng, daemons: usize) -> Self {
        let plugins = (0..r.random_range(1..5)).map(|nth| PluginPlan::random(r, nth, daemons)).collect();
        let on_empty = *[OnEmpty::Hold, OnEmpty::Idle, OnEmpty::Reject].choose(r).expect("not empty");
        let runs = r.random_bool(0.3).then(|| r.random_range(5..40));
        let per_minute = runs.map(|runs: u64| Fuel(runs * FUEL_OF_A_RUN.0));
        let fuel = FuelQuota { per_minute, per_day: None, on_empty };
        let mut shape = Self { plugins, fuel, ..Self::plain() };
        shape.spawned = (0..8).map(|_| shape.order(r, daemons)).collect();
        shape
    }

    /// Draws what holds jobs back beyond all that: rules for groups, and rates.
    pub(crate) fn hold_back(&mut self, r: &mut StdRng) {
        for name in QUEUES {
            let at_once = NonZeroU16::new(r.random_range(1..4)).expect("not zero");
            // A group that was held for good would never end.
            let rule = match r.random_range(0..5) {
                0 => GroupRule::Concurrency(at_once).into(),
                1 => GroupRule::Strict(OnDead::Skip).into(),
                2 => QueueRule::Fair(FairRule::default()),
                _ => continue,
            };
            self.group_rules.insert(queue(name), rule);
        }
        for plugin in &mut self.plugins {
            let (count, burst) = (r.random_range(1..20), r.random_range(1..8));
            let [count, burst] = [count, burst].map(|n| NonZeroU32::new(n).expect("not zero"));
            plugin.rate = Rate::new(count, 1_000_000, Some(burst)).filter(|_| r.random_bool(0.3));
        }
    }

    /// Draws what comes and goes with time: breakers, and schedules.
    pub(crate) fn time(&mut self, r: &mut StdRng) {
        for plugin in &mut self.plugins {
            plugin.breaker = r.random_bool(0.4).then(|| breaker(r));
            plugin.schedules = (0..r.random_range(0..3)).map(|nth| plugin.schedule(r, nth)).collect();
        }
    }

    /// An order that some daemon serves in the end: it has the plugin, and one with that queue.
    pub(crate) fn order(&self, r: &mut StdRng, daemons: usize) -> Order {
        let plugin = self.plugins.choose(r).expect("there is one");
        let serves = |other: &&PluginPlan| (0..daemons).any(|nth| plugin.is_on(nth) && other.is_on(nth));
        let elsewhere: Vec<&PluginPlan> = self.plugins.iter().filter(serves).collect();
        let queue = match elsewhere.choose(r) {
            Some(other) if r.random_bool(0.2) => &other.queue,
            _ => &plugin.queue,
        };
        Order {
            kind: plugin.kinds.choose(r).expect("there is one").clone(),
            queue: queue.clone(),
            priority: match r.random_bool(0.3) {
                true => Priority(*PRIORITIES.choose(r).expect("not empty")),
                false => Priority::default(),
            },
            group: None,
        }
    }

    /// The breakers of its plugins.
    pub(crate) fn breakers(&self) -> BTreeMap<BreakerName, Arc<BreakerTerms>> {
        let of_plugin = |plugin: &PluginPlan| {
            let name = BreakerName::of_plugin(&plugin.name);
            let kinds = plugin.kinds.iter().cloned().collect();
            plugin.breaker.map(|rule| (name, Arc::new(BreakerTerms { rule, kinds })))
        };
        self.plugins.iter().filter_map(of_plugin).collect()
    }

    /// The plugin that handles a kind.
    pub(crate) fn plugin(&self, kind: &Kind) -> &PluginPlan {
        self.plugins.iter().find(|plugin| plugin.kinds.contains(kind)).expect("each kind has a plugin")
    }
}

impl PluginPlan {
    /// One with so many kinds, whose jobs wait in the usual queue, on all daemons.
    pub(crate) fn of(name: &str, kinds: usize) -> Self {
        let kind = |nth| match nth {
            0 => kind_of(name),
            nth => Kind::parse(&format!("{name}.act-{nth}")).expect("valid"),
        };
        Self {
            name: PluginName::parse(name).expect("valid"),
            queue: queue(QUEUES[0]),
            kinds: (0..kinds).map(kind).collect(),
            limit: None,
            rate: None,
            breaker: None,
            schedules: Vec::new(),
            missing_on: BTreeSet::new(),
            is_late: false,
        }
    }

    fn random(r: &mut StdRng, nth: usize, daemons: usize) -> Self {
        let missing_on = (0..daemons).filter(|_| r.random_bool(0.25)).collect();
        let plugin = Self {
            queue: queue(QUEUES.choose(r).expect("not empty")),
            limit: r.random_bool(0.4).then(|| NonZeroU32::new(r.random_range(1..6)).expect("not zero")),
            missing_on,
            is_late: r.random_bool(0.1),
            ..Self::of(&format!("players-{nth}"), r.random_range(1..4))
        };
        if (0..daemons).any(|nth| plugin.is_on(nth)) {
            plugin
        } else {
            Self { missing_on: BTreeSet::new(), ..plugin }
        }
    }

    /// A schedule of few jobs, which ends once it has enqueued them.
    fn schedule(&self, r: &mut StdRng, nth: usize) -> Schedule {
        let period = Duration::from_secs(r.random_range(1..20));
        let base = Base::Every { period, phase: Duration::from_millis(r.random_range(0..1_000)) };
        Schedule {
            name: ScheduleName::parse(&format!("{}-{nth}", self.name)).expect("valid"),
            source: Source::Plugin(self.name.clone()),
            times: Times::new(base, Vec::new(), Zone::utc(), None, None).expect("valid"),
            job: Template {
                kind: self.kinds.choose(r).expect("there is one").clone(),
                queue: self.queue.clone(),
                payload: Vec::new(),
                priority: Priority::default(),
            },
            spread: Duration::from_millis(r.random_range(0..5_000)),
            times_max: NonZeroU64::new(r.random_range(1..8)),
            catch_up: CatchUp { window: Duration::from_secs(60), most: r.random_range(1..4) },
            overlap: *Overlap::ALL.choose(r).expect("not empty"),
            paused: false,
        }
    }

    /// Whether a daemon has it in the end.
    pub(crate) fn is_on(&self, daemon: usize) -> bool {
        !self.missing_on.contains(&daemon)
    }
}

impl Order {
    /// A job of the first kind of [`Shape::plain`].
    pub(crate) fn plain() -> Self {
        Self::of("players")
    }

    /// A job of the first kind of a plugin, in the usual queue.
    pub(crate) fn of(plugin: &str) -> Self {
        Self { kind: kind_of(plugin), queue: queue(QUEUES[0]), priority: Priority::default(), group: None }
    }
}

/// The group of a job, if it is to have one.
pub(crate) fn group(r: &mut StdRng) -> Option<GroupKey> {
    let name = GROUPS.choose(r).expect("not empty");
    r.random_bool(0.5).then(|| GroupKey::parse(name).expect("valid"))
}

/// The unique key of a job, if it is to have one.
pub(crate) fn unique_key(r: &mut StdRng) -> Option<UniqueKey> {
    let name = GROUPS.choose(r).expect("not empty");
    r.random_bool(0.2).then(|| UniqueKey::parse(name).expect("valid"))
}

/// The rule of a breaker that opens soon, and not for long.
fn breaker(r: &mut StdRng) -> BreakerRule {
    let seconds = |seconds| Duration::from_secs(seconds);
    let min = NonZeroU32::new(r.random_range(1..5)).expect("not zero");
    let probes = NonZeroU32::new(r.random_range(1..3)).expect("not zero");
    let open = r.random_range(1..10);
    let times = (seconds(open), seconds(open * r.random_range(1..4)));
    let window = seconds(r.random_range(5..60));
    BreakerRule::new(r.random_range(20..=80), min, window, times, probes).expect("in range")
}

fn kind_of(plugin: &str) -> Kind {
    Kind::parse(&format!("{plugin}.act")).expect("valid")
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).expect("valid")
}
