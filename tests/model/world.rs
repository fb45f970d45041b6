//! The world: a producer, some daemons, the wire between them and the broker; and what may happen next.

use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::Renewal;
use sandhog_core::attempt::{Action as Decision, Attempt, Event};
use sandhog_core::id::LeaseToken;
use sandhog_core::job::State;
use sandhog_core::outcome::{Outcome, StopReason};
use sandhog_core::reason::Reason;
use sandhog_core::retry::{Backoff, Chance, Growth, Jitter, RetryPolicy};
use sandhog_core::settle::{AttemptCounts, Settlement};
use sandhog_core::time::Mono;
use stateright::{Model, Property};

use crate::call::{Call, Caller, Nth, Wanted, What};
use crate::fleet::{Fleet, Outlook, Served};
use crate::printed::Printed;
use crate::properties;
use crate::protection::Protection;
use crate::store::{Answer, KIND, Sent, Store, effects, job_id, settle_of};
use crate::witness::{Told, Witness};

/// How large a world is tried through, and what it lacks.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) load: Load,
    /// How much may go wrong: lost calls, lost replies, calls given up, crashes, drains, leases that run out.
    pub(crate) faults: u8,
    /// How often somebody cancels a job.
    pub(crate) cancels: u8,
    pub(crate) max_attempts: u32,
    pub(crate) expiries_max: u32,
    /// Whether runs also count up a number that is common to all jobs, by compare and set.
    pub(crate) sharing: Sharing,
    /// How runs end if nothing goes wrong.
    pub(crate) exits: &'static [Exit],
    /// Which renewals there are.
    pub(crate) renewals: Renewals,
    /// What is taken away from the broker.
    pub(crate) broken: Option<Protection>,
}

/// Which jobs there are, and who runs them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// Each job has a queue of its own, and every daemon serves all. It asks for a job that is there to be had.
    OneKind { jobs: usize, daemons: usize },
    /// One queue, with lanes. A daemon asks until nothing comes, and then no more before it has heard of news.
    Lanes(&'static Fleet),
}

/// What runs have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Nothing,
    ANumber,
}

/// When leases are renewed. A renewal that changes nothing is never tried: there would be no end of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewals {
    /// When there is something to learn by it, or a lease to be kept.
    ForNews,
    /// Once for each lease besides, to bring a log line.
    ForTheLog,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) witness: Witness,
    producer: Vec<Producing>,
    /// One of each daemon.
    pub(crate) slots: Vec<Slot>,
    outlooks: Vec<Outlook>,
    /// In order, so that two wires with the same calls are the same.
    wire: Vec<Call>,
    faults: u8,
    cancels: u8,
    hours: u8,
}

/// How far the producer is with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Producing {
    /// It has yet to send it, for the first time or once more.
    Due,
    Waiting,
    Acknowledged,
}

/// The slot that a daemon has for one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Free,
    Asking {
        /// It was told to look meanwhile.
        has_heard: bool,
    },
    Taken(Held),
}

/// An attempt under way, as its daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) job: Nth,
    pub(crate) token: LeaseToken,
    attempt: Printed<Attempt>,
    /// Why the daemon can't run it, if it can't.
    refusal: Option<Reason>,
    run: Run,
    settling: Option<Printed<sandhog_broker::Settle>>,
    /// Whether a renewal is on its way.
    renewing: bool,
    /// Whether one has brought the log line of the run.
    logged: bool,
    /// Whether the run was told that its daemon shuts down.
    told: bool,
}

/// The guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Run {
    NotYet,
    /// It has read this from the state.
    Going {
        read: Option<Option<Vec<u8>>>,
        stop: Option<StopReason>,
    },
    Over,
}

/// What may happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The producer sends a job.
    Enqueue(Nth),
    /// A daemon asks for a lease on a job of this queue.
    Ask(usize, usize),
    /// It lets the run begin.
    Start(usize),
    /// It gives back a job that it can't run.
    GiveBack(usize),
    /// The run ends.
    Exit(usize, Exit),
    /// It renews its lease.
    Renew(usize),
    /// A call arrives, and its caller hears the answer.
    Arrive(Call),
    /// A call never arrives, and its caller notices.
    LoseCall(Call),
    /// A call arrives, but its caller only hears that the connection is gone.
    LoseReply(Call),
    /// The caller waits no longer; the call may still arrive.
    GiveUp(Call),
    /// A lease runs out.
    RunOut(Nth),
    /// The janitor of some daemon takes back the leases that have run out, and gives up lanes that nobody needs.
    Sweep,
    /// An hour passes in which nobody asks for anything, however many leases are renewed.
    Hour,
    /// A daemon finds that it can't trust its lease any longer.
    Distrust(usize),
    /// A daemon is killed; another one starts in its place.
    Crash(usize),
    /// A daemon shuts down, and tells the run.
    Draining(usize),
    /// The grace time of a daemon is over.
    Drain(usize),
    /// Somebody cancels a job.
    Cancel(Nth),
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Returns,
    Fails,
    FailsForGood,
    /// The daemon's own fault, which counts as one here.
    HostFault,
    /// It was told to stop.
    Stops,
}

/// As long as a lease can be trusted, and after. Nothing else is known of the time.
const TRUSTED: Mono = Mono::from_origin(Duration::ZERO);
const TRUST_ENDS: Mono = Mono::from_origin(Duration::from_secs(1));
const NO_DEADLINE: Mono = Mono::from_origin(Duration::from_secs(2));

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let (jobs, daemons, hours) = match self.load {
            Load::OneKind { jobs, daemons } => {
                ((0..jobs).map(|queue| Sent { queue, kind: KIND }).collect(), daemons, 0)
            }
            Load::Lanes(fleet) => {
                let sent = |kind: &&'static str| Sent { queue: 0, kind };
                (fleet.jobs.iter().map(sent).collect::<Vec<_>>(), fleet.daemons.len(), fleet.hours)
            }
        };
        vec![World {
            witness: Witness::of(&jobs),
            producer: vec![Producing::Due; jobs.len()],
            store: Store::empty(jobs),
            slots: vec![Slot::Free; daemons],
            outlooks: vec![Outlook::new(); daemons],
            wire: Vec::new(),
            faults: self.faults,
            cancels: self.cancels,
            hours,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.producer_steps(steps);
        (0..world.slots.len()).for_each(|slot| world.slot_steps(slot, self, steps));
        world.wire_steps(steps);
        (0..world.producer.len()).for_each(|job| world.steps_of_time(job, steps));
        if world.has_to_sweep() {
            steps.push(Step::Sweep);
        }
        if world.hours > 0 && world.witness.lanes.values().any(|is_old| !is_old) {
            steps.push(Step::Hour);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Enqueue(job) => {
                world.producer[job] = Producing::Waiting;
                world.send(Caller::Producer, What::Enqueue(job));
            }
            Step::Ask(slot, queue) => {
                world.slots[slot] = Slot::Asking { has_heard: false };
                let lanes = world.outlooks[slot].lanes(self.served_by(slot));
                world.send(Caller::Holder(slot), What::Lease(Wanted { queue, lanes }));
            }
            Step::Start(slot) => {
                let event = Event::Admitted { retry: self.retry(), deadline: NO_DEADLINE };
                self.happens(&mut world, slot, event, TRUSTED);
            }
            Step::GiveBack(slot) => {
                let Slot::Taken(Held { refusal: Some(reason), .. }) = &world.slots[slot] else { return None };
                let event = Event::Deferred { after: Duration::ZERO, reason: *reason };
                self.happens(&mut world, slot, event, TRUSTED);
            }
            Step::Exit(slot, exit) => self.exits(&mut world, slot, exit),
            Step::Renew(slot) => world.renews(slot),
            Step::Arrive(call) => self.arrives(&mut world, call, Heard::Yes),
            Step::LoseReply(call) => {
                world.faults -= 1;
                self.arrives(&mut world, call, Heard::No);
            }
            Step::LoseCall(call) => {
                world.faults -= 1;
                world.take(&call);
                self.fails(&mut world, &call);
            }
            Step::GiveUp(call) => {
                world.faults -= 1;
                world.take(&call);
                world.send(Caller::Nobody, call.what.clone());
                self.fails(&mut world, &call);
            }
            Step::RunOut(job) => {
                world.faults -= u8::from(world.is_held(job));
                world.store.run_out(job);
                world.witness.runs_out(job);
            }
            Step::Sweep => {
                world.store.sweep(self.expiries_max);
                world.witness.sweeps(world.store.seen());
            }
            Step::Hour => {
                world.hours -= 1;
                world.store.pass_an_hour();
                world.witness.an_hour_passes();
            }
            Step::Distrust(slot) => {
                world.faults -= u8::from(world.is_valid(slot));
                self.happens(&mut world, slot, Event::Tick, TRUST_ENDS);
            }
            Step::Crash(slot) => {
                world.faults -= 1;
                world.vacate(slot);
                world.outlooks[slot] = Outlook::new();
            }
            Step::Draining(slot) => {
                world.faults -= 1;
                world.tells(slot);
                world.outlooks[slot] = Outlook::new();
                self.happens(&mut world, slot, Event::Draining, TRUSTED);
            }
            Step::Drain(slot) => {
                world.faults -= 1;
                world.outlooks[slot] = Outlook::new();
                self.happens(&mut world, slot, Event::Drain, TRUSTED);
            }
            Step::Cancel(job) => {
                world.cancels -= 1;
                let answer = world.store.cancel(job);
                world.witness.cancels(job, answer);
            }
        }
        if world.store.take_news(&before.store, self.broken) && matches!(self.load, Load::Lanes(_)) {
            (0..world.slots.len()).for_each(|slot| world.hears(slot));
        }
        world.wire.sort();
        world.witness.looks_at(world.store.seen());
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        match self.load {
            Load::OneKind { .. } => properties::all(),
            Load::Lanes(_) => properties::all().into_iter().chain(properties::of_lanes()).collect(),
        }
    }
}

/// Whether an answer comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    No,
}

impl Protocol {
    fn served_by(&self, daemon: usize) -> &'static [Served] {
        match self.load {
            Load::OneKind { .. } => &[],
            Load::Lanes(fleet) => fleet.daemons[daemon],
        }
    }

    fn retry(&self) -> Arc<RetryPolicy> {
        let no_wait = Backoff {
            base: Duration::ZERO,
            growth: Growth::Fixed,
            max: Duration::ZERO,
            jitter: Jitter::None,
        };
        let max_attempts = self.max_attempts.try_into().expect("not zero");
        Arc::new(RetryPolicy { max_attempts, backoff: no_wait, ..RetryPolicy::default() })
    }

    /// Something happens to an attempt: the machine decides, and this does what it says.
    fn happens(&self, world: &mut World, slot: usize, event: Event, at: Mono) {
        let Slot::Taken(held) = &mut world.slots[slot] else { return };
        let mut attempt = (*held.attempt).clone();
        let decision = attempt.on(event, at, Chance::from_bits(0));
        held.attempt = Printed::new(attempt);
        match decision {
            Decision::Wait => {}
            Decision::Start => {
                let read = match self.sharing {
                    Sharing::Nothing => None,
                    Sharing::ANumber => Some(world.store.shared()),
                };
                held.run = Run::Going { read, stop: None };
            }
            Decision::Stop(reason) => {
                if let Run::Going { stop, .. } = &mut held.run {
                    *stop = Some(reason);
                }
            }
            Decision::Settle(settlement) | Decision::PauseAndSettle(settlement) => {
                held.settling = Some(Printed::new(settle_of(held.token, without_rest(settlement))));
                world.settles(slot);
            }
            Decision::SettleAgain => world.settles(slot),
            Decision::End(ending) => {
                let (job, lease) = (held.job, held.token.lease);
                world.witness.ends(job, lease, ending);
                world.vacate(slot);
            }
        }
    }

    fn exits(&self, world: &mut World, slot: usize, exit: Exit) {
        let Slot::Taken(held) = &mut world.slots[slot] else { return };
        let Run::Going { read, stop } = std::mem::replace(&mut held.run, Run::Over) else { return };
        let outcome = match (exit, stop) {
            (Exit::Returns, _) => {
                Outcome::Returned { output: Vec::new(), effects: effects(held.job, held.token.lease, read) }
            }
            (Exit::Fails, _) => {
                Outcome::FailedTransiently { message: String::new(), code: None, retry_after: None }
            }
            (Exit::FailsForGood, _) => Outcome::FailedPermanently { message: String::new() },
            (Exit::HostFault, _) => {
                world.faults -= 1;
                Outcome::HostFault { message: String::new() }
            }
            (Exit::Stops, stop) => Outcome::Aborted(stop.expect("it was told to")),
        };
        self.happens(world, slot, Event::Exited(outcome), TRUSTED);
    }

    /// The broker takes in a call; the caller hears of it, or not.
    fn arrives(&self, world: &mut World, call: Call, heard: Heard) {
        world.take(&call);
        let answered = match (&call.what, call.from, heard) {
            (What::Enqueue(job), from, _) => {
                world.store.enqueue(*job, self.broken);
                world.witness.enqueued(*job);
                if from == Caller::Producer && heard == Heard::Yes {
                    world.producer[*job] = Producing::Acknowledged;
                    world.witness.acknowledged(*job);
                }
                None
            }
            (What::Lease(wanted), from, _) => {
                let answer = world.store.lease(wanted, self.broken);
                let given = answer.lease.as_ref().map(|(job, token, _)| (*job, token.lease));
                world.witness.is_asked(wanted, given);
                if let (Caller::Holder(slot), Heard::Yes) = (from, heard) {
                    self.answered(world, slot, wanted, answer);
                }
                None
            }
            (What::Renew(job, lease), _, _) => {
                let before = world.store.seen().clone();
                let renewal = world.store.renew(*job, *lease, self.broken);
                world.witness.renewed(*job, *lease, renewal, &before, world.store.seen());
                match renewal {
                    Renewal::Held => Some(Event::Renewed { trusted_until: TRUST_ENDS }),
                    Renewal::CancelRequested => Some(Event::CancelRequested { trusted_until: TRUST_ENDS }),
                    Renewal::Lost | Renewal::Unreadable => Some(Event::LeaseLost),
                }
            }
            (What::Settle(job, settle), _, _) => {
                let before = world.store.seen().clone();
                let reply = world.store.settle(*job, settle, self.broken);
                let told = Told { job: *job, settle, reply: &reply };
                world.witness.settled(&told, &before, world.store.seen());
                Some(Event::Settled(reply))
            }
        };
        if heard == Heard::No {
            return self.fails(world, &call);
        }
        if let (Caller::Holder(slot), Some(event)) = (call.from, answered) {
            if let (Slot::Taken(held), What::Renew(..)) = (&mut world.slots[slot], &call.what) {
                held.renewing = false;
                held.logged = true;
            }
            self.happens(world, slot, event, TRUSTED);
        }
    }

    /// A daemon hears what it got.
    fn answered(&self, world: &mut World, slot: usize, wanted: &Wanted, answer: Answer) {
        let mut refusal = None;
        if let Load::Lanes(fleet) = self.load {
            let (outlook, served) = (&mut world.outlooks[slot], fleet.daemons[slot]);
            outlook.learn(served, &answer, world.slots[slot] == Slot::Asking { has_heard: true });
            let kind = answer.lease.as_ref().map(|(job, ..)| world.store.sent(*job).kind);
            refusal = kind.and_then(|kind| outlook.refusal(served, &wanted.lanes, kind));
        }
        world.slots[slot] = answer.lease.map_or(Slot::Free, |(job, token, leased)| {
            let tally =
                AttemptCounts { lease: token.lease, attempts: leased.attempts, faults: leased.faults };
            Slot::Taken(Held { refusal, ..Held::new(job, token, tally) })
        });
    }

    /// A caller notices that it won't hear of its call.
    fn fails(&self, world: &mut World, call: &Call) {
        match (call.from, &call.what) {
            (Caller::Producer, What::Enqueue(job)) => world.producer[*job] = Producing::Due,
            (Caller::Holder(slot), What::Lease(_)) => {
                world.slots[slot] = Slot::Free;
                world.outlooks[slot].is_hungry = true;
            }
            (Caller::Holder(slot), What::Renew(..)) => {
                if let Slot::Taken(held) = &mut world.slots[slot] {
                    held.renewing = false;
                }
            }
            (Caller::Holder(slot), What::Settle(..)) => {
                self.happens(world, slot, Event::SettleFailed, TRUSTED);
            }
            _ => {}
        }
    }
}

impl World {
    fn producer_steps(&self, steps: &mut Vec<Step>) {
        // One job of a kind is like the other, so they are sent in order.
        let kind = |job: Nth| self.store.sent(job).kind;
        let unsent = |job: Nth| self.store.seen().jobs[job].is_none();
        let is_next = |job: Nth| !(0..job).any(|other| kind(other) == kind(job) && unsent(other));
        let due = (0..self.producer.len()).filter(|job| self.producer[*job] == Producing::Due);
        steps.extend(due.filter(|job| !unsent(*job) || is_next(*job)).map(Step::Enqueue));
    }

    fn slot_steps(&self, slot: usize, protocol: &Protocol, steps: &mut Vec<Step>) {
        let outlook = &self.outlooks[slot];
        match (&self.slots[slot], protocol.load) {
            // One free slot is like the other, where all serve the same.
            (Slot::Free, Load::OneKind { .. }) if self.slots[..slot].contains(&Slot::Free) => {}
            (Slot::Free, Load::OneKind { .. }) => {
                let jobs = 0..self.producer.len();
                steps.extend(jobs.filter(|job| self.may_be_leased(*job)).map(|job| Step::Ask(slot, job)));
            }
            (Slot::Free, Load::Lanes(_)) if outlook.is_hungry => steps.push(Step::Ask(slot, 0)),
            (Slot::Free, Load::Lanes(_)) => {}
            (Slot::Asking { .. }, _) => self.add_fault(Step::Crash(slot), steps),
            (Slot::Taken(held), _) => {
                self.held_steps(slot, held, protocol, steps);
                self.add_fault(Step::Crash(slot), steps);
            }
        }
    }

    fn held_steps(&self, slot: usize, held: &Held, protocol: &Protocol, steps: &mut Vec<Step>) {
        match &held.run {
            Run::NotYet if held.settling.is_none() => {
                steps.push(if held.refusal.is_none() { Step::Start(slot) } else { Step::GiveBack(slot) });
                self.add_fault(Step::Drain(slot), steps);
            }
            Run::Going { stop: None, .. } => {
                steps.extend(protocol.exits.iter().map(|exit| Step::Exit(slot, *exit)));
                self.add_fault(Step::Exit(slot, Exit::HostFault), steps);
                self.add_fault(Step::Drain(slot), steps);
                if !held.told {
                    self.add_fault(Step::Draining(slot), steps);
                }
            }
            // What it returns may have come first.
            Run::Going { stop: Some(_), .. } => {
                steps.extend([Exit::Returns, Exit::Stops].map(|exit| Step::Exit(slot, exit)));
            }
            Run::NotYet | Run::Over => {}
        }
        if held.attempt.wants_lease() && !held.renewing && self.is_renewal_worth_it(held, protocol.renewals) {
            steps.push(Step::Renew(slot));
        }
        let can_lose = held.attempt.wake_at().is_some();
        if can_lose && (self.faults > 0 || !self.is_valid(slot)) {
            steps.push(Step::Distrust(slot));
        }
    }

    fn wire_steps(&self, steps: &mut Vec<Step>) {
        for (n, call) in self.wire.iter().enumerate() {
            // The same call twice: either is like the other.
            if n > 0 && self.wire[n - 1] == *call {
                continue;
            }
            steps.push(Step::Arrive(call.clone()));
            if call.from != Caller::Nobody {
                self.add_fault(Step::LoseCall(call.clone()), steps);
                self.add_fault(Step::LoseReply(call.clone()), steps);
                self.add_fault(Step::GiveUp(call.clone()), steps);
            }
        }
    }

    fn steps_of_time(&self, job: Nth, steps: &mut Vec<Step>) {
        let Some(seen) = &self.store.seen().jobs[job] else { return };
        if seen.state == State::Leased && !seen.has_run_out && (self.faults > 0 || !self.is_held(job)) {
            steps.push(Step::RunOut(job));
        }
        if self.cancels > 0 && !seen.state.is_final() && !seen.is_to_be_cancelled {
            steps.push(Step::Cancel(job));
        }
    }

    /// Whether a sweep would find something.
    fn has_to_sweep(&self) -> bool {
        let jobs = &self.store.seen().jobs;
        let waits = |kind: &str| {
            let mut of_kind = (0..jobs.len()).filter(|job| self.store.sent(*job).kind == kind);
            of_kind.any(|job| self.may_be_leased(job))
        };
        jobs.iter().flatten().any(|job| job.has_run_out)
            || self.witness.lanes.iter().any(|(kind, is_old)| *is_old && !waits(kind))
    }

    fn add_fault(&self, step: Step, steps: &mut Vec<Step>) {
        if self.faults > 0 {
            steps.push(step);
        }
    }

    fn is_renewal_worth_it(&self, held: &Held, renewals: Renewals) -> bool {
        let seen = self.store.seen().jobs[held.job].as_ref().expect("it was leased");
        let is_stopped = matches!(held.run, Run::Going { stop: Some(_), .. });
        let is_news = seen.is_to_be_cancelled && held.settling.is_none() && !is_stopped;
        let has_a_line = renewals == Renewals::ForTheLog && !held.logged;
        has_a_line || seen.lease != held.token.lease || seen.has_run_out || is_news
    }

    fn may_be_leased(&self, job: Nth) -> bool {
        let seen = self.store.seen().jobs[job].as_ref();
        seen.is_some_and(|seen| seen.state == State::Ready)
    }

    /// Whether somebody is there who would renew the present lease of a job.
    fn is_held(&self, job: Nth) -> bool {
        let lease = self.store.seen().jobs[job].as_ref().map(|seen| seen.lease);
        let holds = |slot: &Slot| matches!(slot, Slot::Taken(held) if held.job == job && Some(held.token.lease) == lease && held.attempt.wants_lease());
        self.slots.iter().any(holds)
    }

    /// Whether the lease of a slot is the present one, and hasn't run out.
    fn is_valid(&self, slot: usize) -> bool {
        let Slot::Taken(held) = &self.slots[slot] else { return false };
        let seen = self.store.seen().jobs[held.job].as_ref();
        seen.is_some_and(|seen| {
            seen.state == State::Leased && seen.lease == held.token.lease && !seen.has_run_out
        })
    }

    /// A daemon has been told to look for jobs.
    fn hears(&mut self, slot: usize) {
        self.outlooks[slot].is_hungry = true;
        if let Slot::Asking { has_heard } = &mut self.slots[slot] {
            *has_heard = true;
        }
    }

    fn tells(&mut self, slot: usize) {
        let Slot::Taken(held) = &mut self.slots[slot] else { return };
        held.told = true;
    }

    fn renews(&mut self, slot: usize) {
        let Slot::Taken(held) = &mut self.slots[slot] else { return };
        held.renewing = true;
        let what = What::Renew(held.job, held.token.lease);
        self.send(Caller::Holder(slot), what);
    }

    fn settles(&mut self, slot: usize) {
        let Slot::Taken(held) = &self.slots[slot] else { return };
        let Some(settle) = held.settling.clone() else { return };
        let what = What::Settle(held.job, settle);
        self.send(Caller::Holder(slot), what);
    }

    /// Whoever sat there is gone; what it has sent isn't.
    fn vacate(&mut self, slot: usize) {
        self.slots[slot] = Slot::Free;
        for call in &mut self.wire {
            if call.from == Caller::Holder(slot) {
                call.from = Caller::Nobody;
            }
        }
    }

    fn send(&mut self, from: Caller, what: What) {
        self.wire.push(Call { from, what });
    }

    fn take(&mut self, call: &Call) {
        let at = self.wire.iter().position(|other| other == call).expect("it is on the wire");
        self.wire.remove(at);
    }

    /// Whether a daemon waits to be told of jobs, though it would get one if it asked.
    pub(crate) fn has_idle_daemon(&self, protocol: &Protocol) -> bool {
        let would_get_one = |slot: usize| {
            let lanes = self.outlooks[slot].lanes(protocol.served_by(slot));
            self.store.has_for(&Wanted { queue: 0, lanes })
        };
        let mut waiting = (0..self.slots.len())
            .filter(|slot| self.slots[*slot] == Slot::Free && !self.outlooks[*slot].is_hungry);
        waiting.any(would_get_one)
    }

    /// Whether a daemon is about to give back a job for this reason.
    pub(crate) fn gives_back(&self, reason: Reason) -> bool {
        let is_unfit = |slot: &Slot| matches!(slot, Slot::Taken(held) if held.refusal == Some(reason));
        self.slots.iter().any(is_unfit)
    }

    /// What is left if nothing happens that needn't.
    pub(crate) fn becalmed(&self) -> Self {
        Self { faults: 0, cancels: 0, hours: 0, ..self.clone() }
    }

    /// Whether all faults that may be are over.
    pub(crate) fn is_without_faults(&self) -> bool {
        self.faults == 0
    }
}

impl Held {
    fn new(job: Nth, token: LeaseToken, tally: AttemptCounts) -> Self {
        debug_assert_eq!(token.job, job_id(job));
        Self {
            job,
            token,
            attempt: Printed::new(Attempt::new(tally, TRUST_ENDS)),
            refusal: None,
            run: Run::NotYet,
            settling: None,
            renewing: false,
            logged: false,
            told: false,
        }
    }
}

/// Jobs rest for no time here.
fn without_rest(settlement: Settlement) -> Settlement {
    match settlement {
        Settlement::Release { reason, .. } => Settlement::Release { after: Duration::ZERO, reason },
        other => other,
    }
}
