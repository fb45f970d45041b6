//! Groups of jobs have their turns.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::effects::Effects;
use sandhog_core::group::{GroupRule, OnDead};
use sandhog_core::group_limit::{GROUP_LIMITS_MAX, GroupLimit, GroupLimitChange, NewGroupLimit};
use sandhog_core::hold::HoldEnd;
use sandhog_core::id::{JobId, QueueName};
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, TTL};
use super::script::{bury, group, ms, queue, queue_named, release, retry, secs, succeed, unique};
use crate::{Changed, Counts, Enqueued, GroupLimited, HeldGroup, JobAction, KeepMax, Query, SWEEP_MAX};

const STRICT: GroupRule = GroupRule::Strict(OnDead::Hold);

fn at_once(turns: u16) -> GroupRule {
    GroupRule::Concurrency(NonZeroU16::new(turns).expect("there are some"))
}

async fn set(case: &Case, rule: GroupRule) {
    set_all(case, &[(queue(), rule)]).await;
}

async fn set_all(case: &Case, rules: &[(QueueName, GroupRule)]) {
    let rules: BTreeMap<_, _> = rules.iter().map(|(queue, rule)| (queue.clone(), (*rule).into())).collect();
    case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
}

fn of(case: &Case, key: &str) -> NewJob {
    NewJob { options: JobOptions { group: Some(group(key)), ..JobOptions::default() }, ..case.new_job() }
}

async fn enqueue(case: &Case, key: &str) -> JobId {
    case.enqueue(of(case, key)).await
}

async fn release_group(case: &Case, key: &str) -> bool {
    case.broker.release_group(&case.tenant, &queue(), &group(key)).await.expect("it succeeds")
}

async fn held(case: &Case) -> Vec<HeldGroup> {
    case.broker.held_groups(&case.tenant).await.expect("a look succeeds")
}

/// Jobs of a group beyond its limit on concurrency are blocked, and become ready as turns are given up. Jobs of other groups,
/// or of none, aren't affected.
pub async fn no_more_of_a_group_run_at_once_than_its_queue_says(case: Case) {
    set(&case, at_once(2)).await;
    let [a, b, c, d] = [(); 4].map(|()| of(&case, "acme"));
    let ids = [&a, &b, &c, &d].map(|job| job.id);
    case.enqueue_all(&[a, b, c, d]).await;
    let (other, plain) = (enqueue(&case, "globex").await, case.enqueue(case.new_job()).await);
    assert_eq!(case.list(State::Blocked).await, ids[2..]);
    assert_eq!(case.counts().await, Counts::of(&[(State::Blocked, 2), (State::Ready, 4)]));
    assert_eq!(case.state_of(ids[3]).await, State::Blocked);
    let leases = case.lease(9).await;
    let leased: Vec<JobId> = leases.iter().map(|lease| lease.token.job).collect();
    assert_eq!(leased, [ids[0], ids[1], other, plain]);
    case.applied(leases[1].token, succeed()).await;
    assert_eq!(case.drain().await, [ids[2]]);
    case.applied(leases[0].token, bury()).await;
    assert_eq!(case.drain().await, [ids[3]]);
}

/// A queue without a rule blocks no job: its groups are only names.
pub async fn a_queue_without_a_rule_holds_no_group_back(case: Case) {
    set_all(&case, &[(queue_named("other"), at_once(1))]).await;
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    assert_eq!(case.drain().await, ids);
}

/// The same key is another group in another queue, and for another tenant.
pub async fn groups_of_other_queues_and_tenants_are_others(case: Case) {
    let other = case.of_another_tenant();
    for case in [&case, &other] {
        set_all(case, &[(queue(), at_once(1)), (queue_named("other"), at_once(1))]).await;
        let there = NewJob { queue: queue_named("other"), ..of(case, "acme") };
        case.enqueue_all(&[of(case, "acme"), there]).await;
        assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 2)]));
    }
}

/// Groups are told apart by their keys, whatever characters these have.
pub async fn keys_of_groups_are_told_apart(case: Case) {
    set(&case, at_once(1)).await;
    for key in ["*", "a", "a b", "a:b", "a {b}", "ü", "default", "[", "(", "+", "-"] {
        enqueue(&case, key).await;
        enqueue(&case, key).await;
    }
    assert_eq!(case.counts().await, Counts::of(&[(State::Blocked, 11), (State::Ready, 11)]));
    for lease in case.lease(20).await {
        case.applied(lease.token, succeed()).await;
    }
    assert_eq!(case.drain().await.len(), 11);
}

/// Jobs leave the line of their group by priority, the highest first, and in order of arrival if it is the same.
pub async fn those_in_line_go_by_priority_and_then_as_they_came(case: Case) {
    set(&case, at_once(1)).await;
    let jobs = [100, 100, 200, 100, 200].map(|n| NewJob { priority: Priority(n), ..of(&case, "acme") });
    let ids = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs[..3]).await;
    case.enqueue_all(&jobs[3..]).await;
    let mut gone = Vec::new();
    while let Some(lease) = case.lease(9).await.pop() {
        gone.push(lease.token.job);
        case.applied(lease.token, succeed()).await;
    }
    assert_eq!(gone, [ids[0], ids[2], ids[4], ids[1], ids[3]]);
}

/// Jobs of a strictly ordered group run one at a time in order of arrival, whatever their priorities and in however many calls
/// they came.
pub async fn a_strict_group_goes_one_by_one_in_the_order_in_which_it_came(case: Case) {
    set(&case, STRICT).await;
    let jobs = [0, 255, 100, 7].map(|n| NewJob { priority: Priority(n), ..of(&case, "acme") });
    let ids = jobs.each_ref().map(|job| job.id);
    // Ids fall in the order of coming.
    for job in jobs.into_iter().rev() {
        case.enqueue(job).await;
    }
    for id in ids.into_iter().rev() {
        let leases = case.lease(9).await;
        assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), [id]);
        case.applied(leases[0].token, succeed()).await;
    }
}

/// A job of a strictly ordered group keeps its turn until it is final: through retries, releases and lost leases.
pub async fn a_job_of_a_strict_group_keeps_its_turn_until_it_is_final(case: Case) {
    set(&case, STRICT).await;
    let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    case.applied(case.lease_one().await, retry(secs(60))).await;
    assert_eq!(case.drain().await, []);
    assert_eq!(case.state_of(second).await, State::Blocked);
    case.pass(secs(60));
    case.applied(case.lease_one().await, release(Duration::ZERO)).await;
    assert_eq!(case.lease_one().await.job, first);
    case.pass(TTL);
    let token = case.lease_one().await;
    assert_eq!(token.job, first, "its lease ran out");
    case.applied(token, succeed()).await;
    assert_eq!(case.drain().await, [second]);
}

/// A job of a group with a limit on concurrency gives its turn up while it waits for another try, and gets in line again when
/// it is due.
pub async fn a_job_that_waits_for_another_try_gives_its_turn_up(case: Case) {
    set(&case, at_once(1)).await;
    let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    case.applied(case.lease_one().await, retry(secs(60))).await;
    let token = case.lease_one().await;
    assert_eq!(token.job, second);
    case.pass(secs(60));
    case.renew(crate::Renew::new(token)).await;
    assert_eq!(case.drain().await, []);
    assert_eq!(case.state_of(first).await, State::Blocked);
    case.applied(token, succeed()).await;
    assert_eq!(case.drain().await, [first]);
}

/// A job that is to run again at once keeps its turn, after a retry without a wait or a lost lease.
pub async fn a_job_that_comes_back_at_once_keeps_its_turn(case: Case) {
    set(&case, at_once(1)).await;
    let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    case.applied(case.lease_one().await, retry(Duration::ZERO)).await;
    assert_eq!(case.lease_one().await.job, first);
    case.pass(TTL);
    let token = case.lease_one().await;
    assert_eq!(token.job, first);
    case.applied(token, Settlement::Cancel).await;
    assert_eq!(case.drain().await, [second]);
}

/// A delayed job gets in its group's line when it is due, or is run now, and not before.
pub async fn a_delayed_job_gets_in_line_when_it_is_due(case: Case) {
    set(&case, STRICT).await;
    let late = case.enqueue(NewJob { delay: secs(10), ..of(&case, "acme") }).await;
    let [first, second] = [enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    let token = case.lease_one().await;
    assert_eq!((token.job, case.state_of(late).await), (first, State::Scheduled));
    case.pass(secs(10));
    case.sweep().await;
    assert_eq!(case.list(State::Blocked).await, [second, late]);
    let at_once = case.enqueue(NewJob { delay: secs(10), ..of(&case, "acme") }).await;
    assert_eq!(case.act(JobAction::RunNow, at_once).await, Changed::Done);
    assert_eq!(case.list(State::Blocked).await, [second, late, at_once]);
    assert_eq!(case.act(JobAction::RunNow, at_once).await, Changed::Not(State::Blocked));
}

/// A job that leaves its group in any way lets the next one in, whether it was in line, ready, scheduled or leased.
pub async fn whoever_goes_lets_the_next_one_in(case: Case) {
    set(&case, STRICT).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(enqueue(&case, "acme").await);
    }
    // One in line leaves it, and one that is ready leaves its turn.
    assert_eq!(case.act(JobAction::Cancel, ids[1]).await, Changed::Done);
    assert_eq!(case.act(JobAction::Cancel, ids[0]).await, Changed::Done);
    let token = case.lease_one().await;
    assert_eq!(token.job, ids[2]);
    // One that waits for another try has its turn.
    case.applied(token, retry(secs(60))).await;
    assert_eq!(case.act(JobAction::Cancel, ids[2]).await, Changed::Done);
    let token = case.lease_one().await;
    assert_eq!(token.job, ids[3]);
    assert_eq!(case.act(JobAction::Cancel, ids[3]).await, Changed::Requested);
    case.applied(token, Settlement::Cancel).await;
    // Several at once: the one that would be let in by the first goes as well.
    let both = [ids[4], ids[5]];
    let replies = case.broker.act(&case.tenant, JobAction::Cancel, &both).await.expect("it succeeds");
    assert_eq!(replies, [Changed::Done, Changed::Done]);
    assert_eq!(case.counts().await[State::Blocked], 0);
    let last = enqueue(&case, "acme").await;
    assert_eq!(case.drain().await, [last]);
}

/// A dead job holds its strictly ordered group until it is redriven or removed, or the group is released. Other groups go on.
pub async fn a_dead_job_holds_its_strict_group(case: Case) {
    set(&case, STRICT).await;
    for how in ["redriven", "removed", "passed over"] {
        let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
        case.applied(case.lease_one().await, bury()).await;
        let other = enqueue(&case, how).await;
        assert_eq!(case.drain().await, [other], "{how}");
        case.pass(secs(1));
        let (queue, group, since) = (queue(), group("acme"), case.record(first).await.finished_at);
        let since = since.expect("it is dead");
        assert_eq!(held(&case).await, [HeldGroup { queue, group, job: first, since }]);
        match how {
            "redriven" => {
                assert_eq!(case.act(JobAction::Redrive, first).await, Changed::Done);
                // It still has its turn, before all who have waited for it.
                let token = case.lease_one().await;
                assert_eq!(token.job, first);
                case.applied(token, succeed()).await;
            }
            "removed" => assert_eq!(case.act(JobAction::Remove, first).await, Changed::Done),
            _ => assert!(release_group(&case, "acme").await),
        }
        assert_eq!(held(&case).await, []);
        assert!(!release_group(&case, "acme").await);
        let token = case.lease_one().await;
        assert_eq!(token.job, second, "{how}");
        case.applied(token, succeed()).await;
    }
}

/// A job that dies of too many lost leases holds its group as one that dies of its handler does.
pub async fn a_job_that_loses_too_many_leases_holds_its_group_as_well(case: Case) {
    set(&case, STRICT).await;
    let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    for _ in 0..3 {
        assert_eq!(case.lease_one().await.job, first);
        case.pass(TTL);
    }
    assert_eq!(case.drain().await, []);
    assert_eq!(held(&case).await.len(), 1);
    assert!(release_group(&case, "acme").await);
    assert_eq!(case.drain().await, [second]);
}

/// A held group goes on once its dead job is no longer kept, as nothing could be redriven any more.
pub async fn a_group_goes_on_when_its_dead_job_is_no_longer_kept(case: Case) {
    set(&case, STRICT).await;
    let (_, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    case.applied(case.lease_one().await, bury()).await;
    case.sweep_to(KeepMax { dead: 0, ..KeepMax::default() }).await;
    assert_eq!((case.drain().await, held(&case).await), (vec![second], vec![]));
}

/// A strictly ordered group that skips dead jobs goes on at once. A dead job that is redriven gets in line at the end.
pub async fn a_group_that_skips_goes_on_after_a_dead_job(case: Case) {
    set(&case, GroupRule::Strict(OnDead::Skip)).await;
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    case.applied(case.lease_one().await, bury()).await;
    assert_eq!(held(&case).await, []);
    assert_eq!(case.act(JobAction::Redrive, ids[0]).await, Changed::Done);
    assert_eq!(case.list(State::Blocked).await, [ids[2], ids[0]]);
    assert_eq!(case.drain().await, [ids[1]]);
}

/// Where a group is to have its rest cancelled, a sweep cancels those that waited behind a dead job, and says why. What came after it
/// goes on, and so do other groups meanwhile.
pub async fn a_group_has_its_rest_cancelled_behind_a_dead_job(case: Case) {
    set(&case, GroupRule::Strict(OnDead::CancelRest)).await;
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    let late = case.enqueue(NewJob { delay: secs(5), ..of(&case, "acme") }).await;
    case.applied(case.lease_one().await, bury()).await;
    assert_eq!(held(&case).await.len(), 1);
    case.pass(ms(1));
    let (after, other) = (enqueue(&case, "acme").await, enqueue(&case, "globex").await);
    case.sweep().await;
    for id in &ids[1..] {
        let record = case.record(*id).await;
        let message = format!("job {}, which it waited behind in its group, is dead", ids[0]);
        assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::GroupFailed)));
        assert_eq!((record.message, record.finished_at), (Some(message), Some(case.now())));
    }
    assert_eq!(held(&case).await, []);
    assert_eq!(case.state_of(late).await, State::Scheduled, "it didn't wait in line");
    assert_eq!(case.drain().await, [other, after]);
    assert_eq!(case.act(JobAction::Redrive, ids[0]).await, Changed::Done);
    assert_eq!(case.list(State::Blocked).await, [ids[0]], "it gets in line behind what runs by now");
}

/// A dead job that is redriven, or passed over, before a sweep has come has nobody cancelled.
pub async fn nobody_is_cancelled_behind_a_job_that_is_redriven_in_time(case: Case) {
    set(&case, GroupRule::Strict(OnDead::CancelRest)).await;
    let (first, second) = (enqueue(&case, "acme").await, enqueue(&case, "acme").await);
    case.applied(case.lease_one().await, bury()).await;
    assert_eq!(case.act(JobAction::Redrive, first).await, Changed::Done);
    case.sweep().await;
    case.applied(case.lease_one().await, bury()).await;
    assert!(release_group(&case, "acme").await);
    case.sweep().await;
    assert_eq!(case.drain().await, [second]);
}

/// A sweep cancels a bounded number of jobs behind dead ones, says that more are left, and the next one goes on.
pub async fn a_long_rest_is_cancelled_by_several_sweeps(case: Case) {
    set(&case, GroupRule::Strict(OnDead::CancelRest)).await;
    let many: Vec<NewJob> = (0..SWEEP_MAX + 2).map(|_| of(&case, "acme")).collect();
    for part in many.chunks(100) {
        case.enqueue_all(part).await;
    }
    case.applied(case.lease_one().await, bury()).await;
    assert_eq!(case.sweep().await.next_due, Some(Duration::ZERO));
    assert_eq!((case.counts().await[State::Blocked], held(&case).await.len()), (1, 1));
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!((case.counts().await[State::Cancelled], held(&case).await.len()), (SWEEP_MAX as u64 + 1, 0));
}

/// Jobs that a run enqueues get in their group's line in the same step that settles the run.
pub async fn jobs_of_a_run_get_in_line(case: Case) {
    set(&case, STRICT).await;
    enqueue(&case, "acme").await;
    let token = case.lease_one().await;
    let (one, two) = (of(&case, "acme"), of(&case, "acme"));
    let (first, second) = (one.id, two.id);
    let mut effects = Effects::default();
    effects.enqueue(one);
    effects.enqueue(two);
    case.applied(token, Settlement::Succeed { output: Vec::new(), effects }).await;
    assert_eq!((case.drain().await, case.list(State::Blocked).await), (vec![first], vec![second]));
}

/// A new rule applies to jobs that are there already: leased ones count, and ready ones beyond the limit are blocked.
pub async fn a_new_rule_holds_for_what_is_there(case: Case) {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(enqueue(&case, "acme").await);
    }
    let token = case.lease_one().await;
    set(&case, at_once(2)).await;
    assert_eq!(case.list(State::Blocked).await, ids[2..]);
    assert_eq!(case.drain().await, [ids[1]]);
    case.applied(token, succeed()).await;
    assert_eq!(case.drain().await, [ids[2]]);
}

/// A higher limit lets more jobs in at once, and a lower one none until there are few enough. Without a rule all are let in.
pub async fn a_changed_rule_shows_by_and_by(case: Case) {
    set(&case, at_once(1)).await;
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(enqueue(&case, "acme").await);
    }
    set(&case, at_once(3)).await;
    let leases = case.lease(9).await;
    assert_eq!(leases.iter().map(|lease| lease.token.job).collect::<Vec<_>>(), ids[..3]);
    set(&case, at_once(1)).await;
    for (lease, next) in leases.iter().zip([None, None, Some(ids[3])]) {
        case.applied(lease.token, succeed()).await;
        assert_eq!(case.drain().await, next.into_iter().collect::<Vec<_>>());
    }
    set_all(&case, &[]).await;
    assert_eq!(case.drain().await, ids[4..]);
    assert_eq!(case.counts().await[State::Blocked], 0);
}

/// A batch is let in as its jobs would be if they came, or were settled, one by one.
pub async fn a_batch_of_a_group_is_let_in_as_its_jobs_would_be(case: Case) {
    set(&case, at_once(2)).await;
    let jobs: Vec<NewJob> =
        [0, 255, 100].map(|n| NewJob { priority: Priority(n), ..of(&case, "acme") }).into();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    case.enqueue_all(&jobs).await;
    assert_eq!(case.list(State::Blocked).await, ids[2..]);
    let leases = case.lease(9).await;
    let settled: Vec<_> = leases.iter().map(|lease| super::script::settle(lease.token, succeed())).collect();
    case.settle_all(&settled).await;
    assert_eq!(case.drain().await, ids[2..]);
}

/// Blocked jobs hold their unique keys, can be cancelled, and can be listed page by page.
pub async fn blocked_jobs_wait_like_others(case: Case) {
    set(&case, at_once(1)).await;
    let ready = enqueue(&case, "acme").await;
    let mut blocked = Vec::new();
    for n in 0..5 {
        let unique_key = if n == 3 { unique("k") } else { None };
        blocked.push(case.enqueue(NewJob { unique_key, ..of(&case, "acme") }).await);
    }
    let twin = NewJob { unique_key: unique("k"), ..of(&case, "acme") };
    assert_eq!(case.enqueue_all(&[twin]).await, [Enqueued::Duplicate(blocked[3])]);
    let first = case.page(Query::of(State::Blocked, 2)).await;
    let second = case.page(Query { after: first.next, ..Query::of(State::Blocked, 9) }).await;
    let listed: Vec<JobId> = first.jobs.iter().chain(&second.jobs).map(|record| record.id).collect();
    assert_eq!((listed, second.next), (blocked.clone(), None));
    assert_eq!(case.record(blocked[4]).await.due_at, None);
    assert_eq!(case.act(JobAction::Redrive, blocked[0]).await, Changed::Not(State::Blocked));
    assert_eq!(case.act(JobAction::Remove, blocked[0]).await, Changed::Not(State::Blocked));
    assert_eq!(case.act(JobAction::Cancel, blocked[0]).await, Changed::Done);
    case.pass(ms(1));
    assert_eq!(case.drain().await, [ready]);
}

/// A purge removes the lines, the turns and the rules of all groups.
pub async fn groups_are_purged(case: Case) {
    set(&case, STRICT).await;
    for _ in 0..3 {
        enqueue(&case, "acme").await;
    }
    case.applied(case.lease_one().await, bury()).await;
    while case.broker.purge(&case.tenant, 2).await.expect("a purge succeeds") > 0 {}
    assert_eq!((case.counts().await, held(&case).await), (Counts::default(), vec![]));
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    assert_eq!(case.drain().await, ids, "there is no rule any more");
}

/// A queue with many jobs in one group and one in each of many others, at a size that a rule for all stores is too small for.
#[derive(Debug, Clone, Copy)]
pub struct OneOfMany {
    /// Number of jobs of the one group.
    pub jobs: usize,
    /// Number of the other groups.
    pub others: usize,
    /// Number of jobs within which the first of each of the others has to start.
    pub within: usize,
}

impl OneOfMany {
    /// Plays it, with ten jobs of a group at once, and leases of a hundred.
    ///
    /// # Panics
    /// If the first job of some group starts too late.
    pub async fn play(self, case: Case) {
        set(&case, at_once(10)).await;
        let many: Vec<NewJob> = (0..self.jobs).map(|_| of(&case, "many")).collect();
        for part in many.chunks(1_000) {
            case.enqueue_all(part).await;
        }
        let few: Vec<NewJob> = (0..self.others).map(|n| of(&case, &format!("few {n}"))).collect();
        case.enqueue_all(&few).await;
        let mut waiting: BTreeSet<JobId> = few.iter().map(|job| job.id).collect();
        let mut started = 0;
        while !waiting.is_empty() {
            let leases = case.lease(100).await;
            started += leases.len();
            for lease in &leases {
                waiting.remove(&lease.token.job);
            }
            let done: Vec<_> =
                leases.iter().map(|lease| super::script::settle(lease.token, succeed())).collect();
            case.settle_all(&done).await;
        }
        assert!(started <= self.within, "the last of them starts as number {started}");
    }
}

/// A group with a long line doesn't delay the jobs of other groups.
pub async fn a_long_line_keeps_nobody_else_waiting(case: Case) {
    set(&case, at_once(3)).await;
    let many: Vec<NewJob> = (0..2_000).map(|_| of(&case, "many")).collect();
    case.enqueue_all(&many).await;
    let few: Vec<NewJob> = (0..100).map(|n| of(&case, &format!("few {n}"))).collect();
    let ids: Vec<JobId> = few.iter().map(|job| job.id).collect();
    case.enqueue_all(&few).await;
    let mut started = Vec::new();
    while !ids.iter().all(|id| started.contains(id)) {
        for lease in case.lease(20).await {
            started.push(lease.token.job);
            case.applied(lease.token, succeed()).await;
        }
    }
    assert!(started.len() <= 250, "{}", started.len());
}

fn few(turns: u16, end: HoldEnd) -> GroupLimitChange {
    let concurrency = NonZeroU16::new(turns).expect("there are some");
    GroupLimitChange::Set(NewGroupLimit {
        concurrency,
        by: Some("ana".into()),
        end,
        note: Some("a sale".into()),
    })
}

async fn limit(case: &Case, key: &str, change: GroupLimitChange) -> GroupLimited {
    case.broker.limit_group(&case.tenant, &queue(), &group(key), change).await.expect("it succeeds")
}

async fn limits(case: &Case) -> Vec<(GroupLimit, u16)> {
    case.broker.limits(&case.tenant).await.expect("a look succeeds").groups
}

/// A group with a limit of its own has as many turns as that says; other groups of the queue have those of their queue.
pub async fn a_groups_own_limit_stands_in_place_of_its_queues(case: Case) {
    set(&case, at_once(1)).await;
    let ids = [(); 5].map(|()| of(&case, "acme"));
    case.enqueue_all(&ids).await;
    let ids = ids.map(|job| job.id);
    let other = [enqueue(&case, "globex").await, enqueue(&case, "globex").await];
    assert_eq!(limit(&case, "acme", few(3, HoldEnd::Lifted)).await, GroupLimited::Done);
    assert_eq!(case.list(State::Blocked).await, [ids[3], ids[4], other[1]]);
    let (found, taken) = limits(&case).await.remove(0);
    assert_eq!((found.concurrency.get(), found.is_on, taken), (3, true, 3));
    assert_eq!((found.by.as_deref(), found.note.as_deref()), (Some("ana"), Some("a sale")));
    assert_eq!((found.since, found.until), (case.now(), None));
    assert_eq!(limit(&case, "acme", few(2, HoldEnd::Lifted)).await, GroupLimited::Done);
    assert_eq!(case.list(State::Blocked).await, [ids[3], ids[4], other[1]], "who has a turn keeps it");
    let leases = case.lease(9).await;
    case.applied(leases[0].token, succeed()).await;
    assert_eq!(case.list(State::Blocked).await, [ids[3], ids[4], other[1]], "two are enough");
    assert_eq!(limit(&case, "acme", GroupLimitChange::Unset).await, GroupLimited::Done);
    assert_eq!(limit(&case, "acme", GroupLimitChange::Unset).await, GroupLimited::NotLimited);
    assert_eq!(limits(&case).await, []);
}

/// A group's limit that is switched off is kept, and counts again when it is switched on.
pub async fn a_groups_limit_can_be_switched_off_and_on(case: Case) {
    set(&case, at_once(1)).await;
    let off = || GroupLimitChange::Switch { is_on: false };
    assert_eq!(limit(&case, "acme", off()).await, GroupLimited::NotLimited);
    limit(&case, "acme", few(2, HoldEnd::Lifted)).await;
    assert_eq!(limit(&case, "acme", off()).await, GroupLimited::Done);
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    assert_eq!(case.state_of(ids[1]).await, State::Blocked);
    assert!(!limits(&case).await[0].0.is_on);
    case.pass(secs(1));
    assert_eq!(limit(&case, "acme", GroupLimitChange::Switch { is_on: true }).await, GroupLimited::Done);
    assert_eq!(case.state_of(ids[1]).await, State::Ready, "it got in by the switch");
    assert_eq!(limits(&case).await[0].0.note.as_deref(), Some("a sale"), "all else of it is kept");
}

/// A group's limit ends at its time, and a sweep is due then; a group with a line then has the turns that its queue gives it.
pub async fn a_groups_limit_ends_by_itself(case: Case) {
    set(&case, at_once(2)).await;
    limit(&case, "acme", few(1, HoldEnd::After(secs(60)))).await;
    let ids = [enqueue(&case, "acme").await, enqueue(&case, "acme").await];
    assert_eq!(case.sweep().await.next_due, Some(secs(60)));
    case.pass(secs(59));
    case.sweep().await;
    assert_eq!(case.state_of(ids[1]).await, State::Blocked);
    case.pass(secs(1));
    assert_eq!(limits(&case).await, [], "it isn't listed any more");
    case.sweep().await;
    assert_eq!(case.state_of(ids[1]).await, State::Ready);
}

/// A group's limit may be there before its queue has a rule, and doesn't count where the order is strict.
pub async fn a_groups_limit_counts_as_soon_as_its_queue_limits_groups(case: Case) {
    limit(&case, "acme", few(2, HoldEnd::Lifted)).await;
    set(&case, STRICT).await;
    let ids = [(); 3].map(|()| of(&case, "acme"));
    case.enqueue_all(&ids).await;
    let ids = ids.map(|job| job.id);
    assert_eq!(case.list(State::Blocked).await, ids[1..]);
    set(&case, at_once(1)).await;
    case.sweep().await;
    assert_eq!(case.list(State::Blocked).await, ids[2..]);
}

/// A tenant has a bounded number of limits of single groups; one that is there can be set anew.
pub async fn a_tenant_has_a_bounded_number_of_limits_of_groups(case: Case) {
    for n in 0..GROUP_LIMITS_MAX {
        assert_eq!(limit(&case, &n.to_string(), few(1, HoldEnd::Lifted)).await, GroupLimited::Done);
    }
    assert_eq!(limit(&case, "one more", few(1, HoldEnd::Lifted)).await, GroupLimited::TooMany);
    assert_eq!(limit(&case, "0", few(2, HoldEnd::Lifted)).await, GroupLimited::Done);
    assert_eq!(limits(&case).await.len(), GROUP_LIMITS_MAX);
}
