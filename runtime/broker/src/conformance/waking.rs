//! Nothing waits that needn't: daemons hear of work by push.
//!
//! A wake too many is allowed, so these rules say only that one comes. They wait for it on the wall's clock, as it may
//! come over a connection; one that is missing fails the rule after a while.

use std::time::Duration;

use sandhog_core::id::TenantId;
use sandhog_core::job::NewJob;

use super::case::{Case, TTL};
use super::script::{bury, effects, ms, queue_named, release, renew, retry, secs, succeed_with};
use crate::{Changed, Renewal, Wake, Wakes};

const PATIENCE: Duration = Duration::from_secs(20);

async fn next(wakes: &mut Wakes) -> Wake {
    let wake = tokio::time::timeout(PATIENCE, wakes.next()).await.expect("a wake comes");
    wake.expect("the broker is open")
}

/// A stream that has told its first [`Wake::All`].
pub(super) async fn listen(case: &Case, tenants: &[&TenantId]) -> Wakes {
    let tenants = tenants.iter().copied().cloned().collect();
    let mut wakes = case.broker.watch(tenants).await.expect("listening succeeds");
    assert_eq!(next(&mut wakes).await, Wake::All);
    wakes
}

/// Waits for news that concern this tenant.
pub(super) async fn hear_of(wakes: &mut Wakes, tenant: &TenantId) {
    loop {
        match next(wakes).await {
            Wake::All => return,
            Wake::Ready(woken) if woken == *tenant => return,
            Wake::Ready(_) | Wake::Cancel(..) => {}
        }
    }
}

/// Something may have come in before it listened.
pub async fn the_first_wake_is_for_all(case: Case) {
    case.enqueue(case.new_job()).await;
    let mut wakes = case.broker.watch(vec![case.tenant.clone()]).await.expect("listening succeeds");
    assert_eq!(next(&mut wakes).await, Wake::All);
}

/// Each time that it was empty.
pub async fn a_job_in_an_empty_queue_wakes(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    for queue in ["a", "b", "a"] {
        case.enqueue(NewJob { queue: queue_named(queue), ..case.new_job() }).await;
        hear_of(&mut wakes, &case.tenant).await;
        case.ask(&[(queue_named("a"), 9)]).await;
    }
}

/// Whoever gave it back may have no room for it.
pub async fn a_job_that_comes_back_wakes(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    case.enqueue(case.new_job()).await;
    hear_of(&mut wakes, &case.tenant).await;
    for settlement in [release(Duration::ZERO), retry(Duration::ZERO), release(secs(5)), retry(secs(1))] {
        let token = case.lease_one().await;
        case.applied(token, settlement).await;
        hear_of(&mut wakes, &case.tenant).await;
        case.pass(secs(5));
    }
}

/// As any job that becomes ready.
pub async fn a_redriven_job_wakes(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, bury()).await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    case.broker.redrive(&case.tenant, token.job).await.expect("a redrive succeeds");
    hear_of(&mut wakes, &case.tenant).await;
}

/// Also in a queue that its own plugin knows nothing of.
pub async fn a_job_of_a_run_wakes(case: Case) {
    let token = case.leased_job().await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    let child = NewJob { queue: queue_named("other"), ..case.new_job() };
    case.applied(token, succeed_with(effects(|effects| effects.enqueue(child)))).await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// Whoever sleeps until the next time has to learn of an earlier one.
pub async fn an_earlier_time_wakes(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    for delay in [secs(100), secs(10), ms(9_999)] {
        case.enqueue(NewJob { delay, ..case.new_job() }).await;
        hear_of(&mut wakes, &case.tenant).await;
    }
}

/// The one who promoted it may want other queues, or fewer.
pub async fn what_was_promoted_and_not_handed_out_wakes(case: Case) {
    case.enqueue(NewJob { delay: secs(1), ..case.new_job() }).await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    case.pass(secs(1));
    case.sweep().await;
    hear_of(&mut wakes, &case.tenant).await;
    case.lease_one().await;
    case.pass(TTL);
    case.sweep().await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// None takes the news from another.
pub async fn every_listener_is_woken(case: Case) {
    let mut first = listen(&case, &[&case.tenant]).await;
    let mut second = listen(&case, &[&case.tenant]).await;
    drop(listen(&case, &[&case.tenant]).await);
    case.enqueue(case.new_job()).await;
    hear_of(&mut first, &case.tenant).await;
    hear_of(&mut second, &case.tenant).await;
}

/// One stream serves a daemon of many tenants.
pub async fn each_tenant_is_woken_for(case: Case) {
    let other = case.of_another_tenant();
    let mut wakes = listen(&case, &[&case.tenant, &other.tenant]).await;
    other.enqueue(other.new_job()).await;
    hear_of(&mut wakes, &other.tenant).await;
    case.enqueue(case.new_job()).await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// So that a run ends at once, and not at its next renewal. Whoever asks again is told again.
pub async fn a_leased_job_that_is_to_be_cancelled_wakes(case: Case) {
    let token = case.leased_job().await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    for _ in 0..2 {
        let cancelled = case.broker.cancel(&case.tenant, token.job).await.expect("a cancellation succeeds");
        assert_eq!(cancelled, Changed::Requested);
        loop {
            match next(&mut wakes).await {
                Wake::Cancel(tenant, job) if (&tenant, job) == (&case.tenant, token.job) => break,
                // Something may have been missed, so it may have been this.
                Wake::All => break,
                Wake::Cancel(..) | Wake::Ready(_) => {}
            }
        }
        assert_eq!(case.renew(renew(token)).await, Renewal::CancelRequested);
    }
}
