//! Runs end, and what came of them is recorded.

use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{JobId, LeaseNo, LeaseToken};
use sandhog_core::job::State;
use sandhog_core::outcome::Usage;
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;

use super::case::{Case, TTL};
use super::script::{
    PLUGIN, add_to, bury, effects, key, lines, ms, progress, ran, release, renew, retry, revision, secs,
    settle, succeed, succeed_with, usage,
};
use crate::{Changed, Counts, Keep, Renew, Renewal, Settle};

/// Every way to settle.
fn every_settlement() -> [Settlement; 6] {
    [succeed(), retry(Duration::ZERO), retry(secs(9)), release(secs(9)), bury(), Settlement::Cancel]
}

async fn request_cancel(case: &Case, job: JobId) {
    let cancelled = case.broker.cancel(&case.tenant, job).await.expect("a cancellation succeeds");
    assert_eq!(cancelled, Changed::Requested);
}

/// A success keeps the output, the usage, the revision and the times, and counts an attempt.
pub async fn a_success_keeps_its_output_and_counts_the_attempt(case: Case) {
    let token = case.leased_job().await;
    let leased_at = case.now();
    case.pass(secs(2));
    let output: Vec<u8> = (0..=255).collect();
    case.applied(token, Settlement::Succeed { output: output.clone(), effects: Effects::default() }).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.output), (State::Succeeded, Some(output)));
    assert_eq!((record.attempts, record.expiries, record.lease), (1, 0, token.lease));
    assert_eq!((record.leased_at, record.finished_at), (Some(leased_at), Some(case.now())));
    assert_eq!((record.lease_expires_at, record.reason, record.message), (None, None, None));
    assert_eq!((record.usage, record.revision), (usage(1), Some(revision(1))));
}

/// A stale token settles nothing, and its report is dropped, whether the newer lease runs or is settled.
pub async fn stale_token_cannot_settle_a_newer_lease(case: Case) {
    let stale = case.leased_job().await;
    case.pass(TTL);
    let newer = case.lease_one().await;
    for settlement in every_settlement() {
        let before = case.record(stale.job).await;
        let late = Settle { progress: progress(1), log: lines(0..3), ..settle(stale, settlement) };
        assert_eq!(case.settle_with(late).await, SettleReply::Lost);
        assert_eq!((case.record(stale.job).await, case.log(stale.job).await), (before, vec![]));
    }
    case.applied(newer, succeed()).await;
    assert_eq!(case.settle(stale, bury()).await, SettleReply::Lost);
    assert_eq!(case.state_of(stale.job).await, State::Succeeded);
}

/// A lease that was taken back settles nothing, even before another has been handed out.
pub async fn a_lease_that_was_taken_back_settles_nothing(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL);
    case.sweep().await;
    let before = case.record(token.job).await;
    for settlement in every_settlement() {
        assert_eq!(case.settle(token, settlement).await, SettleReply::Lost);
    }
    assert_eq!(case.record(token.job).await, before);
}

/// A lease that has run out can be settled as long as nobody has taken it back: its number decides, not the clock.
pub async fn an_expired_lease_that_nobody_took_back_can_be_settled(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL + secs(60));
    case.applied(token, succeed()).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.expiries), (State::Succeeded, 0));
}

/// A settlement of an unknown job, which may have been removed, is answered as lost.
pub async fn an_unknown_job_cannot_be_settled(case: Case) {
    let token = LeaseToken { job: case.new_job().id, lease: LeaseNo(1) };
    for settlement in every_settlement() {
        assert_eq!(case.settle(token, settlement).await, SettleReply::Lost);
    }
    assert_eq!(case.counts().await, Counts::default());
}

/// A token settles only a lease of the tenant that the call is for.
pub async fn a_token_of_another_tenant_settles_nothing(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(case.of_another_tenant().settle(token, bury()).await, SettleReply::Lost);
    assert_eq!(case.state_of(token.job).await, State::Leased);
}

/// A settlement that is repeated, after its answer was lost, is answered as applied again and records nothing twice.
pub async fn a_lost_reply_can_be_repeated(case: Case) {
    for settlement in every_settlement() {
        let token = case.leased_job().await;
        let settle = Settle { progress: progress(1), log: lines(0..3), ..settle(token, settlement) };
        assert_eq!(case.settle_with(settle.clone()).await, SettleReply::Applied);
        let before = (case.record(token.job).await, case.log(token.job).await, case.counts().await);
        case.pass(secs(1));
        assert_eq!(case.settle_with(settle).await, SettleReply::Applied);
        let after = (case.record(token.job).await, case.log(token.job).await, case.counts().await);
        assert_eq!(after, before);
        case.drain().await;
    }
}

/// A retry counts an attempt, and its job is scheduled until the wait is over.
pub async fn a_retry_counts_an_attempt_and_waits(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, retry(secs(7))).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.due_at), (State::Scheduled, Some(case.now().after(secs(7)))));
    assert_eq!((record.reason, record.message.as_deref()), (Some(Reason::Failed), Some("no luck")));
    assert_eq!((record.attempts, record.lease, record.finished_at), (1, token.lease, None));
    assert_eq!((record.lease_expires_at, record.usage), (None, usage(1)));
    case.pass(secs(7) - ms(1));
    assert_eq!(case.drain().await, []);
    case.pass(ms(1));
    assert_eq!(case.drain().await, [token.job]);
}

/// A job that is retried without a wait is ready at once.
pub async fn a_retry_without_wait_is_ready_at_once(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, retry(Duration::ZERO)).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.due_at, record.attempts), (State::Ready, None, 1));
    assert_eq!(case.drain().await, [token.job]);
}

/// A release counts no attempt, as the guest isn't to blame for it.
pub async fn release_costs_no_attempt(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, release(secs(7))).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.due_at), (State::Scheduled, Some(case.now().after(secs(7)))));
    assert_eq!((record.reason, record.message), (Some(Reason::Drained), None));
    assert_eq!((record.attempts, record.expiries, record.lease), (0, 0, token.lease));
    case.pass(secs(7));
    assert_eq!(case.lease(1).await[0].job.attempts, 0);
}

/// A job that is released without a wait is ready at once.
pub async fn a_release_without_wait_is_ready_at_once(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, release(Duration::ZERO)).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.due_at, record.attempts), (State::Ready, None, 0));
    assert_eq!(case.drain().await, [token.job]);
}

/// A burial counts an attempt and keeps reason and message.
pub async fn a_burial_counts_an_attempt_and_says_why(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, bury()).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.reason), (State::Dead, Some(Reason::OutOfFuel)));
    assert_eq!((record.message.as_deref(), record.output), (Some("out of fuel"), None));
    assert_eq!((record.attempts, record.finished_at), (1, Some(case.now())));
}

/// A run that its holder stops as it is to be cancelled counts no attempt.
pub async fn a_cancelled_run_counts_no_attempt(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, Settlement::Cancel).await;
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Cancelled)));
    assert_eq!((record.message, record.attempts, record.finished_at), (None, 0, Some(case.now())));
}

/// Reason and message of a settlement stay until the next one. A success has neither.
pub async fn the_last_reason_stays_until_the_next_settlement(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, retry(Duration::ZERO)).await;
    let token = case.lease_one().await;
    let record = case.record(token.job).await;
    assert_eq!((record.reason, record.message.as_deref()), (Some(Reason::Failed), Some("no luck")));
    case.applied(token, release(Duration::ZERO)).await;
    let record = case.record(token.job).await;
    assert_eq!(
        (record.reason, record.message),
        (Some(Reason::Drained), None),
        "a message goes with its reason"
    );
    let token = case.lease_one().await;
    case.applied(token, succeed()).await;
    let record = case.record(token.job).await;
    assert_eq!((record.reason, record.message), (None, None));
}

/// A job that is to be cancelled is cancelled when it is retried or released, and not run again.
pub async fn who_is_to_be_cancelled_gets_no_further_attempt(case: Case) {
    for settlement in [retry(secs(5)), retry(secs(0)), release(secs(5)), release(secs(0))] {
        let token = case.leased_job().await;
        request_cancel(&case, token.job).await;
        let keep = Keep { done: secs(10), dead: secs(20), ..Keep::default() };
        case.settle_with(Settle { keep, ..settle(token, settlement) }).await;
        let record = case.record(token.job).await;
        assert_eq!((record.state, record.reason), (State::Cancelled, Some(Reason::Cancelled)));
        assert_eq!((record.message, record.attempts, record.due_at), (None, 0, None));
        assert_eq!((record.finished_at, record.usage), (Some(case.now()), usage(1)));
        case.pass(secs(10));
        assert_eq!(case.drain().await, []);
        assert_eq!(case.find(token.job).await, None);
    }
}

/// A success or a burial stands, even if a cancellation was requested before.
pub async fn what_ended_before_its_cancellation_was_seen_stands(case: Case) {
    for (settlement, state) in [(succeed(), State::Succeeded), (bury(), State::Dead)] {
        let token = case.leased_job().await;
        request_cancel(&case, token.job).await;
        case.applied(token, settlement).await;
        assert_eq!(case.state_of(token.job).await, state);
    }
}

/// A requested cancellation ends with its lease: it doesn't cancel the job after a redrive.
pub async fn a_wish_to_cancel_does_not_outlive_its_lease(case: Case) {
    let token = case.leased_job().await;
    request_cancel(&case, token.job).await;
    case.applied(token, bury()).await;
    let redriven = case.broker.redrive(&case.tenant, token.job).await.expect("a redrive succeeds");
    assert_eq!(redriven, Changed::Done);
    let token = case.lease_one().await;
    assert_eq!(case.renew(renew(token)).await, Renewal::Held);
    case.applied(token, retry(secs(1))).await;
    assert_eq!(case.state_of(token.job).await, State::Scheduled);
}

/// Usage is added up over all runs of a job, also failed ones. The revision is that of the latest run.
pub async fn usage_adds_up_over_all_runs(case: Case) {
    let first = case.leased_job().await;
    case.settle_with(Settle { ran: Some(ran(PLUGIN, usage(5))), ..settle(first, retry(secs(0))) }).await;
    let second = case.lease_one().await;
    case.settle_with(Settle { ran: None, ..settle(second, release(secs(0))) }).await;
    let record = case.record(first.job).await;
    assert_eq!((record.usage, record.revision), (usage(5), Some(revision(1))), "nothing ran");
    let third = case.lease_one().await;
    let mut newer = ran(PLUGIN, usage(2));
    newer.revision = revision(2);
    case.settle_with(Settle { ran: Some(newer), ..settle(third, succeed()) }).await;
    let sum = Usage { memory_peak: usage(5).memory_peak, ..usage(7) };
    let record = case.record(first.job).await;
    assert_eq!((record.usage, record.revision), (sum, Some(revision(2))));
}

/// The progress and log lines that come with a settlement are kept.
pub async fn a_settlement_brings_the_last_progress_and_log_lines(case: Case) {
    let token = case.leased_job().await;
    case.renew(Renew { progress: progress(1), log: lines(0..2), ..renew(token) }).await;
    case.settle_with(Settle { progress: progress(9), log: lines(2..4), ..settle(token, retry(secs(0))) })
        .await;
    assert_eq!(case.record(token.job).await.progress, progress(9));
    let token = case.lease_one().await;
    case.settle_with(Settle { log: lines(4..5), ..settle(token, succeed()) }).await;
    assert_eq!(case.record(token.job).await.progress, progress(9));
    assert_eq!(case.log(token.job).await, lines(0..5));
}

/// Each settlement of a batch is answered on its own; one that is refused doesn't affect the others.
pub async fn each_settlement_of_a_batch_stands_alone(case: Case) {
    case.enqueue_n(4).await;
    let [a, b, c, d] = <[_; 4]>::try_from(case.lease(4).await).expect("four leases").map(|lease| lease.token);
    case.applied(b, release(secs(1))).await;
    let stale = LeaseToken { lease: LeaseNo(7), ..b };
    let expect =
        |value: &str| effects(|effects| effects.swap(key("n"), Some(value.into()), b"9".to_vec(), None));
    let replies = case
        .settle_all(&[
            settle(a, succeed_with(add_to("n", 1))),
            settle(stale, bury()),
            settle(c, succeed_with(expect("0"))),
            settle(d, succeed_with(expect("1"))),
        ])
        .await;
    let conflict = SettleReply::Conflict { key: key("n") };
    assert_eq!(replies, [SettleReply::Applied, SettleReply::Lost, conflict, SettleReply::Applied]);
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Scheduled, 1), (State::Leased, 1), (State::Succeeded, 2)])
    );
    assert_eq!(case.stored(&key("n")).await, Some(b"9".to_vec()));
}

/// Of two settlements of one job in a batch the first counts, whatever it rests on.
pub async fn of_two_settlements_of_a_job_in_a_batch_the_first_counts(case: Case) {
    case.enqueue_n(2).await;
    let [a, b] = <[_; 2]>::try_from(case.lease(2).await).expect("two leases").map(|lease| lease.token);
    let stale = LeaseToken { lease: LeaseNo(7), ..a };
    let ends = |output: &[u8], effects| Settlement::Succeed { output: output.to_vec(), effects };
    let replies = case
        .settle_all(&[
            settle(stale, succeed_with(add_to("n", 1))),
            settle(b, ends(b"first", add_to("n", 1))),
            settle(b, ends(b"second", Effects::default())),
        ])
        .await;
    assert_eq!(replies[..2], [SettleReply::Lost, SettleReply::Applied]);
    assert_eq!(case.record(b.job).await.output, Some(b"first".to_vec()));
    assert_eq!(case.stored(&key("n")).await, Some(b"1".to_vec()));
}

/// A final job is kept for the time that its settlement names.
pub async fn the_keep_times_are_those_of_the_settlement(case: Case) {
    let keep = Keep { done: secs(10), dead: secs(20), ..Keep::default() };
    for settlement in [succeed(), Settlement::Cancel, bury()] {
        let token = case.leased_job().await;
        case.settle_with(Settle { keep, ..settle(token, settlement) }).await;
    }
    let kept_by_default = case.leased_job().await;
    case.applied(kept_by_default, succeed()).await;
    case.pass(secs(10));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 1), (State::Dead, 1)]));
    case.pass(secs(10));
    case.sweep().await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Succeeded, 1)]));
}
