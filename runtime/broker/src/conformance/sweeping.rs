//! What is due, has run out, or is past its time: bounded, so that no call takes long.

use std::collections::BTreeMap;
use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken};
use sandhog_core::job::{NewJob, State};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, EXPIRIES_MAX, TTL};
use super::script::{PLUGIN, bury, ms, plugin, queue, ran, renew, secs, settle, succeed, unique, usage};
use crate::{Changed, Counts, JobAction, Keep, KeepMax, Renewal, SWEEP_MAX, Settle, Sweep};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Leases a job and lets the lease run out, `times` times; each is taken back before the next.
async fn lose_leases(case: &Case, times: u32) -> Option<LeaseToken> {
    let mut last = None;
    for _ in 0..times {
        last = Some(case.lease_one().await);
        case.pass(TTL);
    }
    last
}

/// An expired lease is taken back and counted. The lease number is raised at once, so that the old token differs from one that
/// has settled.
pub async fn an_expired_lease_is_taken_back_and_counted(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL);
    let swept = case.sweep().await;
    assert_eq!((swept.buried, swept.next_due), (vec![], None));
    let record = case.record(token.job).await;
    assert_eq!(record.state, State::Ready);
    assert_eq!((record.expiries, record.attempts, record.lease), (1, 0, LeaseNo(2)));
    assert_eq!((record.lease_expires_at, record.reason), (None, None));
    assert_eq!(case.lease_one().await.lease, LeaseNo(3));
}

/// A lease holds to its last millisecond.
pub async fn a_lease_holds_to_its_last_millisecond(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL - ms(1));
    assert_eq!(case.sweep().await.next_due, Some(ms(1)));
    assert_eq!(case.state_of(token.job).await, State::Leased);
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!(case.state_of(token.job).await, State::Ready);
}

/// Jobs whose leases ran out come back as suspects, in the order of expiry, then of their ids, before other ready jobs.
pub async fn expired_leases_come_back_in_order_of_expiry_then_id(case: Case) {
    let jobs = case.enqueue_n(4).await;
    case.lease(3).await;
    // The first holder renews later than the others, and so loses its lease later.
    case.pass(secs(1));
    assert_eq!(case.renew(renew(LeaseToken { job: jobs[0], lease: LeaseNo(1) })).await, Renewal::Held);
    case.pass(TTL);
    assert_eq!(case.drain().await, [jobs[1], jobs[2], jobs[0], jobs[3]]);
}

/// A job whose lease is taken back can be leased at once.
pub async fn an_expired_job_can_be_handed_out_once_it_is_taken_back(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL);
    let again = case.lease_one().await;
    assert_eq!((again.job, again.lease), (token.job, LeaseNo(3)));
    assert_eq!(case.record(token.job).await.leased_at, Some(case.now()));
}

/// A job that loses more leases than it may is buried, as it may kill its daemons. The sweep that buries it names it.
pub async fn a_job_that_loses_too_many_leases_is_buried_and_named(case: Case) {
    let id = case.enqueue(NewJob { unique_key: unique("deadly"), ..case.new_job() }).await;
    let last = lose_leases(&case, EXPIRIES_MAX + 1).await.expect("it was leased");
    assert_eq!(case.sweep().await.buried, [id]);
    let record = case.record(id).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::LeaseExpired)));
    assert_eq!((record.expiries, record.attempts), (EXPIRIES_MAX + 1, 0));
    assert_eq!((record.finished_at, record.lease_expires_at), (Some(case.now()), None));
    assert!(record.message.is_some_and(|message| message.contains("lease.expiries_max")));
    assert_eq!(case.settle(last, succeed()).await, SettleReply::Lost);
    assert_eq!(case.sweep().await.buried, [], "it is named once");
    case.enqueue(NewJob { unique_key: unique("deadly"), ..case.new_job() }).await;
}

/// A job that is buried for lost leases is kept for 30 days, the default of dead letters.
pub async fn a_job_buried_for_its_leases_is_kept_for_thirty_days(case: Case) {
    let id = case.enqueue(case.new_job()).await;
    lose_leases(&case, EXPIRIES_MAX + 1).await;
    case.sweep().await;
    case.pass(30 * DAY - ms(1));
    case.sweep().await;
    assert_eq!(case.state_of(id).await, State::Dead);
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!(case.find(id).await, None);
}

/// A job that is to be cancelled is cancelled when its lease runs out, and not run again.
pub async fn a_cancelled_job_whose_lease_runs_out_is_cancelled(case: Case) {
    let token = case.leased_job().await;
    let cancelled = case.broker.cancel(&case.tenant, token.job).await.expect("a cancellation succeeds");
    assert_eq!(cancelled, Changed::Requested);
    case.pass(TTL);
    assert_eq!(case.drain().await, []);
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Cancelled)));
    assert_eq!((record.expiries, record.lease, record.finished_at), (1, LeaseNo(2), Some(case.now())));
    assert_eq!(case.settle(token, succeed()).await, SettleReply::Lost);
}

/// A job that loses too many leases is buried even if it is to be cancelled, so that operators hear of a job that kills
/// daemons.
pub async fn a_job_that_loses_too_many_leases_is_buried_even_if_it_is_to_be_cancelled(case: Case) {
    let id = case.enqueue(case.new_job()).await;
    lose_leases(&case, EXPIRIES_MAX).await;
    case.lease_one().await;
    case.broker.cancel(&case.tenant, id).await.expect("a cancellation succeeds");
    case.pass(TTL);
    assert_eq!(case.sweep().await.buried, [id]);
    assert_eq!(case.state_of(id).await, State::Dead);
    // The wish to cancel it ends with the lease.
    case.broker.redrive(&case.tenant, id).await.expect("a redrive succeeds");
    let token = case.lease_one().await;
    assert_eq!(case.renew(renew(token)).await, Renewal::Held);
}

/// One call makes at most [`SWEEP_MAX`] due jobs ready. The next call is due at once, and goes on.
pub async fn one_call_never_promotes_without_bound(case: Case) {
    let jobs: Vec<NewJob> = (0..=SWEEP_MAX).map(|_| NewJob { delay: ms(5), ..case.new_job() }).collect();
    case.enqueue_all(&jobs).await;
    case.pass(ms(5));
    assert_eq!(case.sweep().await.next_due, Some(Duration::ZERO));
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 1), (State::Ready, SWEEP_MAX as u64)]));
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, SWEEP_MAX as u64 + 1)]));
}

/// One call takes back at most [`SWEEP_MAX`] leases, buried jobs included. The next call is due at once, and goes on.
pub async fn one_call_never_takes_back_without_bound(case: Case) {
    case.enqueue_n(SWEEP_MAX + 1).await;
    let n = u32::try_from(SWEEP_MAX + 1).expect("a small number");
    assert_eq!(case.lease(n).await.len(), SWEEP_MAX + 1);
    case.pass(TTL);
    assert_eq!(case.sweep().await.next_due, Some(Duration::ZERO));
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, SWEEP_MAX as u64), (State::Leased, 1)]));
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, SWEEP_MAX as u64 + 1)]));
}

/// One call removes at most [`SWEEP_MAX`] final jobs. The next call is due at once, and goes on.
pub async fn one_call_never_removes_without_bound(case: Case) {
    case.enqueue_n(SWEEP_MAX + 1).await;
    let leases = case.lease(u32::try_from(SWEEP_MAX + 1).expect("a small number")).await;
    let settlements: Vec<Settle> = leases.iter().map(|lease| settle(lease.token, succeed())).collect();
    case.settle_all(&settlements).await;
    case.pass(DAY);
    assert_eq!(case.sweep().await.next_due, Some(Duration::ZERO));
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 1)]));
    assert_eq!(case.sweep().await.next_due, None);
    assert_eq!(case.counts().await, Counts::default());
}

/// A final job is removed when its keep time is over, to the millisecond, and its log with it.
pub async fn final_jobs_go_when_their_keep_time_is_over(case: Case) {
    let keep = Keep { done: secs(100), dead: secs(200), ..Keep::default() };
    let mut finished: Vec<JobId> = Vec::new();
    for settlement in [succeed(), bury()] {
        let token = case.leased_job().await;
        let log = super::script::lines(0..3);
        case.settle_with(Settle { keep, log, ..settle(token, settlement) }).await;
        finished.push(token.job);
    }
    case.pass(secs(100) - ms(1));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 1), (State::Dead, 1)]));
    case.pass(ms(1));
    case.sweep().await;
    assert_eq!((case.find(finished[0]).await, case.log(finished[0]).await), (None, vec![]));
    assert_eq!(
        (case.counts().await, case.log(finished[1]).await.len()),
        (Counts::of(&[(State::Dead, 1)]), 3)
    );
    case.pass(secs(100));
    case.sweep().await;
    assert_eq!((case.counts().await, case.log(finished[1]).await), (Counts::default(), vec![]));
}

/// A job with a keep time of 0 is removed by the next sweep. Until then a settlement whose answer was lost can be repeated.
pub async fn a_job_kept_for_no_time_goes_at_the_next_sweep(case: Case) {
    let token = case.leased_job().await;
    let keep = Keep { done: Duration::ZERO, dead: Duration::ZERO, ..Keep::default() };
    let settlement = Settle { keep, ..settle(token, succeed()) };
    assert_eq!(case.settle_with(settlement.clone()).await, SettleReply::Applied);
    assert_eq!(case.settle_with(settlement).await, SettleReply::Applied);
    assert_eq!(case.state_of(token.job).await, State::Succeeded);
    case.sweep().await;
    assert_eq!(case.find(token.job).await, None);
}

/// The next time to look doesn't include keep times: old jobs can wait for the next call that comes anyway.
pub async fn removing_is_no_reason_to_look_again(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, succeed()).await;
    assert_eq!(case.ask(&[(queue(), 1)]).await.next_due, None);
}

/// The latest final jobs are kept, up to the maximum numbers of a sweep, even if their keep time isn't over.
pub async fn no_more_final_jobs_are_kept_than_their_number(case: Case) {
    let ids = case.enqueue_n(8).await;
    for settlement in [succeed(), bury()].iter().cycle().take(8) {
        let token = case.lease_one().await;
        case.pass(ms(1));
        case.applied(token, settlement.clone()).await;
    }
    case.sweep_to(KeepMax { done: 3, dead: 1 }).await;
    assert_eq!(case.list(State::Succeeded).await, [ids[6], ids[4], ids[2]]);
    assert_eq!(case.list(State::Dead).await, [ids[7]]);
}

/// A sweep tells when the next final job is past its keep time, so that nobody sweeps in vain.
pub async fn a_sweep_tells_when_the_next_job_is_past_its_time(case: Case) {
    assert_eq!(case.sweep().await.next_removal, None);
    let token = case.leased_job().await;
    case.settle_with(Settle {
        keep: Keep { done: secs(9), dead: secs(1), ..Keep::default() },
        ..settle(token, succeed())
    })
    .await;
    assert_eq!(case.sweep().await.next_removal, Some(secs(9)));
    case.pass(secs(9));
    assert_eq!(case.sweep().await.next_removal, None);
}

/// A purge in steps removes all that a tenant has, and tells after each step how much is left. Other tenants aren't affected.
pub async fn what_a_tenant_has_can_be_purged_in_steps(case: Case) {
    let other = case.of_another_tenant();
    other.enqueue_n(2).await;
    let token = case.leased_job().await;
    let mut effects = sandhog_core::effects::Effects::default();
    effects.set(super::script::key("k"), b"v".to_vec(), None);
    case.applied(token, super::script::succeed_with(effects)).await;
    case.enqueue(NewJob { unique_key: unique("k"), ..case.new_job() }).await;
    case.enqueue(NewJob { delay: secs(9), ..case.new_job() }).await;
    let held = case.lease_one().await;
    let mut lefts = Vec::new();
    loop {
        lefts.push(case.broker.purge(&case.tenant, 2).await.expect("a purge succeeds"));
        if lefts.last() == Some(&0) {
            break;
        }
    }
    assert!(lefts.is_sorted_by(|a, b| a > b) && lefts.len() == 2, "{lefts:?}");
    assert_eq!(case.counts().await, Counts::default());
    assert_eq!(case.stored(&super::script::key("k")).await, None);
    let days = sandhog_core::account::Day(0)..=sandhog_core::account::Day(u32::MAX);
    assert_eq!(case.broker.usage(&case.tenant, days).await.expect("a look succeeds"), []);
    assert_eq!(case.settle(held, succeed()).await, SettleReply::Lost);
    case.enqueue(NewJob { unique_key: unique("k"), ..case.new_job() }).await;
    assert_eq!(other.counts().await, Counts::of(&[(State::Ready, 2)]));
}

/// The latest final jobs of a plugin are kept, up to its maximum numbers. Jobs of other plugins, and those that ended without a
/// run, don't count.
pub async fn no_more_final_jobs_of_a_plugin_are_kept_than_its_number(case: Case) {
    let counted = Keep { is_counted: true, ..Keep::default() };
    let ends = async |name: &str, keep: Keep, settlement: Settlement| {
        let token = case.leased_job().await;
        let settle = Settle { ran: Some(ran(name, usage(1))), keep, ..Settle::new(token, settlement) };
        assert_eq!(case.settle_with(settle).await, SettleReply::Applied);
        case.pass(ms(1));
        token.job
    };
    let mut done = Vec::new();
    for _ in 0..4 {
        done.push(ends("a", counted, succeed()).await);
    }
    let (plain, other) = (ends("a", Keep::default(), succeed()).await, ends("b", counted, succeed()).await);
    let dead = [ends("a", counted, bury()).await, ends("a", counted, bury()).await];
    let cancelled = ends("a", counted, Settlement::Cancel).await;
    let waiting = case.enqueue(case.new_job()).await;
    case.act(JobAction::Cancel, waiting).await;
    let keep_max = |done, dead| BTreeMap::from([(plugin("a"), KeepMax { done, dead })]);
    let sweep = |done, dead| Sweep { keep_max_of: keep_max(done, dead), ..Sweep::new(9) };
    case.sweep_as(sweep(4, u64::MAX)).await;
    assert_eq!(case.counts().await.total(), 10, "there are no more than that");
    case.sweep_as(sweep(2, 1)).await;
    assert_eq!(case.list(State::Succeeded).await, [other, plain, done[3], done[2]]);
    assert_eq!(case.list(State::Dead).await, [dead[1]]);
    assert_eq!(case.list(State::Cancelled).await, [waiting, cancelled]);
    // One that is put back is counted no more, until it ends again.
    case.act(JobAction::Redrive, dead[1]).await;
    case.sweep_as(sweep(2, 0)).await;
    assert_eq!(case.state_of(dead[1]).await, State::Ready);
    case.applied(case.lease_one().await, bury()).await;
    case.sweep_as(sweep(0, 0)).await;
    assert_eq!(case.list(State::Dead).await, [dead[1]], "by then it isn't counted");
    assert_eq!(case.list(State::Succeeded).await, [other, plain]);
    assert_eq!(case.list(State::Cancelled).await, [waiting]);
}

/// One call removes at most [`SWEEP_MAX`] final jobs of a plugin beyond its number. The next call is due at once.
pub async fn one_call_never_removes_more_of_a_plugin_than_a_bound(case: Case) {
    let count = SWEEP_MAX + 10;
    case.enqueue_n(count).await;
    let keep = Keep { is_counted: true, ..Keep::default() };
    let leases = case.lease(u32::try_from(count).expect("a small number")).await;
    let settles: Vec<Settle> =
        leases.iter().map(|lease| Settle { keep, ..settle(lease.token, succeed()) }).collect();
    case.settle_all(&settles).await;
    let none = KeepMax { done: 0, dead: 0 };
    let sweep = Sweep { keep_max_of: BTreeMap::from([(plugin(PLUGIN), none)]), ..Sweep::new(9) };
    let swept = case.sweep_as(sweep.clone()).await;
    assert_eq!((swept.next_due, case.counts().await[State::Succeeded]), (Some(Duration::ZERO), 10));
    case.sweep_as(sweep).await;
    assert_eq!(case.counts().await.total(), 0);
}
