//! Flows: jobs that wait for others.

use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::flow::{After, Flow, FlowJob, OnFailure};
use sandhog_core::id::{FlowJobName, JobId};
use sandhog_core::job::{NewJob, State};
use sandhog_core::quota::{QueueBounds, QueueExcess};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, EXPIRIES_MAX, TTL};
use super::script::{bury, ms, release, retry, secs, succeed, unique};
use crate::{Changed, Counts, Enqueued, FlowStored, JobAction, KeepMax, SWEEP_MAX, Wake};

fn name(text: &str) -> FlowJobName {
    FlowJobName::parse(text).expect("a valid name")
}

/// A job of a flow, which comes after those.
fn after(text: &str, job: NewJob, parents: &[(&str, OnFailure)]) -> FlowJob {
    let edge =
        |(parent, on_failure): &(&str, OnFailure)| After { job: name(parent), on_failure: *on_failure };
    FlowJob { name: name(text), job, after: parents.iter().map(edge).collect(), takes_outputs: false }
}

const FAIL: OnFailure = OnFailure::Fail;
const IGNORE: OnFailure = OnFailure::Ignore;
const HOLD: OnFailure = OnFailure::Hold;

impl Case {
    pub(super) async fn store_flow(&self, flow: &Flow) -> FlowStored {
        self.broker.store_flow(&self.tenant, flow, &QueueBounds::default()).await.expect("it succeeds")
    }

    /// Stores a flow of ordinary jobs, by name and with their edges; returns the ids.
    pub(super) async fn flow(&self, jobs: &[(&str, &[(&str, OnFailure)])]) -> Vec<JobId> {
        let jobs = jobs.iter().map(|(text, parents)| after(text, self.new_job(), parents)).collect();
        let flow = Flow::new(jobs).expect("a valid flow");
        assert_eq!(self.store_flow(&flow).await, FlowStored::Stored);
        flow.jobs().map(|job| job.id).collect()
    }

    async fn states<const N: usize>(&self, ids: &[JobId]) -> [State; N] {
        let mut states = Vec::new();
        for id in ids {
            states.push(self.state_of(*id).await);
        }
        states.try_into().expect("one of each")
    }

    /// Leases the only job that is ready, which has to be this one, and settles it.
    async fn runs(&self, job: JobId, settlement: Settlement) {
        let token = self.lease_one().await;
        assert_eq!(token.job, job);
        self.applied(token, settlement).await;
        self.sweep().await;
    }

    async fn cancels(&self, job: JobId) {
        assert_eq!(self.act(JobAction::Cancel, job).await, Changed::Done);
        self.sweep().await;
    }
}

/// A job is blocked until the one that it comes after has succeeded. Its record names the jobs that it waits for.
pub async fn a_job_waits_for_the_one_that_it_comes_after(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", FAIL)]), ("third", &[("second", FAIL)])]).await;
    assert_eq!(case.states(&ids).await, [State::Ready, State::Blocked, State::Blocked]);
    assert_eq!(case.record(ids[1]).await.waits_for, [ids[0]]);
    assert_eq!(case.list(State::Blocked).await, ids[1..]);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Blocked, 2)]));
    let token = case.lease_one().await;
    assert_eq!(token.job, ids[0]);
    case.applied(token, retry(Duration::ZERO)).await;
    case.sweep().await;
    assert_eq!(case.state_of(ids[1]).await, State::Blocked, "it has not ended yet");
    case.applied(case.lease_one().await, succeed()).await;
    assert_eq!(case.ask(&[]).await.next_due, None, "a sweep has settled it");
    assert_eq!(case.states(&ids).await, [State::Succeeded, State::Ready, State::Blocked]);
    assert_eq!(case.record(ids[1]).await.waits_for, []);
    case.runs(ids[1], succeed()).await;
    case.runs(ids[2], succeed()).await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 3)]));
}

/// A job's end leaves its edges for the next sweep, and until then every lease call answers that a sweep is due at once.
pub async fn edges_that_are_to_be_settled_are_due_at_once(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let token = case.lease_one().await;
    assert_eq!(case.lease_as(case.asking(&[])).await.next_due, Some(TTL));
    case.applied(token, succeed()).await;
    assert_eq!(case.lease_as(case.asking(&[])).await.next_due, Some(Duration::ZERO));
    assert_eq!(case.state_of(ids[1]).await, State::Blocked);
    let swept = case.sweep().await;
    assert_eq!((swept.next_due, swept.has_ready), (None, true));
    assert_eq!(case.lease_as(case.asking(&[])).await.next_due, None);
    assert_eq!(case.state_of(ids[1]).await, State::Ready);
}

/// A job that comes after several is blocked until all of them have ended. Several that come after one are ready together.
pub async fn a_job_waits_for_all_that_it_comes_after(case: Case) {
    let middle: &[(&str, OnFailure)] = &[("first", FAIL)];
    let ids = case
        .flow(&[
            ("first", &[]),
            ("a", middle),
            ("b", middle),
            ("c", middle),
            ("last", &[("a", FAIL), ("b", FAIL), ("c", FAIL)]),
        ])
        .await;
    case.runs(ids[0], succeed()).await;
    let leases = case.lease(9).await;
    assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), ids[1..4]);
    for lease in leases.into_iter().rev() {
        assert_eq!(case.state_of(ids[4]).await, State::Blocked);
        case.applied(lease.token, succeed()).await;
        case.sweep().await;
    }
    case.runs(ids[4], succeed()).await;
}

/// Parents that end in the same call are all counted.
pub async fn parents_that_end_in_one_call_all_count(case: Case) {
    let ids = case.flow(&[("a", &[]), ("b", &[]), ("last", &[("a", FAIL), ("b", FAIL)])]).await;
    let tokens: Vec<_> = case.lease(2).await.into_iter().map(|lease| lease.token).collect();
    let settlements: Vec<_> = tokens.iter().map(|token| super::script::settle(*token, succeed())).collect();
    case.settle_all(&settlements).await;
    case.sweep().await;
    assert_eq!(case.states(&ids).await, [State::Succeeded, State::Succeeded, State::Ready]);
}

/// A job dies with the one that it comes after, and so do those behind it. The message names the job that died.
pub async fn a_job_ends_with_the_one_that_it_comes_after(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", FAIL)]), ("third", &[("second", FAIL)])]).await;
    case.runs(ids[0], bury()).await;
    assert_eq!(case.states(&ids).await, [State::Dead; 3]);
    let record = case.record(ids[1]).await;
    assert_eq!((record.reason, record.finished_at), (Some(Reason::ParentFailed), Some(case.now())));
    let message = format!("job `first` ({}), which it comes after, is dead", ids[0]);
    assert_eq!((record.message, record.waits_for), (Some(message), vec![]));
    let message = format!("job `second` ({}), which it comes after, is dead", ids[1]);
    assert_eq!(case.record(ids[2]).await.message, Some(message));
    assert_eq!(case.counts().await, Counts::of(&[(State::Dead, 3)]));
    case.pass(secs(30 * 86_400));
    case.sweep().await;
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::default(), "they are kept as long as dead letters are");
}

/// A cancelled job cancels those that come after it, whether it was waiting or leased.
pub async fn a_cancelled_job_cancels_those_that_come_after_it(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", FAIL)]), ("third", &[("second", FAIL)])]).await;
    case.cancels(ids[0]).await;
    assert_eq!(case.states(&ids).await, [State::Cancelled; 3]);
    let message = format!("job `first` ({}), which it comes after, was cancelled", ids[0]);
    let record = case.record(ids[1]).await;
    assert_eq!((record.reason, record.message), (Some(Reason::ParentFailed), Some(message)));
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let token = case.lease_one().await;
    assert_eq!(case.act(JobAction::Cancel, ids[0]).await, Changed::Requested);
    case.applied(token, release(Duration::ZERO)).await;
    case.sweep().await;
    assert_eq!(case.states(&ids).await, [State::Cancelled; 2]);
}

/// A job that loses too many leases ends those that come after it, in the same sweep.
pub async fn a_job_that_loses_too_many_leases_ends_those_that_come_after_it(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    for _ in 0..=EXPIRIES_MAX {
        case.lease_one().await;
        case.pass(TTL);
    }
    assert_eq!(case.sweep().await.buried, [ids[0]]);
    assert_eq!(case.states(&ids).await, [State::Dead; 2], "in the same sweep");
}

/// A job whose edge ignores failures runs in whichever state its parent ended.
pub async fn a_failure_can_be_ignored(case: Case) {
    for settlement in [bury(), Settlement::Cancel, succeed()] {
        let ids = case.flow(&[("first", &[]), ("second", &[("first", IGNORE)])]).await;
        case.runs(ids[0], settlement).await;
        case.runs(ids[1], succeed()).await;
    }
}

/// A job whose edge holds failures stays blocked by its dead parent until that is redriven and succeeds.
pub async fn a_failure_can_be_held_until_the_parent_succeeds(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", HOLD)])]).await;
    case.runs(ids[0], bury()).await;
    assert_eq!(case.states(&ids).await, [State::Dead, State::Blocked]);
    assert_eq!(case.record(ids[1]).await.waits_for, [ids[0]]);
    for settlement in [bury(), succeed()] {
        assert_eq!(case.act(JobAction::Redrive, ids[0]).await, Changed::Done);
        case.runs(ids[0], settlement).await;
    }
    case.runs(ids[1], succeed()).await;
}

/// A job that is held by a dead parent dies when that is removed, as it can't be redriven any more.
pub async fn a_held_job_ends_when_the_failed_one_is_removed(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", HOLD)])]).await;
    case.runs(ids[0], bury()).await;
    assert_eq!(case.act(JobAction::Remove, ids[0]).await, Changed::Done);
    case.sweep().await;
    let record = case.record(ids[1]).await;
    let message = format!("job `first` ({}), which it comes after, was removed", ids[0]);
    assert_eq!((record.state, record.message), (State::Dead, Some(message)));
    let ids = case.flow(&[("first", &[]), ("second", &[("first", HOLD)])]).await;
    case.runs(ids[0], bury()).await;
    case.pass(secs(30 * 86_400));
    case.sweep().await;
    case.sweep().await;
    assert_eq!(case.find(ids[0]).await, None, "its keep time is over");
    assert_eq!(case.state_of(ids[1]).await, State::Dead);
}

/// A job that is removed before its edges are settled still counts as ended for those that come after it.
pub async fn a_job_that_is_removed_at_once_has_ended_all_the_same(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    assert_eq!(case.act(JobAction::Remove, ids[0]).await, Changed::Done);
    case.sweep().await;
    case.runs(ids[1], succeed()).await;
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let token = case.lease_one().await;
    case.applied(token, bury()).await;
    case.sweep_to(KeepMax { done: 0, dead: 0 }).await;
    case.sweep().await;
    assert_eq!((case.find(ids[0]).await, case.find(ids[1]).await), (None, None));
}

/// A blocked job that is run now is ready at once, without its delay, and waits for no parent any more.
pub async fn a_blocked_job_can_be_released(case: Case) {
    let jobs = vec![
        after("first", case.new_job(), &[]),
        after("second", NewJob { delay: secs(60), ..case.new_job() }, &[("first", HOLD)]),
    ];
    let flow = Flow::new(jobs).expect("a valid flow");
    case.store_flow(&flow).await;
    let ids: Vec<JobId> = flow.jobs().map(|job| job.id).collect();
    let first = case.lease_one().await;
    assert_eq!(case.act(JobAction::RunNow, ids[1]).await, Changed::Done);
    let token = case.lease_one().await;
    assert_eq!(token.job, ids[1]);
    case.applied(first, bury()).await;
    case.sweep().await;
    assert_eq!(case.state_of(ids[1]).await, State::Leased, "it waits for nobody any more");
    case.applied(token, succeed()).await;
}

/// A blocked job can be cancelled, which counts for those that come after it. It can be neither redriven nor removed.
pub async fn a_blocked_job_can_be_cancelled_and_not_redriven(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", FAIL)]), ("third", &[("second", IGNORE)])]).await;
    for action in [JobAction::Redrive, JobAction::Remove] {
        assert_eq!(case.act(action, ids[1]).await, Changed::Not(State::Blocked));
    }
    case.cancels(ids[1]).await;
    assert_eq!(case.states(&ids).await, [State::Ready, State::Cancelled, State::Ready]);
    assert_eq!(case.list(State::Blocked).await, []);
    case.runs(ids[0], succeed()).await;
    assert_eq!(case.states(&ids).await, [State::Succeeded, State::Cancelled, State::Ready]);
}

/// The delay of a job counts from the time at which it is unblocked, not from that at which it was enqueued.
pub async fn a_delay_counts_from_when_the_job_is_unblocked(case: Case) {
    let jobs = vec![
        after("first", NewJob { delay: secs(5), ..case.new_job() }, &[]),
        after("second", NewJob { delay: secs(60), ..case.new_job() }, &[("first", FAIL)]),
    ];
    let flow = Flow::new(jobs).expect("a valid flow");
    case.store_flow(&flow).await;
    let ids: Vec<JobId> = flow.jobs().map(|job| job.id).collect();
    assert_eq!(case.states(&ids).await, [State::Scheduled, State::Blocked]);
    assert_eq!(case.record(ids[1]).await.due_at, None);
    case.pass(secs(5));
    case.runs(ids[0], succeed()).await;
    let record = case.record(ids[1]).await;
    assert_eq!((record.state, record.due_at), (State::Scheduled, Some(case.now().after(secs(60)))));
    case.pass(secs(60));
    case.runs(ids[1], succeed()).await;
}

/// A flow that is stored again with the same ids changes nothing: a producer that lost the answer can ask again.
pub async fn a_flow_can_be_stored_again_and_is_there_once(case: Case) {
    let jobs = vec![after("first", case.new_job(), &[]), after("second", case.new_job(), &[("first", FAIL)])];
    let flow = Flow::new(jobs).expect("a valid flow");
    for _ in 0..2 {
        assert_eq!(case.store_flow(&flow).await, FlowStored::Stored);
    }
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Blocked, 1)]));
    case.runs(flow.id(), succeed()).await;
    assert_eq!(case.store_flow(&flow).await, FlowStored::Stored);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Succeeded, 1)]));
}

/// A flow of which one job is refused is not stored at all, whether for its key, its size, its id or the bounds of the queue.
pub async fn a_flow_is_refused_as_a_whole(case: Case) {
    let holder = case.enqueue(NewJob { unique_key: unique("nightly"), ..case.new_job() }).await;
    let flow_with = |last: NewJob| {
        let jobs = vec![after("first", case.new_job(), &[]), after("last", last, &[("first", FAIL)])];
        Flow::new(jobs).expect("a valid flow")
    };
    let keyed = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let flow = flow_with(keyed.clone());
    assert_eq!(case.store_flow(&flow).await, FlowStored::Duplicate { job: keyed.id, holder });
    let long = NewJob { payload: vec![0; 13], ..case.new_job() };
    let flow = flow_with(long.clone());
    let store = |flow: Flow, bounds: QueueBounds| {
        let (broker, tenant) = (case.broker.clone(), case.tenant.clone());
        async move { broker.store_flow(&tenant, &flow, &bounds).await.expect("it succeeds") }
    };
    let bounds = QueueBounds { payload: Bytes(12), ..QueueBounds::default() };
    assert_eq!(store(flow, bounds).await, FlowStored::TooLarge(long.id));
    let bounds = QueueBounds { jobs: 2, ..QueueBounds::default() };
    assert_eq!(store(flow_with(case.new_job()), bounds).await, FlowStored::Full(QueueExcess::Jobs));
    let known = case.record(holder).await.id;
    let flow = flow_with(NewJob { id: known, ..case.new_job() });
    assert_eq!(case.store_flow(&flow).await, FlowStored::Taken(known));
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1)]));
    assert_eq!(case.broker.flow(&case.tenant, flow.id()).await.expect("it succeeds"), None);
}

/// Blocked jobs count among those that wait, and still do once they are unblocked.
pub async fn blocked_jobs_count_among_those_that_wait(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let bounds = QueueBounds { jobs: 2, ..QueueBounds::default() };
    let full = [Enqueued::Full(QueueExcess::Jobs)];
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, full);
    case.sweep().await;
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, full);
    case.runs(ids[0], succeed()).await;
    let bounds = QueueBounds { jobs: 1, ..QueueBounds::default() };
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, full, "it is ready by now");
    case.runs(ids[1], succeed()).await;
    assert_eq!(case.enqueue_within(&[case.new_job()], &bounds).await, [Enqueued::Stored]);
}

/// A blocked job holds its unique key, so that no other with this key is stored.
pub async fn a_blocked_job_holds_its_unique_key(case: Case) {
    let keyed = || NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let last = keyed();
    let jobs = vec![after("first", case.new_job(), &[]), after("last", last.clone(), &[("first", FAIL)])];
    case.store_flow(&Flow::new(jobs).expect("a valid flow")).await;
    assert_eq!(case.enqueue_all(&[keyed()]).await, [Enqueued::Duplicate(last.id)]);
    case.cancels(last.id).await;
    assert_eq!(case.enqueue_all(&[keyed()]).await, [Enqueued::Stored]);
}

/// The dead jobs of a flow can be redriven together, parents first. Each waits again for those that haven't succeeded.
pub async fn a_flow_is_redriven_as_it_was_to_run(case: Case) {
    let ids = case
        .flow(&[
            ("first", &[]),
            ("other", &[]),
            ("second", &[("first", FAIL), ("other", FAIL)]),
            ("third", &[("second", FAIL)]),
        ])
        .await;
    let leases = case.lease(2).await;
    case.applied(leases[0].token, bury()).await;
    case.applied(leases[1].token, succeed()).await;
    case.sweep().await;
    assert_eq!(case.states(&ids).await, [State::Dead, State::Succeeded, State::Dead, State::Dead]);
    let redrive = [ids[0], ids[2], ids[3]];
    let answers = case.broker.act(&case.tenant, JobAction::Redrive, &redrive).await.expect("it succeeds");
    assert_eq!(answers, [Changed::Done; 3]);
    assert_eq!(case.states(&ids).await, [State::Ready, State::Succeeded, State::Blocked, State::Blocked]);
    let record = case.record(ids[2]).await;
    assert_eq!((record.waits_for, record.reason, record.message), (vec![ids[0]], None, None));
    for id in redrive {
        case.runs(id, succeed()).await;
    }
}

/// A job that is redriven without its dead parent waits until that is redriven and succeeds. It doesn't wait for a parent that
/// has succeeded or is no longer kept.
pub async fn a_job_that_is_redriven_alone_waits_for_its_parent(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    case.runs(ids[0], bury()).await;
    assert_eq!(case.act(JobAction::Redrive, ids[1]).await, Changed::Done);
    case.sweep().await;
    assert_eq!(case.states(&ids).await, [State::Dead, State::Blocked]);
    assert_eq!(case.act(JobAction::Redrive, ids[0]).await, Changed::Done);
    case.runs(ids[0], succeed()).await;
    case.runs(ids[1], bury()).await;
    assert_eq!(case.act(JobAction::Redrive, ids[1]).await, Changed::Done);
    assert_eq!(case.state_of(ids[1]).await, State::Ready, "its parent has succeeded");
    case.runs(ids[1], bury()).await;
    assert_eq!(case.act(JobAction::Remove, ids[0]).await, Changed::Done);
    assert_eq!(case.act(JobAction::Redrive, ids[1]).await, Changed::Done);
    assert_eq!(case.state_of(ids[1]).await, State::Ready, "nobody waits for a job that isn't kept");
}

/// A job that is redriven before its edges are settled doesn't count as ended for those that come after it.
pub async fn a_job_that_is_redriven_before_its_edges_are_settled_has_not_ended(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let token = case.lease_one().await;
    case.applied(token, bury()).await;
    assert_eq!(case.act(JobAction::Redrive, ids[0]).await, Changed::Done);
    case.sweep().await;
    assert_eq!(case.states(&ids).await, [State::Ready, State::Blocked]);
    case.runs(ids[0], succeed()).await;
    assert_eq!(case.state_of(ids[1]).await, State::Ready);
}

/// One call settles at most [`SWEEP_MAX`] jobs of a flow. The next call is due at once, and goes on.
pub async fn one_call_never_settles_without_bound(case: Case) {
    let count = SWEEP_MAX + 100;
    let mut jobs = vec![after("j0", case.new_job(), &[])];
    for n in 1..count {
        let parent = format!("j{}", n - 1);
        jobs.push(after(&format!("j{n}"), case.new_job(), &[(&parent, FAIL)]));
    }
    let flow = Flow::new(jobs).expect("a valid flow");
    assert_eq!(case.store_flow(&flow).await, FlowStored::Stored);
    case.cancels(flow.id()).await;
    assert_eq!(case.counts().await[State::Cancelled], SWEEP_MAX as u64 + 1);
    assert_eq!(case.lease_as(case.asking(&[])).await.next_due, Some(Duration::ZERO));
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!(case.counts().await, Counts::of(&[(State::Cancelled, count as u64)]));
}

/// A flow is looked up by its id, which is that of its first job. Jobs that aren't kept any more are left out.
pub async fn a_flow_can_be_looked_up(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", HOLD)]), ("third", &[("second", FAIL)])]).await;
    let flow = case.broker.flow(&case.tenant, ids[0]).await.expect("it succeeds").expect("it is there");
    assert_eq!(flow.unread, []);
    for (view, id) in flow.jobs.iter().zip(&ids) {
        assert_eq!(view.job, case.record(*id).await.without_payloads());
        assert_eq!(view.job.options.flow.map(|member| member.flow), Some(ids[0]));
    }
    let named: Vec<_> = flow.jobs.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(named, ["first", "second", "third"]);
    let edge = &flow.jobs[1].parents[0];
    assert_eq!((edge.id, edge.name.as_str(), edge.on_failure), (ids[0], "first", HOLD));
    case.runs(ids[0], succeed()).await;
    assert_eq!(case.act(JobAction::Remove, ids[0]).await, Changed::Done);
    case.sweep().await;
    let flow = case.broker.flow(&case.tenant, ids[0]).await.expect("it succeeds").expect("some are there");
    assert_eq!(flow.jobs.len(), 2);
    assert_eq!(flow.jobs[0].parents[0].name.as_str(), "first", "the name of one that is gone is known");
    let other = case.of_another_tenant();
    assert_eq!(other.broker.flow(&other.tenant, ids[0]).await.expect("it succeeds"), None);
}

/// The outputs of a job's parents can be looked up, within a bound on their length in all.
pub async fn outputs_of_parents_can_be_looked_up(case: Case) {
    let ids = case.flow(&[("a", &[]), ("b", &[]), ("last", &[("a", IGNORE), ("b", IGNORE)])]).await;
    let leases = case.lease(2).await;
    case.applied(leases[0].token, succeed()).await;
    case.applied(leases[1].token, bury()).await;
    case.sweep().await;
    let last = ids[2];
    let look = |bytes| {
        let (broker, tenant) = (case.broker.clone(), case.tenant.clone());
        async move { broker.parents(&tenant, last, bytes).await.expect("it succeeds") }
    };
    let parents = look(1000).await;
    let seen: Vec<_> = parents.iter().map(|view| (view.name.as_str(), view.id, view.state)).collect();
    assert_eq!(seen, [("a", ids[0], Some(State::Succeeded)), ("b", ids[1], Some(State::Dead))]);
    assert_eq!(parents[0].output.as_deref(), Some(&b"done"[..]));
    assert_eq!(parents[1].output, None);
    assert_eq!(look(3).await[0].output, None, "it is longer");
    case.act(JobAction::Remove, ids[0]).await;
    assert_eq!(look(1000).await[0].state, None);
}

/// A purge in steps removes flows with all their edges, and leaves nothing to be swept.
pub async fn a_tenant_with_flows_can_be_purged_in_steps(case: Case) {
    let ids =
        case.flow(&[("first", &[]), ("second", &[("first", HOLD)]), ("third", &[("second", FAIL)])]).await;
    case.runs(ids[0], bury()).await;
    while case.broker.purge(&case.tenant, 1).await.expect("it succeeds") > 0 {
        case.sweep().await;
    }
    assert_eq!(case.counts().await, Counts::default());
    assert_eq!(case.broker.flow(&case.tenant, ids[0]).await.expect("it succeeds"), None);
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!(case.lease_as(case.asking(&[])).await.next_due, None);
}

/// The end of a job that others wait for wakes listeners, as a sweep is needed.
pub async fn an_end_that_others_wait_for_wakes(case: Case) {
    let ids = case.flow(&[("first", &[]), ("second", &[("first", FAIL)])]).await;
    let mut wakes = case.broker.watch(vec![case.tenant.clone()]).await.expect("it listens");
    assert_eq!(wakes.next().await, Some(Wake::All));
    assert_eq!(case.act(JobAction::Cancel, ids[0]).await, Changed::Done);
    let woken = tokio::time::timeout(Duration::from_secs(20), wakes.next()).await.expect("it is heard");
    assert_eq!(woken, Some(Wake::Ready { tenant: case.tenant.clone(), named: None }));
}

/// Pages of blocked jobs follow each other without overlap, in the order in which the jobs were blocked.
pub async fn pages_of_blocked_jobs_fit_together(case: Case) {
    let after_first: &[(&str, OnFailure)] = &[("first", FAIL)];
    let ids = case.flow(&[("first", &[]), ("a", after_first), ("b", after_first), ("c", after_first)]).await;
    case.pass(ms(1));
    let mut found = Vec::new();
    let mut query = crate::Query::of(State::Blocked, 2);
    loop {
        let page = case.page(query.clone()).await;
        found.extend(page.jobs.into_iter().map(|job| job.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, ids[1..]);
}
