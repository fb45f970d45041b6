//! Random operations: mostly sensible ones, and every kind of mistake and repetition among them.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sandhog_core::breaker::{Barrier, Probes, Shut};
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::canary::Record;
use sandhog_core::edit::{Due, JobEdit};
use sandhog_core::effects::Effects;
use sandhog_core::event::EventKeep;
use sandhog_core::fair::{FairRule, Weight};
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::group::{GroupRule, OnDead, QueueRule};
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::{HoldEnd, HoldReason, HoldScope, NewHold};
use sandhog_core::id::{
    BreakerName, DaemonId, FlowJobName, GroupKey, JobId, Kind, LeaseNo, LeaseToken, PluginName, QueueName,
    RateName, ScheduleName, TenantId,
};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::labels::Labels;
use sandhog_core::quota::{FuelQuota, OnEmpty, QueueBounds, StateQuota};
use sandhog_core::rate::Rate;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;
use sandhog_core::trial::{Decision, Pair, Records, TrialReport};
use sandhog_core::unique::{Debounce, OnClash, UniqueRule, UniqueUntil};

use super::agree::Reply;
use super::clock::ManualClock;
use super::script::{
    STATE_MAX, daemon, group, key, labels, lines, ms, new_job, plugin, progress, queue_named, ran, revision,
    secs, trace, traffic, unique, usage,
};
use crate::{
    Asker, BreakerRecord, BreakerWrite, Broker, Enqueued, Filter, FleetLimit, FlowStored, JobAction, Keep,
    KeepMax, LaneAsk, LastTimes, LeaseAsk, Query, RateLimit, RateOf, Renew, ScheduleQuery, ScheduleRecord,
    ScheduleWrite, ScheduleWritten, Settle, Still, Sweep, WallClock,
};

/// The plugins that run jobs.
pub(super) const PLUGINS: [&str; 2] = ["thumbnail", "report"];
/// The keys of their state.
pub(super) const KEYS: [&str; 3] = ["count", "owner", "{odd} key:ü"];

const KINDS: [&str; 3] = ["image.thumbnail", "image.rotate", "mail"];
const QUEUES: [&str; 2] = ["default", "other"];
const SCHEDULES: [&str; 3] = ["nightly", "weekly", "hourly"];
const BREAKERS: [&str; 3] = ["stripe", "smtp", "plugin/report"];
const UNIQUE_KEYS: [&str; 3] = ["nightly", "weekly", "user:1 {x}"];
const GROUPS: [&str; 3] = ["acme", "*", "a:b {c} ü"];
const MANY: Bytes = LeaseAsk::BYTES;
const VALUES: [&str; 5] = ["0", "5", "-7", "text", ""];

/// One call of a broker, or time that passes.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Enqueue {
        tenant: TenantId,
        jobs: Vec<NewJob>,
        bounds: QueueBounds,
    },
    Lease {
        tenant: TenantId,
        queues: Vec<(QueueName, u32)>,
        lanes: Vec<LaneAsk>,
        ttl: Duration,
        suspects: u32,
        bytes: Bytes,
        fuel: Option<FuelQuota>,
        asker: Option<Asker>,
    },
    Sweep {
        tenant: TenantId,
        sweep: Sweep,
    },
    Renew {
        tenant: TenantId,
        ttl: Duration,
        leases: Vec<Renew>,
    },
    Settle {
        tenant: TenantId,
        settlements: Vec<Settle>,
    },
    Act {
        tenant: TenantId,
        action: JobAction,
        jobs: Vec<JobId>,
        still: Option<Still>,
    },
    Edit {
        tenant: TenantId,
        job: JobId,
        edit: JobEdit,
        bounds: QueueBounds,
    },
    SetGroupRules {
        tenant: TenantId,
        rules: BTreeMap<QueueName, QueueRule>,
    },
    ReleaseGroup {
        tenant: TenantId,
        queue: QueueName,
        group: GroupKey,
    },
    LimitGroup {
        tenant: TenantId,
        queue: QueueName,
        group: GroupKey,
        change: GroupLimitChange,
    },
    Flow {
        tenant: TenantId,
        flow: Flow,
        bounds: QueueBounds,
    },
    Purge {
        tenant: TenantId,
    },
    Trial {
        tenant: TenantId,
        report: TrialReport,
    },
    Hold {
        tenant: TenantId,
        hold: NewHold,
    },
    Lift {
        tenant: TenantId,
        scope: HoldScope,
    },
    Schedule {
        tenant: TenantId,
        write: ScheduleWrite,
    },
    Breaker {
        tenant: TenantId,
        write: BreakerWrite,
    },
    RecordEvents {
        tenant: TenantId,
        keep: EventKeep,
    },
    Page {
        tenant: TenantId,
        query: Query,
    },
    Pass(Duration),
}

/// Draws operations, and remembers what it takes to repeat them.
pub(super) struct Random {
    rng: StdRng,
    tenants: [Memories; 2],
    sizes: Sizes,
    /// Whether anything is held back. Then the bytes of a lease have no bound, as it is each store's own affair how far one that
    /// is full goes on looking, and so which held kinds get lanes.
    holds: bool,
}

/// Whether values take as many bytes as those of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    Same,
    Other,
}

impl Sizes {
    /// Returns the sizes of a broker whose values are longer by `seal` bytes each.
    pub(super) fn of(seal: u64) -> Self {
        if seal == 0 { Self::Same } else { Self::Other }
    }
}

struct Memories {
    tenant: TenantId,
    /// Every job that was ever asked for.
    jobs: Vec<JobId>,
    /// Every token that was ever handed out, the latest last.
    tokens: Vec<LeaseToken>,
    /// Every settlement that was ever sent.
    settled: Vec<Settle>,
    /// Every flow that was ever sent.
    flows: Vec<Flow>,
    /// The numbers of what each of two daemons has asked for last.
    asked: [u64; 2],
    /// When the latest trial began of which anything was heard.
    trial: Option<Timestamp>,
}

impl Random {
    pub(super) fn new(seed: u64, tenants: [TenantId; 2], sizes: Sizes) -> Self {
        let memories = |tenant| Memories {
            tenant,
            jobs: Vec::new(),
            tokens: Vec::new(),
            settled: Vec::new(),
            flows: Vec::new(),
            asked: [1; 2],
            trial: None,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let holds = rng.random_bool(0.5);
        Self { rng, tenants: tenants.map(memories), sizes, holds }
    }

    pub(super) fn jobs_of(&self, tenant: &TenantId) -> &[JobId] {
        self.tenants.iter().find(|memories| memories.tenant == *tenant).map_or(&[], |memories| &memories.jobs)
    }

    /// The ids of the latest flows that were sent.
    pub(super) fn flows_of(&self, tenant: &TenantId) -> Vec<JobId> {
        const SOME: usize = 12;
        let known = self.tenants.iter().find(|memories| memories.tenant == *tenant);
        known.into_iter().flat_map(|memories| memories.flows.iter().rev().take(SOME).map(Flow::id)).collect()
    }

    pub(super) fn some_jobs_of(&mut self, tenant: &TenantId, n: usize) -> Vec<JobId> {
        let known = self.jobs_of(tenant).to_vec();
        known.sample(&mut self.rng, n).copied().collect()
    }

    /// The next operation. The model is asked for what is stored, so that some comparisons hold.
    pub(super) async fn next(&mut self, model: &dyn Broker) -> Op {
        let which = usize::from(self.rng.random_bool(0.2));
        let tenant = self.tenants[which].tenant.clone();
        match self.rng.random_range(0..100) {
            0..3 => Op::Flow { tenant, flow: self.flow(which), bounds: self.queue_bounds() },
            3..18 => Op::Enqueue {
                tenant,
                jobs: self.some(0..6, |random| random.job(which)),
                bounds: self.queue_bounds(),
            },
            18..36 => Op::Lease {
                tenant,
                queues: self.some(0..3, |random| (random.queue(), random.rng.random_range(0..5))),
                lanes: if self.rng.random_bool(0.5) { self.some(0..3, Self::lane) } else { Vec::new() },
                ttl: self.pick(&[ms(1), secs(1), secs(30), secs(60)]),
                suspects: self.pick(&[0, 1, 1, 2, u32::MAX]),
                // Sealed payloads are longer, and so fewer of them fit.
                bytes: if self.sizes == Sizes::Same && !self.holds {
                    self.pick(&[Bytes(0), Bytes(15), MANY])
                } else {
                    MANY
                },
                fuel: self.fuel_quota(),
                asker: self.asker(which),
            },
            36..44 => Op::Sweep {
                tenant,
                sweep: Sweep {
                    expiries_max: self.rng.random_range(0..4),
                    keep_max: KeepMax {
                        done: self.pick(&[3, 1000, 1000]),
                        dead: self.pick(&[2, 1000, 1000]),
                    },
                    keep_max_of: self.some(0..3, Self::keep_max_of).into_iter().collect(),
                },
            },
            44..54 => Op::Renew {
                tenant,
                ttl: self.pick(&[ms(1), secs(1), secs(30), secs(60)]),
                leases: self.some(0..4, |random| random.renew(which)),
            },
            54..80 => {
                let daemon = daemon(self.pick(&[1, 1, 2]));
                let mut settlements = Vec::new();
                for _ in 0..self.rng.random_range(1..4) {
                    settlements.push(self.settle(which, daemon, model).await);
                }
                Op::Settle { tenant, settlements }
            }
            80 | 81 => Op::Edit {
                job: self.job_for(&[State::Scheduled, State::Ready, State::Blocked], which, model).await,
                edit: self.edit(),
                bounds: self.queue_bounds(),
                tenant,
            },
            82..89 => {
                let action = self.pick(&[
                    JobAction::Cancel,
                    JobAction::Cancel,
                    JobAction::Redrive,
                    JobAction::Redrive,
                    JobAction::RunNow,
                    JobAction::Remove,
                ]);
                let mut jobs = vec![self.job_for(fit_for(action), which, model).await];
                while self.rng.random_bool(0.3) {
                    jobs.push(self.known_job(which));
                }
                let still = self.rng.random_bool(0.3).then(|| Still {
                    state: self.rng.random_bool(0.7).then(|| self.pick(fit_for(action))),
                    last: self.last_times(),
                });
                Op::Act { tenant, action, jobs, still }
            }
            89 if self.rng.random_bool(0.02) => Op::Purge { tenant },
            89 => Op::Page { tenant, query: self.query() },
            90 if self.holds => match self.rng.random_range(0..5) {
                3..5 => Op::Breaker { tenant, write: self.breaker(which, model).await },
                0 | 1 => Op::Hold { tenant, hold: self.hold() },
                _ => Op::Lift { tenant, scope: self.scope() },
            },
            92 => Op::SetGroupRules { tenant, rules: self.group_rules() },
            93 | 94 if self.rng.random_bool(0.3) => Op::LimitGroup {
                tenant,
                queue: self.queue(),
                group: group(self.pick(&GROUPS)),
                change: self.limit_change(),
            },
            93 | 94 => Op::ReleaseGroup { tenant, queue: self.queue(), group: group(self.pick(&GROUPS)) },
            90 => Op::Trial { tenant, report: self.trial_report(which) },
            95 => Op::RecordEvents {
                tenant,
                keep: EventKeep {
                    time: self.pick(&[ms(1), secs(60), secs(86_400), secs(7 * 86_400)]),
                    max: self.pick(&[1, 7, 40, 10_000]),
                },
            },
            91 => Op::Schedule { tenant, write: self.schedule(which, model).await },
            _ => Op::Pass(self.pick(&[
                ms(1),
                ms(400),
                secs(1),
                secs(1),
                secs(30),
                secs(60),
                secs(3600),
                secs(2 * 86_400),
                secs(31 * 86_400),
            ])),
        }
    }

    /// Takes in what came of an operation.
    pub(super) fn learn(&mut self, op: &Op, reply: &Reply) {
        let tenants = &mut self.tenants;
        let mut of = |tenant: &TenantId| tenants.iter_mut().position(|memories| memories.tenant == *tenant);
        match (op, reply) {
            (Op::Enqueue { tenant, jobs, .. }, Reply::Enqueued(answers)) => {
                let Some(which) = of(tenant) else { return };
                for (job, answer) in jobs.iter().zip(answers) {
                    if *answer == Enqueued::Stored {
                        tenants[which].know(job.id);
                    }
                }
            }
            (Op::Flow { tenant, flow, .. }, Reply::Flow(answer)) => {
                let Some(which) = of(tenant) else { return };
                if *answer == FlowStored::Stored {
                    flow.jobs().for_each(|job| tenants[which].know(job.id));
                }
                tenants[which].flows.push(flow.clone());
            }
            (Op::Lease { tenant, .. }, Reply::Leased(leased)) => {
                let Some(which) = of(tenant) else { return };
                tenants[which].tokens.extend(leased.leases.iter().map(|lease| lease.token));
            }
            (Op::Settle { tenant, settlements }, _) => {
                let Some(which) = of(tenant) else { return };
                for settle in settlements {
                    if let Settlement::Succeed { effects, .. } = &settle.settlement {
                        effects.jobs().iter().for_each(|job| tenants[which].know(job.id));
                    }
                    tenants[which].settled.push(settle.clone());
                }
            }
            (Op::Schedule { tenant, write }, Reply::Scheduled(ScheduleWritten::Done)) => {
                let Some(which) = of(tenant) else { return };
                write.jobs.iter().for_each(|job| tenants[which].know(job.id));
            }
            (Op::Trial { tenant, .. }, Reply::Trial(status)) => {
                let Some(which) = of(tenant) else { return };
                tenants[which].trial = Some(status.began);
            }
            _ => {}
        }
    }

    fn scope(&mut self) -> HoldScope {
        let queue = self.rng.random_bool(0.5).then(|| self.queue());
        HoldScope { queue, kind: self.rng.random_bool(0.5).then(|| self.kind()) }
    }

    /// Mostly with an end, as jobs would be held all the time.
    fn hold(&mut self) -> NewHold {
        let at = self.rng.random_range(0..200_000);
        let end = self.pick(&[
            HoldEnd::After(Duration::ZERO),
            HoldEnd::After(ms(400)),
            HoldEnd::After(secs(1)),
            HoldEnd::After(secs(60)),
            HoldEnd::At(Timestamp::from_millis(at)),
            HoldEnd::Lifted,
        ]);
        let note = self.rng.random_bool(0.5).then(|| format!("note {} \"ü\"", self.rng.random_range(0..10)));
        let by = self.rng.random_bool(0.5).then(|| "ana".to_owned());
        NewHold { by, end, note, ..NewHold::pause(self.scope()) }
    }

    /// Of one of few breakers; mostly as it was read, and mostly with a gate that opens.
    async fn breaker(&mut self, which: usize, model: &dyn Broker) -> BreakerWrite {
        let name = BreakerName::parse(self.pick(&BREAKERS)).expect("a valid name");
        let tenant = &self.tenants[which].tenant;
        let read = model.breakers(tenant, Some(name.clone())).await.expect("the model answers");
        let stored = read.breakers.first().map(|breaker| breaker.version);
        let expected = if self.rng.random_bool(0.9) { stored } else { self.pick(&[None, Some(1)]) };
        let times =
            [Duration::ZERO, ms(400), secs(1), secs(60)].map(|time| Shut::Until(read.now.after(time)));
        let [at_once, soon, later, last] = times;
        let shut = self.pick(&[Shut::No, at_once, soon, later, later, last, Shut::Always]);
        let most = self.pick(&[None, NonZeroU32::new(1), NonZeroU32::new(2)]);
        let probes =
            most.map(|most| Probes { most, until: read.now.after(self.pick(&[secs(1), secs(3600)])) });
        let kinds = self.some(1..3, Self::kind).into_iter().collect();
        let reason = self.pick(&[HoldReason::Breaker, HoldReason::RateLimited]);
        let gate = Barrier { kinds, reason, since: read.now, shut, probes };
        let gate = self.rng.random_bool(0.7).then_some(gate);
        let bytes = (0..self.rng.random_range(0..20)).map(|_| self.rng.random()).collect();
        let record = self.rng.random_bool(0.8).then_some(BreakerRecord { bytes, gate });
        BreakerWrite { name, expected, record }
    }

    /// Of one of few schedules; mostly as it was read.
    async fn schedule(&mut self, which: usize, model: &dyn Broker) -> ScheduleWrite {
        let name = ScheduleName::parse(self.pick(&SCHEDULES)).expect("a valid name");
        let query = ScheduleQuery::Named(name.clone());
        let read = model.schedules(&self.tenants[which].tenant, query).await.expect("the model answers");
        let stored = read.schedules.first().map(|schedule| schedule.version);
        let expected = if self.rng.random_bool(0.9) { stored } else { self.pick(&[None, Some(1)]) };
        let after = self.pick(&[None, Some(Duration::ZERO), Some(secs(1)), Some(secs(3600))]);
        let bytes = (0..self.rng.random_range(0..20)).map(|_| self.rng.random()).collect();
        let record = ScheduleRecord { bytes, due_at: after.map(|after| read.now.after(after)) };
        let record = self.rng.random_bool(0.8).then_some(record);
        let mut jobs: Vec<NewJob> =
            self.some(0..4, |random| NewJob { unique_key: None, ..random.job(which) });
        jobs.sort_by_key(|job| job.id);
        jobs.dedup_by_key(|job| job.id);
        ScheduleWrite { name, expected, record, jobs, bounds: self.queue_bounds() }
    }

    /// Of one of few trials, by one of few daemons.
    fn trial_report(&mut self, which: usize) -> TrialReport {
        let plugin = plugin(self.pick(&PLUGINS));
        let side = |random: &mut Self| {
            let runs = random.pick(&[0, 0, 1, 50, u64::MAX]);
            Record {
                runs,
                failures: random.rng.random_range(0..=runs),
                fuel: random.pick(&[0, 7, u128::MAX]),
            }
        };
        let why = "100% of its runs fail".to_owned();
        let decision = self.pick(&[None, None, Some(Decision::Promote), Some(Decision::RollBack { why })]);
        TrialReport {
            daemon: DaemonId::from_parts(Timestamp::from_millis(1), self.rng.random_range(0..3)),
            pair: Pair { plugin, old: revision(1), new: revision(self.pick(&[2, 2, 3])) },
            counted: Records { old: side(self), new: side(self) },
            ended: self.tenants[which].trial.filter(|_| self.rng.random_bool(0.2)),
            decision,
        }
    }

    fn some<T>(&mut self, n: std::ops::Range<usize>, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.rng.random_range(n)).map(|_| draw(self)).collect()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.rng).expect("there is a choice").clone()
    }

    fn keep_max_of(&mut self) -> (PluginName, KeepMax) {
        let keep_max = KeepMax { done: self.pick(&[0, 1, 3]), dead: self.pick(&[0, 2, u64::MAX]) };
        (plugin(self.pick(&PLUGINS)), keep_max)
    }

    fn fuel_quota(&mut self) -> Option<FuelQuota> {
        let bound = |random: &mut Self| random.pick(&[None, Some(Fuel(9_000_000)), Some(Fuel(100_000_000))]);
        let (per_minute, per_day) = (bound(self), bound(self));
        let on_empty = self.pick(&[OnEmpty::Hold, OnEmpty::Reject, OnEmpty::Idle]);
        self.rng.random_bool(0.3).then_some(FuelQuota { per_minute, per_day, on_empty })
    }

    fn queue(&mut self) -> QueueName {
        queue_named(self.pick(&QUEUES))
    }

    fn new_id(&mut self) -> JobId {
        // Later ones are not always the greater.
        JobId::from_parts(Timestamp::from_millis(self.rng.random_range(1..4)), self.rng.random())
    }

    fn known_job(&mut self, which: usize) -> JobId {
        let known =
            if self.rng.random_bool(0.05) { None } else { self.tenants[which].jobs.choose(&mut self.rng) };
        known.copied().unwrap_or_else(|| self.new_id())
    }

    fn edit(&mut self) -> JobEdit {
        let payload = (0..self.rng.random_range(0..20)).map(|_| self.rng.random()).collect();
        let at = Due::At(self.time());
        let after = [Duration::ZERO, ms(1), secs(1), secs(60), secs(3600)].map(Due::After);
        JobEdit {
            payload: self.rng.random_bool(0.4).then_some(payload),
            priority: self.rng.random_bool(0.5).then(|| Priority(self.pick(&[100, 100, 0, 255, 101]))),
            due: self.rng.random_bool(0.5).then(|| self.pick(&[&after[..], &[at]].concat())),
        }
    }

    /// Mostly one of one of these states.
    async fn job_for(&mut self, states: &[State], which: usize, model: &dyn Broker) -> JobId {
        let state = self.pick(states);
        let page =
            model.jobs(&self.tenants[which].tenant, Query::of(state, 10)).await.expect("the model answers");
        let fit = if self.rng.random_bool(0.4) { None } else { page.jobs.choose(&mut self.rng) };
        fit.map(|record| record.id).unwrap_or_else(|| self.known_job(which))
    }

    fn lane(&mut self) -> LaneAsk {
        let limit = self
            .rng
            .random_bool(0.5)
            .then(|| FleetLimit { name: plugin(self.pick(&PLUGINS)), most: self.rng.random_range(0..3) });
        let rate = self.rng.random_bool(0.4).then(|| self.rate());
        LaneAsk { limit, rate, ..LaneAsk::new(self.queue(), self.kind(), self.rng.random_range(0..4)) }
    }

    fn rate(&mut self) -> RateLimit {
        let of = match self.rng.random_bool(0.5) {
            true => RateOf::Plugin(plugin(self.pick(&PLUGINS))),
            false => RateOf::Named(RateName::parse("stripe").expect("a valid name")),
        };
        let one = |n| NonZeroU32::new(n).expect("it isn't 0");
        let (count, period) =
            self.pick(&[(1, 1_000_000), (3, 1_000_000), (700, 60_000_000), (2, 3_600_000_000)]);
        let burst = self.pick(&[None, Some(one(1)), Some(one(5))]);
        RateLimit { of, rate: Rate::new(one(count), period, burst).expect("a valid rate") }
    }

    fn kind(&mut self) -> Kind {
        Kind::parse(self.pick(&KINDS)).expect("a valid kind")
    }

    fn queue_bounds(&mut self) -> QueueBounds {
        let few = self.rng.random_bool(0.2);
        let jobs = if few { self.rng.random_range(0..12) } else { u64::MAX };
        let payload = self.pick(&[Bytes(12), Bytes(1000), Bytes(1000)]);
        let bytes = if few && self.sizes == Sizes::Same { self.pick(&[40, 80, 10_000]) } else { u64::MAX };
        QueueBounds { jobs, bytes: Bytes(bytes), payload }
    }

    /// One of two daemons, that asks anew or once more, or has forgotten its numbers; or nobody.
    fn asker(&mut self, which: usize) -> Option<Asker> {
        let daemon = self.rng.random_range(0..3u8);
        if daemon == 2 {
            return None;
        }
        let number = &mut self.tenants[which].asked[usize::from(daemon)];
        let repeats = self.rng.random_bool(0.3);
        *number += u64::from(!repeats);
        let stale = self.rng.random_bool(0.1);
        let daemon = DaemonId::from_parts(Timestamp::from_millis(1), daemon.into());
        Some(Asker { daemon, number: *number - u64::from(stale), repeats })
    }

    fn job(&mut self, which: usize) -> NewJob {
        let id = if self.rng.random_bool(0.1) { self.known_job(which) } else { self.new_id() };
        let unique_key = if self.rng.random_bool(0.6) { unique(self.pick(&UNIQUE_KEYS)) } else { None };
        // What is replaced is of the same kind mostly.
        let kind = if unique_key.is_some() && self.rng.random_bool(0.7) {
            0
        } else {
            self.rng.random_range(0..KINDS.len())
        };
        NewJob {
            queue: self.queue(),
            kind: Kind::parse(KINDS[kind]).expect("a valid kind"),
            payload: (0..self.rng.random_range(0..20)).map(|_| self.rng.random()).collect(),
            delay: self.pick(&[Duration::ZERO, Duration::ZERO, ms(1), secs(1), secs(60), secs(3600)]),
            priority: Priority(self.pick(&[100, 100, 100, 0, 255, 101])),
            unique_key,
            pinned: self.rng.random_bool(0.2).then(|| revision(4)),
            options: self.options(),
            ..new_job(id)
        }
    }

    fn group_rules(&mut self) -> BTreeMap<QueueName, QueueRule> {
        let rules = [1, 2, 3].map(|n| GroupRule::Concurrency(NonZeroU16::new(n).expect("it isn't 0")));
        let strict = OnDead::ALL.map(GroupRule::Strict);
        let all = [&rules[..], &strict[..]].concat();
        let rule = |random: &mut Self| match random.rng.random_bool(0.4) {
            true => QueueRule::Fair(random.fair_rule()),
            false => random.pick(&all).into(),
        };
        self.some(0..3, |random| (random.queue(), rule(random))).into_iter().collect()
    }

    fn limit_change(&mut self) -> GroupLimitChange {
        match self.rng.random_range(0..6) {
            0 => GroupLimitChange::Unset,
            1 | 2 => GroupLimitChange::Switch { is_on: self.rng.random_bool(0.5) },
            _ => GroupLimitChange::Set(NewGroupLimit {
                concurrency: NonZeroU16::new(self.pick(&[1, 2, 4, 7])).expect("it isn't 0"),
                by: self.rng.random_bool(0.5).then(|| "ana".to_owned()),
                end: self.pick(&[HoldEnd::Lifted, HoldEnd::After(secs(1)), HoldEnd::After(secs(3600))]),
                note: self.rng.random_bool(0.5).then(|| "their sale".to_owned()),
            }),
        }
    }

    fn fair_rule(&mut self) -> FairRule {
        let weights = [1, 2, 3, 100].map(|weight| Weight::new(weight).expect("it is in range"));
        let weights = self.some(0..3, |random| (group(random.pick(&GROUPS)), random.pick(&weights)));
        FairRule::new(weights.into_iter().collect()).expect("they are few")
    }

    /// One of few jobs with many edges, or one that was sent before.
    fn flow(&mut self, which: usize) -> Flow {
        if self.rng.random_bool(0.1)
            && let Some(again) = self.tenants[which].flows.choose(&mut self.rng)
        {
            return again.clone();
        }
        let mut jobs: Vec<FlowJob> = Vec::new();
        for n in 0..self.rng.random_range(1..6usize) {
            let mut after = Vec::new();
            for parent in &jobs {
                if self.rng.random_bool(0.5) {
                    after.push(After { job: parent.name.clone(), on_failure: self.pick(&OnFailure::ALL) });
                }
            }
            let mut job = NewJob { options: self.options(), ..self.job(which) };
            // Two of a flow can't have the same.
            if jobs.iter().any(|other| other.job.unique_key == job.unique_key) {
                job.unique_key = None;
            }
            if jobs.iter().any(|other| other.job.id == job.id) {
                job.id = self.new_id();
            }
            let name = FlowJobName::parse(&format!("j{n}")).expect("a valid name");
            jobs.push(FlowJob { name, job, after, takes_outputs: self.rng.random_bool(0.2) });
        }
        Flow::new(jobs).expect("each comes after earlier ones")
    }

    fn options(&mut self) -> JobOptions {
        let unique = if self.rng.random_bool(0.5) { self.unique_rule() } else { UniqueRule::default() };
        JobOptions {
            group: self.rng.random_bool(0.4).then(|| group(self.pick(&GROUPS))),
            start_within: self
                .rng
                .random_bool(0.2)
                .then(|| self.pick(&[ms(1), secs(1), secs(60), secs(3600)])),
            labels: if self.rng.random_bool(0.1) {
                labels(&["env=prod", "customer="])
            } else {
                Labels::default()
            },
            content_type: None,
            trace: self.rng.random_bool(0.1).then(trace),
            deadline: self.rng.random_bool(0.1).then(|| self.pick(&[secs(1), secs(3600)])),
            flow: None,
            unique,
        }
    }

    fn unique_rule(&mut self) -> UniqueRule {
        let debounce = Debounce { delay: self.pick(&[ms(1), secs(1), secs(30)]), longest: secs(60) };
        let lasts = self.pick(&[None, Some(ms(1)), Some(secs(1)), Some(secs(60)), Some(secs(3600))]);
        let on_clash = self.pick(&[OnClash::Keep, OnClash::Replace, OnClash::Replace]);
        match self.rng.random_range(0..5) {
            0 => UniqueRule::trailing(debounce),
            1 => UniqueRule::leading(debounce),
            2 => UniqueRule {
                until: UniqueUntil::Over,
                lasts: lasts.or_else(|| Some(secs(5))),
                on_clash: OnClash::Keep,
            },
            3 => UniqueRule { until: UniqueUntil::Started, lasts, on_clash },
            _ => UniqueRule { until: UniqueUntil::Settled, lasts, on_clash },
        }
    }

    /// Mostly one that is held now, as the latest are; some that are stale, or were never handed out.
    fn token(&mut self, which: usize) -> LeaseToken {
        let tokens = &self.tenants[which].tokens;
        let latest = &tokens[tokens.len().saturating_sub(8)..];
        let from = if self.rng.random_bool(0.75) { latest } else { tokens };
        let token = from.choose(&mut self.rng).copied();
        match token {
            Some(token) if self.rng.random_bool(0.95) => token,
            Some(token) => LeaseToken { lease: LeaseNo(token.lease.0 + 1), ..token },
            None => LeaseToken { job: self.known_job(which), lease: LeaseNo(1) },
        }
    }

    fn renew(&mut self, which: usize) -> Renew {
        let token = self.token(which);
        Renew { token, progress: self.progress(), log: self.log() }
    }

    fn progress(&mut self) -> Option<sandhog_core::job::Progress> {
        let mut progress =
            if self.rng.random_bool(0.5) { progress(self.rng.random_range(0..100)) } else { None };
        if let Some(progress) = &mut progress
            && self.rng.random_bool(0.3)
        {
            (progress.total, progress.message) = (None, None);
        }
        progress
    }

    fn log(&mut self) -> Vec<sandhog_core::job::LogLine> {
        // A long one makes the oldest go.
        let n = if self.rng.random_bool(0.02) { 700 } else { self.rng.random_range(0..4) };
        let from = self.rng.random_range(0..1000);
        lines(from..from + n)
    }

    fn last_times(&mut self) -> LastTimes {
        LastTimes {
            leased_until: self.rng.random_bool(0.2).then(|| self.time()),
            finished_until: self.rng.random_bool(0.2).then(|| self.time()),
        }
    }

    fn time(&mut self) -> Timestamp {
        let days = self.rng.random_range(0..200);
        ManualClock::default().now().after(ms(self.rng.random_range(0..200_000)) + secs(days * 86_400))
    }

    fn query(&mut self) -> Query {
        let state = self.pick(&State::ALL);
        let filter = Filter {
            // Places in a fair queue say nothing about other queues.
            queue: (state == State::Ready || self.rng.random_bool(0.3)).then(|| self.queue()),
            reason: self.rng.random_bool(0.2).then(|| self.pick(Reason::ALL)),
            group: self.rng.random_bool(0.2).then(|| group(self.pick(&GROUPS))),
            labels: if self.rng.random_bool(0.2) { labels(&["env=prod"]) } else { Labels::default() },
            // Sealed ones are looked for on the page that the store has found.
            message: if self.sizes == Sizes::Same { self.pick(&["", "", "", "\"ü", "7"]) } else { "" }
                .to_owned(),
            last: self.last_times(),
            ..Filter::default()
        };
        let (limit, payloads) = (self.rng.random_range(0..8), self.rng.random_bool(0.5));
        Query { filter, payloads, ..Query::of(state, limit) }
    }

    async fn settle(&mut self, which: usize, daemon: DaemonId, model: &dyn Broker) -> Settle {
        if self.rng.random_bool(0.15)
            && let Some(again) = self.tenants[which].settled.choose(&mut self.rng)
        {
            return again.clone();
        }
        let name = self.pick(&PLUGINS);
        let mut what_ran = ran(name, usage(self.rng.random_range(0..9)));
        what_ran.daemon = daemon;
        what_ran.revision = revision(self.rng.random_range(0..3));
        let few_bytes = if self.sizes == Sizes::Same { 12 } else { STATE_MAX.bytes.0 };
        what_ran.state_max = self.pick(&[STATE_MAX, STATE_MAX, quota(few_bytes, 9), quota(9_999, 2)]);
        what_ran.queue_max = QueueBounds { payload: QueueBounds::PAYLOAD_MAX, ..self.queue_bounds() };
        what_ran.traffic = traffic(self.rng.random_range(0..9));
        let after = self.pick(&[Duration::ZERO, ms(1), secs(5), secs(600)]);
        let reason = if self.rng.random_bool(0.1) { Reason::NoPlugin } else { self.pick(Reason::ALL) };
        let long = if self.rng.random_bool(0.1) { "ä".repeat(150) } else { String::new() };
        let message = format!("message {} \"ü\"{long}", self.rng.random_range(0..10));
        let settlement = match self.rng.random_range(0..10) {
            0..5 => {
                let effects = self.effects(which, name, model).await;
                Settlement::Succeed { output: self.pick(&VALUES).into(), effects }
            }
            5..7 => Settlement::Retry { after, reason, message },
            7 => Settlement::Release { after, reason },
            8 => Settlement::Bury { reason, message },
            _ => Settlement::Cancel,
        };
        let token = self.token(which);
        Settle {
            ran: self.rng.random_bool(0.9).then_some(what_ran),
            progress: self.progress(),
            log: self.log(),
            keep: Keep {
                done: self.pick(&[ms(1), secs(10), secs(86_400)]),
                dead: self.pick(&[ms(1), secs(60), secs(30 * 86_400)]),
                is_counted: self.rng.random_bool(0.3),
            },
            ..Settle::new(token, settlement)
        }
    }

    async fn effects(&mut self, which: usize, name: &str, model: &dyn Broker) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..self.rng.random_range(0..4) {
            let key = key(self.pick(&KEYS));
            let value = self.pick(&VALUES);
            let ttl = self.pick(&[None, None, Some(Duration::ZERO), Some(secs(1)), Some(secs(600))]);
            match self.rng.random_range(0..10) {
                0..3 => effects.set(key, value.into(), ttl),
                3 => effects.delete(key),
                4 => effects.replace(key, value.into()),
                5..8 => {
                    let by = self.pick(&[1, -1, 0, 1000, i64::MAX, i64::MIN]);
                    // What the run itself would have been refused isn't sent.
                    let _refused = effects.increment(key, by);
                }
                _ => {
                    let tenant = &self.tenants[which].tenant;
                    let stored = model.state(tenant, &plugin(name), &key).await.expect("the model answers");
                    let wrong = self.rng.random_bool(0.2).then(|| Some(self.pick(&VALUES).into()));
                    effects.swap(key, wrong.unwrap_or(stored), value.into(), ttl);
                }
            }
        }
        for _ in 0..self.rng.random_range(0..3) {
            effects.enqueue(self.job(which));
        }
        effects
    }
}

/// The states of jobs on which an action is mostly tried.
fn fit_for(action: JobAction) -> &'static [State] {
    match action {
        JobAction::Cancel => &[State::Leased, State::Leased, State::Leased, State::Dead, State::Blocked],
        JobAction::Redrive => &[State::Dead],
        JobAction::RunNow => &[State::Scheduled, State::Scheduled, State::Blocked, State::Dead],
        JobAction::Remove => &[State::Succeeded, State::Succeeded, State::Dead],
    }
}

fn quota(bytes: u64, keys: u64) -> StateQuota {
    StateQuota { bytes: Bytes(bytes), keys }
}

impl Memories {
    fn know(&mut self, job: JobId) {
        if !self.jobs.contains(&job) {
            self.jobs.push(job);
        }
    }
}
