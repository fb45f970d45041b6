//! Holders say that they are alive, and how far they have come.

use sandhog_core::id::LeaseNo;
use sandhog_core::job::State;

use super::case::{Case, TTL};
use super::script::{lines, ms, progress, release, renew, secs, succeed};
use crate::{Changed, LOG_LINES_KEPT, Renew, Renewal};

/// A renewed lease holds for its full time from now on, not from when it would have run out.
pub async fn a_renewal_holds_from_now_on(case: Case) {
    let token = case.leased_job().await;
    let leased_at = case.now();
    case.pass(secs(10));
    assert_eq!(case.renew(renew(token)).await, Renewal::Held);
    let record = case.record(token.job).await;
    assert_eq!((record.lease, record.leased_at), (token.lease, Some(leased_at)));
    assert_eq!(record.lease_expires_at, Some(case.now().after(TTL)));
    case.pass(TTL - ms(1));
    assert_eq!(case.sweep().await.next_due, Some(ms(1)));
    assert_eq!(case.state_of(token.job).await, State::Leased);
}

/// A stale token renews no lease, and its progress and log lines are dropped.
pub async fn a_stale_token_renews_nothing(case: Case) {
    let stale = case.leased_job().await;
    case.applied(stale, release(secs(0))).await;
    let newer = case.lease_one().await;
    case.pass(secs(1));
    let before = case.record(stale.job).await;
    let report = Renew { token: stale, progress: progress(5), log: lines(0..2) };
    assert_eq!(case.renew(report.clone()).await, Renewal::Lost);
    let never = Renew { token: sandhog_core::id::LeaseToken { lease: LeaseNo(9), ..newer }, ..report };
    assert_eq!(case.renew(never).await, Renewal::Lost);
    assert_eq!((case.record(stale.job).await, case.log(stale.job).await), (before, vec![]));
}

/// A lease that has run out can be renewed as long as nobody has taken it back: its number decides, not the clock.
pub async fn an_expired_lease_that_nobody_took_back_can_be_renewed(case: Case) {
    let token = case.leased_job().await;
    case.pass(TTL + secs(60));
    assert_eq!(case.renew(renew(token)).await, Renewal::Held);
    assert_eq!(case.drain().await, []);
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.expiries), (State::Leased, 0));
}

/// The latest progress is kept, through renewals without any and after the lease.
pub async fn the_last_progress_wins_and_stays(case: Case) {
    let token = case.leased_job().await;
    for latest in [progress(1), progress(2), None] {
        case.renew(Renew { progress: latest, ..renew(token) }).await;
    }
    assert_eq!(case.record(token.job).await.progress, progress(2));
    case.applied(token, release(secs(0))).await;
    assert_eq!(case.record(token.job).await.progress, progress(2));
}

/// Log lines are appended, and the latest [`LOG_LINES_KEPT`] are kept.
pub async fn log_lines_are_appended_and_the_oldest_go_first(case: Case) {
    let token = case.leased_job().await;
    case.renew(Renew { log: lines(0..2), ..renew(token) }).await;
    case.renew(Renew { log: lines(2..5), ..renew(token) }).await;
    assert_eq!(case.log(token.job).await, lines(0..5));
    let kept = LOG_LINES_KEPT as u64;
    case.renew(Renew { log: lines(5..kept), ..renew(token) }).await;
    assert_eq!(case.log(token.job).await, lines(0..kept));
    case.renew(Renew { log: lines(kept..kept + 3), ..renew(token) }).await;
    assert_eq!(case.log(token.job).await, lines(3..kept + 3));
    case.renew(Renew { log: lines(9_000..9_500 + kept), ..renew(token) }).await;
    assert_eq!(case.log(token.job).await, lines(9_500..9_500 + kept));
}

/// Each renewal is answered with a requested cancellation, and still prolongs the lease, so that the holder can stop in good
/// order.
pub async fn a_cancellation_is_seen_at_each_renewal(case: Case) {
    let token = case.leased_job().await;
    let cancelled = case.broker.cancel(&case.tenant, token.job).await.expect("a cancellation succeeds");
    assert_eq!(cancelled, Changed::Requested);
    for _ in 0..2 {
        case.pass(secs(20));
        assert_eq!(case.renew(renew(token)).await, Renewal::CancelRequested);
        assert_eq!(case.record(token.job).await.lease_expires_at, Some(case.now().after(TTL)));
    }
}

/// Each renewal of a batch is answered on its own, in order; a stale one doesn't affect the others.
pub async fn renewals_are_answered_one_by_one_in_order(case: Case) {
    case.enqueue_n(3).await;
    let [a, b, c] = <[_; 3]>::try_from(case.lease(3).await).expect("three leases").map(|lease| lease.token);
    case.broker.cancel(&case.tenant, c.job).await.expect("a cancellation succeeds");
    case.applied(a, succeed()).await;
    let renewals = case.broker.renew(&case.tenant, TTL, &[c, a, b].map(renew)).await;
    assert_eq!(
        renewals.expect("a renewal succeeds"),
        [Renewal::CancelRequested, Renewal::Lost, Renewal::Held]
    );
}

/// A lease that is settled can't be renewed, even with the token that settled it.
pub async fn a_settled_lease_renews_no_more(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, succeed()).await;
    let before = case.record(token.job).await;
    let report = Renew { token, progress: progress(5), log: lines(0..2) };
    assert_eq!(case.renew(report).await, Renewal::Lost);
    assert_eq!((case.record(token.job).await, case.log(token.job).await), (before, vec![]));
}

/// A token renews only a lease of the tenant that the call is for.
pub async fn a_token_of_another_tenant_renews_nothing(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(case.of_another_tenant().renew(renew(token)).await, Renewal::Lost);
}
