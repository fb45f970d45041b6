//! The broker of the model: the reference model that every broker is held against, and what can be seen of it.
//!
//! Its clock stands still. Time passes only as a lease that runs out ([`Store::run_out`]), for each job apart and at any
//! moment, and as an hour in which no lane is asked for ([`Store::pass_an_hour`]); waits are zero. So two brokers that look
//! the same through [`Seen`] go on in the same way, but for which lanes are old: the witness knows that.

use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sandhog_broker::memory::Memory;
use sandhog_broker::{
    Broker, Changed, Enqueued, FleetLimit, LANE_KEPT, LaneAsk, LeaseAsk, Leased, Query, Ran, Renew, Renewal,
    Settle, Sweep, Wake, Wakes, WallClock,
};
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{
    DaemonId, JobId, Kind, LeaseNo, LeaseToken, PluginName, QueueName, Revision, StateKey, TenantId,
};
use sandhog_core::job::{Job, JobRecord, Level, LogLine, NewJob, State};
use sandhog_core::outcome::Usage;
use sandhog_core::settle::Settlement;
use sandhog_core::time::Timestamp;

use crate::call::{Nth, Wanted};
use crate::fleet::Lane;
use crate::protection::Protection;

/// When everything begins.
const START: Timestamp = Timestamp::from_millis(1_000_000);
/// Longer than all hours that pass.
const TTL: Duration = Duration::from_secs(20 * 60 * 60);
/// Where jobs go that handlers enqueue; nobody leases them.
const CHILDREN: &str = "children";
/// Of what kind jobs are where there is one kind.
pub(crate) const KIND: &str = "model.job";
/// Where the sabotaged broker writes effects by themselves.
const ASIDE: &str = "aside";
/// The ids of children start here, and name their parent above the bits of its lease.
const CHILD: u128 = 1 << 64;
const PARENT_BITS: u32 = 32;
/// The ids of jobs that only a sabotaged broker makes.
const STRAY: u128 = 1 << 72;

struct StandingClock(Timestamp);

impl WallClock for StandingClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// A broker, and what it looks like.
#[derive(Clone)]
pub(crate) struct Store {
    broker: Arc<Memory>,
    seen: Arc<Seen>,
    jobs: Arc<[Sent]>,
    at: Timestamp,
    /// The last step was news to whoever listens.
    has_news: bool,
}

/// How a job is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Its queue, by number.
    pub(crate) queue: usize,
    pub(crate) kind: &'static str,
}

/// The answer to a daemon that asks for a job.
pub(crate) struct Answer {
    /// `None` if there is none to be had.
    pub(crate) lease: Option<(Nth, LeaseToken, Job)>,
    pub(crate) lanes: SeenLanes,
}

/// All of a broker that decides what it does next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) jobs: Vec<Option<SeenJob>>,
    /// The number that all jobs compare and set.
    pub(crate) shared: u64,
    /// Jobs that nobody asked for.
    pub(crate) strays: usize,
    pub(crate) lanes: SeenLanes,
}

/// The lanes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct SeenLanes {
    /// How often one has come or gone.
    pub(crate) number: u64,
    /// The kinds that have one.
    pub(crate) kinds: Vec<String>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeenJob {
    pub(crate) state: State,
    pub(crate) attempts: u32,
    pub(crate) expiries: u32,
    pub(crate) faults: u32,
    pub(crate) lease: LeaseNo,
    /// How many jobs go before it in its queue, while it waits.
    pub(crate) place: usize,
    /// Its lease has run out, and nobody has taken it back yet.
    pub(crate) has_run_out: bool,
    /// Its holder would hear that it is to be cancelled.
    pub(crate) is_to_be_cancelled: bool,
    /// By which leases its log lines were written.
    pub(crate) log: Vec<u32>,
    /// How often its runs have added to its own counter.
    pub(crate) counted: u64,
    /// How many jobs its runs have enqueued.
    pub(crate) children: usize,
}

impl Store {
    pub(crate) fn empty(jobs: Vec<Sent>) -> Self {
        let broker = Memory::new(clock_at(START));
        let seen = Arc::new(Seen::of(&broker, &jobs, START));
        Self { broker: Arc::new(broker), seen, jobs: jobs.into(), at: START, has_news: false }
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(crate) fn sent(&self, nth: Nth) -> Sent {
        self.jobs[nth]
    }

    pub(crate) fn enqueue(&mut self, nth: Nth, broken: Option<Protection>) -> Enqueued {
        let is_repeated = self.seen.jobs[nth].is_some();
        let id = match broken {
            Some(Protection::IdsOfProducers) if is_repeated => JobId::from_parts(START, STRAY | nth as u128),
            _ => job_id(nth),
        };
        let Sent { queue, kind } = self.jobs[nth];
        let job = new_job(id, &queue_name(queue), kind);
        self.step(|broker| now(broker.enqueue(&tenant(), &[job]))[0])
    }

    /// Asks for a lease on a job.
    pub(crate) fn lease(&mut self, wanted: &Wanted, broken: Option<Protection>) -> Answer {
        let mut lanes: Vec<LaneAsk> = wanted.lanes.iter().map(|lane| lane_ask(wanted.queue, *lane)).collect();
        match broken {
            Some(Protection::LimitsCount) => lanes.iter_mut().for_each(|lane| lane.limit = None),
            Some(Protection::PlacesAreLeft) => {
                let leaked = self.expiries_of(&wanted.lanes);
                for limit in lanes.iter_mut().filter_map(|lane| lane.limit.as_mut()) {
                    limit.most = limit.most.saturating_sub(leaked);
                }
            }
            Some(Protection::LanesAreForAskers) => {
                let all = self.jobs.iter().map(|job| Lane { kind: job.kind, limit: None });
                let more = all.filter(|lane| self.seen.lanes.kinds.iter().any(|kind| kind == lane.kind));
                let more: Vec<Lane> =
                    more.filter(|lane| wanted.lanes.iter().all(|known| known.kind != lane.kind)).collect();
                lanes.extend(more.into_iter().map(|lane| lane_ask(wanted.queue, lane)));
            }
            _ => {}
        }
        let queues = [(queue(&queue_name(wanted.queue)), 1)];
        let Leased { mut leases, .. } = self.step(|broker| lease(broker, &queues, &lanes));
        let lease = leases.pop().map(|lease| (chance(lease.token.job) as Nth, lease.token, lease.job));
        let mut lanes = self.seen.lanes.clone();
        if broken == Some(Protection::LanesAreTold) {
            lanes.number = 0;
        }
        Answer { lease, lanes }
    }

    /// Whether there is a job for somebody who wants this.
    pub(crate) fn has_for(&self, wanted: &Wanted) -> bool {
        let queues = [(queue(&queue_name(wanted.queue)), 1)];
        let lanes: Vec<LaneAsk> = wanted.lanes.iter().map(|lane| lane_ask(wanted.queue, *lane)).collect();
        !lease(&self.broker.fork(clock_at(self.at)), &queues, &lanes).leases.is_empty()
    }

    /// How many leases of jobs in these lanes were taken back.
    fn expiries_of(&self, lanes: &[Lane]) -> u32 {
        let is_of = |nth: &Nth| lanes.iter().any(|lane| lane.kind == self.jobs[*nth].kind);
        let jobs = (0..self.jobs.len()).filter(is_of);
        jobs.filter_map(|nth| self.seen.jobs[nth].as_ref()).map(|job| job.expiries).sum()
    }

    /// Takes back what has run out, and gives up lanes that nobody needs.
    pub(crate) fn sweep(&mut self, expiries_max: u32) {
        self.step(|broker| now(broker.sweep(&tenant(), Sweep::new(expiries_max))));
    }

    /// Lets so much time pass that every lane is given up which nobody has asked for meanwhile. Leases that hold go on.
    pub(crate) fn pass_an_hour(&mut self) {
        self.at = self.at.after(LANE_KEPT);
    }

    /// Renews a lease, and brings a log line.
    pub(crate) fn renew(&mut self, nth: Nth, lease: LeaseNo, broken: Option<Protection>) -> Renewal {
        let shown = match broken {
            Some(Protection::FenceOfRenewals) => self.current(nth).unwrap_or(lease),
            _ => lease,
        };
        let renew =
            Renew { log: vec![line(lease)], ..Renew::new(LeaseToken { job: job_id(nth), lease: shown }) };
        self.step(|broker| now(broker.renew(&tenant(), TTL, &[renew]))[0])
    }

    pub(crate) fn settle(&mut self, nth: Nth, settle: &Settle, broken: Option<Protection>) -> SettleReply {
        let mut settle = settle.clone();
        let before = self.seen.jobs[nth].clone();
        let current = self.current(nth);
        self.step(|broker| match (broken, before) {
            (Some(Protection::FenceOfSettlements), _) => {
                settle.token.lease = current.unwrap_or(settle.token.lease);
                send(broker, &settle)
            }
            (Some(Protection::EffectsWithTheSettlement), _) => match write_aside(broker, &mut settle) {
                SettleReply::Applied => send(broker, &settle),
                refused => refused,
            },
            (Some(Protection::RepeatsChangeNothing), Some(job))
                if job.state == State::Succeeded && job.lease == settle.token.lease =>
            {
                write_aside(broker, &mut settle)
            }
            // Had the number not risen, this token's would be the job's, which is not leased: so it looks as if settled.
            (Some(Protection::NumbersRiseWhenTakenBack), Some(job))
                if job.was_taken_back() && job.lease.0 == settle.token.lease.0 + 1 =>
            {
                SettleReply::Applied
            }
            _ => send(broker, &settle),
        })
    }

    pub(crate) fn cancel(&mut self, nth: Nth) -> Changed {
        self.step(|broker| now(broker.cancel(&tenant(), job_id(nth))))
    }

    /// Lets time pass until the lease of a job has run out.
    pub(crate) fn run_out(&mut self, nth: Nth) {
        let Some(lease) = self.current(nth) else { return };
        let token = LeaseToken { job: job_id(nth), lease };
        let renew = Renew::new(token);
        self.step(|broker| now(broker.renew(&tenant(), Duration::ZERO, &[renew])));
    }

    /// The number that a run finds before it adds to it.
    pub(crate) fn shared(&self) -> Option<Vec<u8>> {
        now(self.broker.state(&tenant(), &plugin(), &key("shared")))
    }

    /// Whether the step since then was news to whoever listens.
    pub(crate) fn take_news(&mut self, before: &Self, broken: Option<Protection>) -> bool {
        let is_ready = |job: &Option<SeenJob>| job.as_ref().is_some_and(|job| job.state == State::Ready);
        let mut jobs = before.seen.jobs.iter().zip(&self.seen.jobs);
        let is_kept_back = broken == Some(Protection::FreePlacesAreNews)
            && !jobs.any(|(before, after)| !is_ready(before) && is_ready(after));
        std::mem::take(&mut self.has_news) && !is_kept_back
    }

    /// The lease that a job is under.
    fn current(&self, nth: Nth) -> Option<LeaseNo> {
        self.seen.jobs[nth].as_ref().filter(|job| job.state == State::Leased).map(|job| job.lease)
    }

    fn step<T>(&mut self, step: impl FnOnce(&Memory) -> T) -> T {
        let broker = self.broker.fork(clock_at(self.at));
        let mut wakes = now(broker.watch(vec![tenant()]));
        assert_eq!(told(&mut wakes), Some(Wake::All), "whoever begins to listen is to look");
        let reply = step(&broker);
        self.has_news =
            std::iter::from_fn(|| told(&mut wakes)).any(|wake| matches!(wake, Wake::Ready { .. }));
        self.seen = Arc::new(Seen::of(&broker, &self.jobs, self.at));
        self.broker = Arc::new(broker);
        reply
    }
}

impl Seen {
    fn of(broker: &Memory, jobs: &[Sent], at: Timestamp) -> Self {
        let ready = Query::of(State::Ready, Query::LIMIT_MAX);
        let ready: Vec<u128> =
            now(broker.jobs(&tenant(), ready)).jobs.iter().map(|job| chance(job.id)).collect();
        let children = |nth: Nth| ready.iter().filter(|id| parent_of(**id) == Some(nth)).count();
        let place = |nth: Nth| {
            let before = ready.iter().take_while(|id| **id != nth as u128);
            let of_queue = |id: &&u128| jobs.get(**id as Nth).is_some_and(|job| job.queue == jobs[nth].queue);
            before.filter(|id| **id < CHILD).filter(of_queue).count()
        };
        let job = |nth: Nth| {
            let record = now(broker.job(&tenant(), job_id(nth)))?;
            let place = if record.state == State::Ready { place(nth) } else { 0 };
            Some(SeenJob { children: children(nth), place, ..SeenJob::of(broker, nth, &record, at) })
        };
        let lanes = now(broker.lanes(&tenant()));
        let kinds = lanes.lanes.iter().map(|(_, kind)| kind.to_string()).collect();
        Self {
            jobs: (0..jobs.len()).map(job).collect(),
            shared: number(broker, "shared"),
            strays: ready.iter().filter(|id| **id >= STRAY).count(),
            lanes: SeenLanes { number: lanes.number, kinds },
        }
    }
}

impl SeenJob {
    /// Whether it waits because its lease was taken back. A settlement would have left a log line with its number.
    fn was_taken_back(&self) -> bool {
        self.state == State::Ready
            && self.lease.0 > 0
            && !self.log.iter().any(|n| u64::from(*n) == self.lease.0)
    }

    fn of(broker: &Memory, nth: Nth, record: &JobRecord, at: Timestamp) -> Self {
        let token = LeaseToken { job: record.id, lease: record.lease };
        // What a holder would hear, from a broker that goes on without it.
        let renew = Renew::new(token);
        let is_to_be_cancelled = record.state == State::Leased
            && now(broker.fork(clock_at(at)).renew(&tenant(), TTL, &[renew]))[0] == Renewal::CancelRequested;
        Self {
            state: record.state,
            attempts: record.attempts,
            expiries: record.expiries,
            faults: record.faults,
            lease: record.lease,
            has_run_out: record.lease_expires_at.is_some_and(|until| until <= at),
            is_to_be_cancelled,
            log: now(broker.log(&tenant(), record.id)).iter().map(|line| line.attempt).collect(),
            counted: number(broker, &format!("counted-{nth}")),
            children: 0,
            place: 0,
        }
    }
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Eq for Store {}

impl Hash for Store {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.seen.hash(hasher);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seen.fmt(f)
    }
}

/// What a run of a job under this lease wants written: it adds to a counter of its own, counts up what is shared (if
/// `read` is what it found there), and enqueues a job.
pub(crate) fn effects(nth: Nth, lease: LeaseNo, read: Option<Option<Vec<u8>>>) -> Effects {
    let mut effects = Effects::default();
    effects.increment(key(&format!("counted-{nth}")), 1).expect("it is the first");
    if let Some(stored) = read {
        let next = stored.as_deref().map_or(1, |bytes| digits(bytes) + 1);
        effects.swap(key("shared"), stored, next.to_string().into_bytes(), None);
    }
    let id = CHILD | (nth as u128) << PARENT_BITS | u128::from(lease.0);
    effects.enqueue(new_job(JobId::from_parts(START, id), CHILDREN, KIND));
    effects
}

/// A settlement as a daemon sends it, with a log line of its own.
pub(crate) fn settle_of(token: LeaseToken, settlement: Settlement) -> Settle {
    let ran = Ran::new(
        DaemonId::from_parts(Timestamp::from_millis(1), 1),
        plugin(),
        Revision::from_sha256([0; 32]),
        Usage::default(),
    );
    let log = vec![line(token.lease)];
    Settle { log, ..Settle::of_run(token, ran, settlement) }
}

fn send(broker: &Memory, settle: &Settle) -> SettleReply {
    now(broker.settle(&tenant(), std::slice::from_ref(settle))).remove(0)
}

/// Writes the effects of a settlement in a step of their own, whatever its token is worth, and leaves it none.
fn write_aside(broker: &Memory, settle: &mut Settle) -> SettleReply {
    let Settlement::Succeed { effects, .. } = &mut settle.settlement else { return SettleReply::Applied };
    let effects = std::mem::take(effects);
    if effects.is_empty() {
        return SettleReply::Applied;
    }
    let written = now(broker.counts(&tenant())).total();
    let carrier = new_job(JobId::from_parts(START, STRAY | u128::from(written)), ASIDE, KIND);
    now(broker.enqueue(&tenant(), &[carrier]));
    let carrier = lease(broker, &[(queue(ASIDE), 1)], &[]).leases.pop().expect("it is ready");
    send(broker, &settle_of(carrier.token, Settlement::Succeed { output: Vec::new(), effects }))
}

fn lease(broker: &Memory, queues: &[(QueueName, u32)], lanes: &[LaneAsk]) -> Leased {
    now(broker.lease(LeaseAsk { lanes, ..LeaseAsk::new(&tenant(), queues, TTL) }))
}

fn lane_ask(of: usize, lane: Lane) -> LaneAsk {
    let limit = lane
        .limit
        .map(|limit| FleetLimit { name: PluginName::parse(limit.plugin).expect("valid"), most: limit.most });
    LaneAsk { limit, ..LaneAsk::new(queue(&queue_name(of)), kind(lane.kind), 1) }
}

/// What a listener is told next, if there is anything.
fn told(wakes: &mut Wakes) -> Option<Wake> {
    match pin!(wakes.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(wake) => wake,
        Poll::Pending => None,
    }
}

/// The answer of a broker that never waits.
fn now<T>(call: impl Future<Output = sandhog_broker::Result<T>>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.expect("the reference model is always there"),
        Poll::Pending => unreachable!("the reference model never waits"),
    }
}

fn new_job(id: JobId, in_queue: &str, of: &str) -> NewJob {
    NewJob::new(id, queue(in_queue), kind(of), Vec::new())
}

pub(crate) fn job_id(nth: Nth) -> JobId {
    JobId::from_parts(START, nth as u128)
}

fn clock_at(at: Timestamp) -> Arc<dyn WallClock> {
    Arc::new(StandingClock(at))
}

/// The part of an id that isn't time.
fn chance(id: JobId) -> u128 {
    id.as_u128() & ((1 << 80) - 1)
}

fn parent_of(chance: u128) -> Option<Nth> {
    (CHILD..STRAY).contains(&chance).then_some(((chance ^ CHILD) >> PARENT_BITS) as Nth)
}

fn line(lease: LeaseNo) -> LogLine {
    let attempt = u32::try_from(lease.0).expect("a small number");
    LogLine { at: START, attempt, level: Level::Info, message: String::new(), fields: Vec::new() }
}

fn number(broker: &Memory, name: &str) -> u64 {
    now(broker.state(&tenant(), &plugin(), &key(name))).map_or(0, |bytes| digits(&bytes))
}

fn digits(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("a number was stored")
}

fn tenant() -> TenantId {
    TenantId::parse("acme").expect("valid")
}

fn plugin() -> PluginName {
    PluginName::parse("model").expect("valid")
}

fn queue_name(number: usize) -> String {
    format!("q{number}")
}

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("valid")
}

fn queue(name: &str) -> QueueName {
    QueueName::parse(name).expect("valid")
}

fn key(name: &str) -> StateKey {
    StateKey::parse(name).expect("valid")
}
