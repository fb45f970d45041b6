//! The reference model behind a wrapper that checks each answer against the record before and after.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sandhog_broker::memory::Memory;
use sandhog_broker::{
    Broker, Command, DaemonReport, Enqueued, Fleet, FleetLimit, FlowStored, JobAction, LeaseAsk, Leased,
    Look, Outcome, Query, Renew, Renewal, Result, ScheduleWrite, ScheduleWritten, Seen, Settle, Sweep, Wakes,
    WallClock,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::flow::OnFailure;
use sandhog_core::group::{GroupRule, QueueRule};
use sandhog_core::id::{DaemonId, GroupKey, JobId, Kind, LeaseNo, QueueName, ScheduleName, TenantId};
use sandhog_core::job::{JobRecord, Lease, NewJob, State};
use sandhog_core::quota::{OnEmpty, QueueBounds, minute_of};
use sandhog_core::rate::RateOf;
use sandhog_core::reason::Reason;
use sandhog_core::schedule::{Overlap, Record};
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::breakers::Gates;
use crate::keys::{self, Keys};
use crate::schedules::Fired;

/// A lease that was handed out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handed {
    /// Whose job.
    pub(crate) tenant: String,
    /// Of which kind.
    pub(crate) kind: Kind,
    /// When.
    pub(crate) at: Timestamp,
    /// Since when it had been waiting.
    pub(crate) ready_at: Timestamp,
}

/// How often rules were met that need not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Jobs that weren't stored, as another held their key.
    pub(crate) clashes: usize,
    /// Jobs that schedules have enqueued.
    pub(crate) fired: usize,
    /// Breakers that have opened.
    pub(crate) shut: usize,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.clashes += other.clashes;
        self.fired += other.fired;
        self.shut += other.shut;
    }
}

/// The watched model.
pub(crate) struct Watched {
    inner: Memory,
    clock: Arc<dyn WallClock>,
    started: Timestamp,
    seen: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    stored: HashMap<TenantId, u64>,
    /// When jobs could run first that were stored to wait for their time.
    due: HashMap<JobId, Timestamp>,
    finals: HashMap<JobId, JobRecord>,
    handed: Vec<Handed>,
    /// The leases under way, whether or not their time is over.
    held: HashMap<JobId, Held>,
    /// The rules for groups, by queue.
    rules: HashMap<TenantId, BTreeMap<QueueName, QueueRule>>,
    groups: HashMap<Group, GroupNoted>,
    /// When jobs were leased to which a rate limit applies.
    rated: BTreeMap<(TenantId, RateOf), Vec<Timestamp>>,
    /// What each job of a flow comes after, with the rule of the edge.
    parents: HashMap<JobId, Vec<(JobId, OnFailure)>>,
    keys: Keys,
    fired: Fired,
    gates: Gates,
    /// How often leases of a job were taken back since an attempt of it last ended.
    robbed: HashMap<JobId, u32>,
    /// The latest minute in which runs of a tenant were settled, and what they have spent in it.
    spent: HashMap<TenantId, (u64, u64)>,
    calls: usize,
    settle_calls: usize,
    /// Calls of any kind.
    asked: usize,
}

/// A group of jobs of a queue.
type Group = (TenantId, QueueName, GroupKey);

/// What is known of a group.
#[derive(Default)]
struct GroupNoted {
    /// Its jobs that didn't wait for their time, in the order in which they were stored.
    stored: Vec<JobId>,
    /// How many of those were there before each of its jobs.
    ahead: HashMap<JobId, usize>,
    /// Its jobs that were leased.
    begun: HashSet<JobId>,
}

/// A lease under way.
struct Held {
    tenant: TenantId,
    lease: LeaseNo,
    until: Timestamp,
    /// What it counts against.
    limit: Option<FleetLimit>,
    group: Option<Group>,
}

impl Noted {
    /// Takes in a job that is stored now.
    fn stores(&mut self, tenant: &TenantId, job: &NewJob) {
        let Some(group) = &job.options.group else { return };
        let group = self.groups.entry((tenant.clone(), job.queue.clone(), group.clone())).or_default();
        group.ahead.insert(job.id, group.stored.len());
        if job.delay.is_zero() {
            group.stored.push(job.id);
        }
    }

    fn rule(&self, (tenant, queue, _): &Group) -> Option<GroupRule> {
        match self.rules.get(tenant)?.get(queue)? {
            QueueRule::Turns(rule) => Some(*rule),
            QueueRule::Fair(_) => None,
        }
    }

    fn spends(&mut self, tenant: &TenantId, fuel: u64, now: Timestamp) {
        let spent = self.spent.entry(tenant.clone()).or_default();
        if spent.0 != minute_of(now) {
            *spent = (minute_of(now), 0);
        }
        spent.1 += fuel;
    }

    /// What was spent in this minute.
    fn spent(&self, tenant: &TenantId, now: Timestamp) -> u64 {
        self.spent.get(tenant).filter(|spent| spent.0 == minute_of(now)).map_or(0, |spent| spent.1)
    }
}

impl Watched {
    pub(crate) fn new(clock: Arc<dyn WallClock>) -> Self {
        let started = clock.now();
        Self { inner: Memory::new(Arc::clone(&clock)), clock, started, seen: Mutex::default() }
    }

    /// The leases that were handed out, and in how many calls.
    pub(crate) fn handed(&self) -> (Vec<Handed>, usize) {
        let seen = self.seen();
        (seen.handed.clone(), seen.calls)
    }

    /// How many jobs of a tenant weren't stored, as another held their key.
    pub(crate) fn refused(&self, tenant: &TenantId) -> u64 {
        self.seen().keys.refused(tenant)
    }

    /// How many jobs a schedule has enqueued, since it was there for the last time.
    pub(crate) fn fired(&self, tenant: &TenantId, schedule: &ScheduleName) -> usize {
        self.seen().fired.count(tenant, schedule)
    }

    /// How often the rules of keys, schedules and breakers were met.
    pub(crate) fn met(&self) -> Met {
        let seen = self.seen();
        Met { clashes: seen.keys.clashes, fired: seen.fired.all(), shut: seen.gates.shut }
    }

    /// How many calls have come that settled.
    pub(crate) fn settle_calls(&self) -> usize {
        self.seen().settle_calls
    }

    /// How many calls have come, of any kind.
    pub(crate) fn asked(&self) -> usize {
        self.seen().asked
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.seen.lock().expect("one thread")
    }

    async fn record(&self, tenant: &TenantId, job: JobId) -> JobRecord {
        self.inner.job(tenant, job).await.expect("the model answers").expect("a stored job is there")
    }

    /// Invariants 1 and 3, for one tenant.
    pub(crate) async fn check_all(&self, tenant: &TenantId) {
        let counts = self.inner.counts(tenant).await.expect("the model answers");
        let stored = self.seen().stored.get(tenant).copied().unwrap_or_default();
        assert_eq!(counts.total(), stored, "{tenant}: every stored job is in one state: {counts:?}");
        let finals: Vec<JobRecord> =
            self.seen().finals.values().filter(|job| job.tenant == *tenant).cloned().collect();
        for job in finals {
            assert_eq!(self.record(tenant, job.id).await, job, "what is final stays as it is");
        }
    }

    /// Notes what was handed out; yields what of it is new, and not repeated.
    fn note_leases<'a>(&self, ask: &LeaseAsk<'_>, leases: &'a [Lease]) -> Vec<&'a Lease> {
        let mut seen = self.seen();
        let mut fresh = Vec::new();
        for lease in leases {
            let lane = |lane: &&sandhog_broker::LaneAsk| {
                lane.queue == lease.job.queue && lane.kind == lease.job.kind
            };
            let limit = ask.lanes.iter().find(lane).and_then(|lane| lane.limit.clone());
            let until = self.clock.now().after(ask.ttl);
            let (tenant, job) = (ask.tenant.clone(), &lease.job);
            let group = job.options.group.clone().map(|group| (tenant.clone(), job.queue.clone(), group));
            let held = Held { tenant, lease: lease.token.lease, until, limit, group };
            match seen.held.get_mut(&lease.token.job) {
                Some(before) => {
                    assert_eq!(before.lease, held.lease, "a job was leased while somebody held it");
                    before.until = until;
                }
                None => {
                    seen.held.insert(lease.token.job, held);
                    fresh.push(lease);
                }
            }
        }
        fresh
    }

    /// Invariant 8, and the half of 10 that is about leases.
    fn check_limits(&self, ask: &LeaseAsk<'_>, fresh: &[&Lease]) {
        let seen = self.seen();
        for limit in ask.lanes.iter().filter_map(|lane| lane.limit.as_ref()) {
            let of_limit = |held: &&Held| held.tenant == *ask.tenant && held.limit.as_ref() == Some(limit);
            let count = seen.held.values().filter(of_limit).count();
            assert!(count <= limit.most as usize, "{count} leases under {limit:?} of {}", ask.tenant);
        }
        let holds_at =
            ask.fuel.filter(|fuel| fuel.on_empty == OnEmpty::Hold).and_then(|fuel| fuel.per_minute);
        let spent = seen.spent(ask.tenant, self.clock.now());
        let is_over = holds_at.is_some_and(|quota| spent >= quota.0);
        assert!(fresh.is_empty() || !is_over, "{} leased at {spent} of {holds_at:?} spent", ask.tenant);
    }

    /// Invariant 13.
    async fn check_groups(&self, tenant: &TenantId, fresh: &[&Lease]) {
        let mut before = Vec::new();
        {
            let mut seen = self.seen();
            for lease in fresh {
                let job = lease.token.job;
                let Some(group) = seen.held.get(&job).and_then(|held| held.group.clone()) else { continue };
                let Some(rule) = seen.rule(&group) else { continue };
                let of_group = |held: &&Held| held.group.as_ref() == Some(&group);
                let leased = seen.held.values().filter(of_group).count();
                assert!(leased <= rule.turns().into(), "{leased} leases of {group:?} under {rule:?}");
                let noted = seen.groups.entry(group).or_default();
                if let GroupRule::Strict(_) = rule {
                    let ahead = noted.ahead.get(&job).copied().expect("it was stored");
                    before
                        .extend(noted.stored[..ahead].iter().chain(&noted.begun).map(|other| (*other, job)));
                }
                noted.begun.insert(job);
            }
        }
        for (other, job) in before.into_iter().filter(|(other, job)| other != job) {
            let other = self.record(tenant, other).await;
            assert!(other.state.is_final(), "{job} was leased before {other:?} has ended");
        }
    }

    /// Invariant 14.
    fn check_rates(&self, ask: &LeaseAsk<'_>, fresh: &[&Lease]) {
        let now = self.clock.now();
        for lane in ask.lanes {
            let Some(limit) = &lane.rate else { continue };
            let of_lane =
                fresh.iter().filter(|lease| (&lease.job.queue, &lease.job.kind) == (&lane.queue, &lane.kind));
            let mut seen = self.seen();
            let leased = seen.rated.entry((ask.tenant.clone(), limit.of.clone())).or_default();
            leased.extend(of_lane.map(|_| now));
            for (nth, first) in leased.iter().enumerate() {
                let micros = u64::try_from(now.since(*first).as_micros()).expect("a short time");
                let most = u64::from(limit.rate.burst().get()) + micros / limit.rate.interval();
                let within = (leased.len() - nth) as u64;
                assert!(within <= most, "{within} leases within {micros} us under {limit:?}");
            }
        }
    }

    /// Invariant 15.
    async fn check_flows(&self, tenant: &TenantId, fresh: &[&Lease]) {
        for lease in fresh {
            let parents = self.seen().parents.get(&lease.token.job).cloned().unwrap_or_default();
            for (parent, on_failure) in parents {
                let parent = self.record(tenant, parent).await;
                let is_right = parent.state == State::Succeeded
                    || (parent.state.is_final() && on_failure == OnFailure::Ignore);
                assert!(is_right, "{} was leased, which comes after {parent:?}", lease.token.job);
            }
        }
    }

    /// Invariant 9. Those of another kind may be in a lane that has no room, and suspects have an order of their own.
    async fn check_order(&self, tenant: &TenantId, fresh: &[&Lease]) {
        let mut leased = Vec::new();
        for lease in fresh {
            leased.push(self.record(tenant, lease.token.job).await);
        }
        let Some(lowest) = leased.iter().map(|job| job.priority).min() else { return };
        let left = self.inner.jobs(tenant, Query::of(State::Ready, Query::LIMIT_MAX)).await;
        // In their order: those of the highest priority are first.
        let left = left.expect("the model answers").jobs;
        for job in left.iter().take_while(|job| job.priority > lowest).filter(|job| job.expiries == 0) {
            let passed = leased.iter().find(|other| {
                (&other.queue, &other.kind, other.expiries) == (&job.queue, &job.kind, 0)
                    && other.priority < job.priority
            });
            assert!(passed.is_none(), "{passed:?} was leased before {job:?}");
        }
    }

    /// Invariant 16, for one job and the answer to it.
    async fn check_key(&self, tenant: &TenantId, job: &NewJob, answer: Enqueued) {
        let Some(key) = &job.unique_key else { return };
        let holder = self.seen().keys.holder(tenant, key);
        let held_by = match holder {
            Some((holder, until)) if holder != job.id => {
                keys::holds(&self.record(tenant, holder).await, until).then_some(holder)
            }
            _ => None,
        };
        match answer {
            Enqueued::Stored => {
                assert_eq!(held_by, None, "{} was stored beside who holds its key", job.id);
                self.seen().keys.take(tenant, key, job.id, job.options.unique.until);
            }
            Enqueued::Duplicate(other) => {
                assert_eq!(held_by, Some(other), "{} wasn't stored", job.id);
                self.seen().keys.refuse(tenant, job.id);
            }
            other => panic!("{} has no bounds, and replaces nothing: {other:?}", job.id),
        }
    }

    /// Invariant 17, for what a schedule has just enqueued.
    async fn check_schedule(&self, tenant: &TenantId, write: &ScheduleWrite, known: &HashSet<JobId>) {
        let Some(record) = &write.record else { return self.seen().fired.remove(tenant, &write.name) };
        let schedule = Record::from_bytes(&record.bytes).expect("its own daemon wrote it").schedule;
        for job in &write.jobs {
            assert!(!known.contains(&job.id), "{} of {} was there before", job.id, schedule.name);
            let times = (self.started, self.clock.now());
            let before = self.seen().fired.fire(tenant, &schedule, times, job.id);
            *self.seen().stored.entry(tenant.clone()).or_default() += 1;
            for other in before.into_iter().filter(|_| schedule.overlap != Overlap::Allow) {
                let other = self.record(tenant, other).await;
                let is_asked = other.state == State::Leased && schedule.overlap == Overlap::CancelOther;
                assert!(other.state.is_final() || is_asked, "{} runs beside {other:?}", job.id);
            }
        }
    }

    /// Takes in which leases a sweep has taken back: only those whose time was over.
    async fn note_swept(&self, tenant: &TenantId) {
        let now = self.clock.now();
        let of_tenant: Vec<(JobId, LeaseNo, Timestamp)> = self
            .seen()
            .held
            .iter()
            .filter(|(_, held)| held.tenant == *tenant)
            .map(|(job, held)| (*job, held.lease, held.until))
            .collect();
        for (job, lease, until) in of_tenant {
            let record = self.record(tenant, job).await;
            if (record.state, record.lease) != (State::Leased, lease) {
                assert!(until <= now, "a lease was taken back before its time: {record:?}");
                let mut seen = self.seen();
                seen.held.remove(&job);
                seen.gates.end(job);
                *seen.robbed.entry(job).or_default() += 1;
            }
        }
    }

    /// Invariant 7, as far as it is about expiries.
    async fn check_buried(&self, tenant: &TenantId, sweep: &Sweep, buried: &[JobId]) {
        for job in buried {
            let record = self.record(tenant, *job).await;
            assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::LeaseExpired)));
            let robbed = self.seen().robbed.get(job).copied().unwrap_or_default();
            assert!(robbed > sweep.expiries_max, "buried after {robbed} lost leases: {record:?}");
            assert_eq!(robbed, record.expiries);
        }
    }

    async fn note_final(&self, tenant: &TenantId, job: JobId) {
        let record = self.record(tenant, job).await;
        if record.state.is_final() {
            self.seen().finals.insert(job, record);
        }
    }
}

#[async_trait]
impl Broker for Watched {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        self.seen().asked += 1;
        let mut answers = Vec::new();
        for job in jobs {
            self.seen().due.entry(job.id).or_insert_with(|| self.clock.now().after(job.delay));
            let is_new = self.inner.job(tenant, job.id).await?.is_none();
            let answer = self.inner.enqueue_within(tenant, std::slice::from_ref(job), bounds).await?[0];
            if is_new {
                self.check_key(tenant, job, answer).await;
                if answer == Enqueued::Stored {
                    let mut seen = self.seen();
                    *seen.stored.entry(tenant.clone()).or_default() += 1;
                    seen.stores(tenant, job);
                }
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        self.seen().asked += 1;
        let leased = self.inner.lease(ask).await?;
        self.seen().calls += usize::from(!leased.leases.is_empty());
        let fresh = self.note_leases(&ask, &leased.leases);
        self.check_limits(&ask, &fresh);
        self.check_order(ask.tenant, &fresh).await;
        self.check_groups(ask.tenant, &fresh).await;
        self.check_rates(&ask, &fresh);
        self.check_flows(ask.tenant, &fresh).await;
        for lease in &fresh {
            let now = self.clock.now();
            self.seen().gates.lease(ask.tenant, lease.token.job, &lease.job.kind, now);
        }
        for lease in &leased.leases {
            let record = self.record(ask.tenant, lease.token.job).await;
            assert_eq!((record.state, record.lease), (State::Leased, lease.token.lease));
            let due = self.seen().due.get(&lease.token.job).copied();
            let handed = Handed {
                tenant: ask.tenant.to_string(),
                kind: record.kind,
                at: self.clock.now(),
                ready_at: record.due_at.or(due).unwrap_or(record.enqueued_at),
            };
            self.seen().handed.push(handed);
        }
        Ok(leased)
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        self.seen().asked += 1;
        self.seen().settle_calls += 1;
        let mut answers = Vec::new();
        for renew in leases {
            let before = self.record(tenant, renew.token.job).await;
            let answer = self.inner.renew(tenant, ttl, std::slice::from_ref(renew)).await?;
            let after = self.record(tenant, renew.token.job).await;
            let holds = before.state == State::Leased && before.lease == renew.token.lease;
            assert_eq!(answer[0] != Renewal::Lost, holds, "only the holder's token renews");
            assert!(holds || before == after, "a stale token changed the job");
            if let Some(held) = self.seen().held.get_mut(&renew.token.job).filter(|_| holds) {
                held.until = self.clock.now().after(ttl);
            }
            answers.extend(answer);
        }
        Ok(answers)
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        self.seen().asked += 1;
        self.seen().settle_calls += 1;
        let mut answers = Vec::new();
        for settle in settlements {
            let job = settle.token.job;
            let before = self.record(tenant, job).await;
            let answer = self.inner.settle(tenant, std::slice::from_ref(settle)).await?;
            let after = self.record(tenant, job).await;
            let holds = before.state == State::Leased && before.lease == settle.token.lease;
            assert!(holds || before == after, "a stale token changed the job");
            assert!(!holds || answer[0] != SettleReply::Lost, "the holder's token settles");
            if let (true, SettleReply::Applied, Settlement::Succeed { effects, .. }) =
                (holds, &answer[0], &settle.settlement)
            {
                let mut seen = self.seen();
                *seen.stored.entry(tenant.clone()).or_default() += effects.jobs().len() as u64;
                effects.jobs().iter().for_each(|job| seen.stores(tenant, job));
            }
            if holds && answer[0] == SettleReply::Applied {
                let mut seen = self.seen();
                seen.held.remove(&job);
                seen.gates.end(job);
                if matches!(settle.settlement, Settlement::Retry { .. }) {
                    seen.robbed.remove(&job);
                }
                let fuel = settle.ran.as_ref().map_or(0, |ran| ran.usage.fuel.0);
                seen.spends(tenant, fuel, self.clock.now());
            }
            self.note_final(tenant, job).await;
            answers.extend(answer);
        }
        Ok(answers)
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        self.seen().asked += 1;
        if let Command::Jobs { action: JobAction::Redrive, ids, .. } = &command {
            ids.iter().for_each(|job| drop(self.seen().finals.remove(job)));
        }
        let is_new = match &command {
            Command::Flow { flow, .. } => self.inner.job(tenant, flow.id()).await?.is_none(),
            _ => false,
        };
        let mut known = HashSet::new();
        if let Command::Schedule(write) = &command {
            for job in &write.jobs {
                known.extend(self.inner.job(tenant, job.id).await?.map(|job| job.id));
            }
        }
        let outcome = self.inner.control(tenant, command.clone()).await?;
        match &command {
            Command::Schedule(write) if outcome == Outcome::Schedule(ScheduleWritten::Done) => {
                self.check_schedule(tenant, write, &known).await;
            }
            Command::Breaker(write) => {
                let Outcome::Breaker(written) = outcome else { panic!("the answer to another: {outcome:?}") };
                self.seen().gates.write(tenant, write, written, self.clock.now());
            }
            Command::SetGroupRules(rules) => {
                self.seen().rules.insert(tenant.clone(), rules.clone());
            }
            Command::Flow { flow, .. } if is_new => {
                assert_eq!(outcome, Outcome::Flow(FlowStored::Stored));
                let mut seen = self.seen();
                *seen.stored.entry(tenant.clone()).or_default() += flow.nodes().len() as u64;
                for node in flow.nodes() {
                    let parents = node.parents.iter().map(|parent| (parent.id, parent.on_failure));
                    seen.parents.insert(node.job.id, parents.collect());
                }
            }
            _ => {}
        }
        let changed = match (command, &outcome) {
            (Command::Jobs { ids, .. }, _) => ids,
            (Command::Sweep(sweep), Outcome::Swept(swept)) => {
                self.note_swept(tenant).await;
                self.check_buried(tenant, &sweep, &swept.buried).await;
                swept.buried.clone()
            }
            _ => Vec::new(),
        };
        for job in changed {
            self.note_final(tenant, job).await;
        }
        Ok(outcome)
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        self.seen().asked += 1;
        self.inner.look(tenant, look).await
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.seen().asked += 1;
        self.inner.watch(tenants).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.seen().asked += 1;
        self.inner.tenants().await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.seen().asked += 1;
        self.inner.report_daemon(id, report).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.inner.daemons().await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.inner.check().await
    }
}
