//! Nothing waits that needn't: daemons hear of work by push.
//!
//! A wake too many is allowed, so these rules say only that one comes. They wait for it on the wall's clock, as it may
//! come over a connection; one that is missing fails the rule after a while.

use std::time::Duration;

use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::time::Timestamp;

use super::case::{Case, TTL};
use super::script::{bury, effects, ms, queue, queue_named, release, renew, retry, secs, succeed_with};
use crate::{Asker, Changed, LeaseAsk, Renewal, Wake, Wakes};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for the next wake.
pub(super) async fn next(wakes: &mut Wakes) -> Wake {
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
            Wake::Ready { tenant: woken, .. } if woken == *tenant => return,
            Wake::Ready { .. } | Wake::Cancel(..) | Wake::Due(_) | Wake::Events(_) => {}
        }
    }
}

/// The first wake of a stream is for all, as jobs may have come in before it began.
pub async fn the_first_wake_is_for_all(case: Case) {
    case.enqueue(case.new_job()).await;
    let mut wakes = case.broker.watch(vec![case.tenant.clone()]).await.expect("listening succeeds");
    assert_eq!(next(&mut wakes).await, Wake::All);
}

/// A job that comes into an empty queue wakes listeners, each time.
pub async fn a_job_in_an_empty_queue_wakes(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    for queue in ["a", "b", "a"] {
        case.enqueue(NewJob { queue: queue_named(queue), ..case.new_job() }).await;
        hear_of(&mut wakes, &case.tenant).await;
        case.ask(&[(queue_named("a"), 9)]).await;
    }
}

/// A job that is retried or released wakes listeners, as the daemon that gave it back may have no room for it.
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

/// A redriven job wakes listeners.
pub async fn a_redriven_job_wakes(case: Case) {
    let token = case.leased_job().await;
    case.applied(token, bury()).await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    case.broker.redrive(&case.tenant, token.job).await.expect("a redrive succeeds");
    hear_of(&mut wakes, &case.tenant).await;
}

/// A job that a run enqueues wakes listeners, also in another queue.
pub async fn a_job_of_a_run_wakes(case: Case) {
    let token = case.leased_job().await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    let child = NewJob { queue: queue_named("other"), ..case.new_job() };
    case.applied(token, succeed_with(effects(|effects| effects.enqueue(child)))).await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// A job that is due earlier than all others wakes listeners, which may sleep until the former time.
pub async fn an_earlier_time_wakes(case: Case) {
    let mut wakes = listen(&case, &[&case.tenant]).await;
    for delay in [secs(100), secs(10), ms(9_999)] {
        case.enqueue(NewJob { delay, ..case.new_job() }).await;
        hear_of(&mut wakes, &case.tenant).await;
    }
}

/// A job that a sweep makes ready wakes listeners, as the daemon that swept may have no use for it.
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

/// Every listener is woken.
pub async fn every_listener_is_woken(case: Case) {
    let mut first = listen(&case, &[&case.tenant]).await;
    let mut second = listen(&case, &[&case.tenant]).await;
    drop(listen(&case, &[&case.tenant]).await);
    case.enqueue(case.new_job()).await;
    hear_of(&mut first, &case.tenant).await;
    hear_of(&mut second, &case.tenant).await;
}

/// A daemon that asks for a job of the usual queue at a time.
struct Player {
    id: DaemonId,
    asks: u64,
}

impl Player {
    fn of(nth: u128) -> Self {
        Self { id: DaemonId::from_parts(Timestamp::from_millis(7), nth), asks: 0 }
    }

    /// Asks for `count` jobs, and returns how many came.
    async fn ask(&mut self, case: &Case, count: u32) -> usize {
        self.asks += 1;
        let asker = Some(Asker { daemon: self.id, number: self.asks, repeats: false });
        case.lease_as(LeaseAsk { asker, ..case.asking(&[(queue(), count)]) }).await.leases.len()
    }

    fn is_meant(&self, named: Option<DaemonId>) -> bool {
        named.is_none_or(|named| named == self.id)
    }
}

/// Players to whom a first ask brought nothing, and a listener who hears what they hear.
async fn waiting_players(case: &Case, count: u128) -> (Vec<Player>, Wakes) {
    let wakes = listen(case, &[&case.tenant]).await;
    let mut players: Vec<Player> = (0..count).map(Player::of).collect();
    for player in &mut players {
        assert_eq!(player.ask(case, 1).await, 0);
    }
    (players, wakes)
}

/// Who is named by the next wake for a tenant, if anybody is.
async fn named_next(wakes: &mut Wakes, case: &Case) -> Option<DaemonId> {
    loop {
        match next(wakes).await {
            Wake::All => return None,
            Wake::Ready { tenant, named } if tenant == case.tenant => return named,
            Wake::Ready { .. } | Wake::Cancel(..) | Wake::Due(_) | Wake::Events(_) => {}
        }
    }
}

/// A wake names a daemon that waits, so that one job costs one lease call even if there are many daemons.
pub async fn whoever_is_named_was_waiting(case: Case) {
    let (mut players, mut wakes) = waiting_players(&case, 3).await;
    for _ in 0..10 {
        case.enqueue(case.new_job()).await;
        let named = named_next(&mut wakes, &case).await;
        let mut came = 0;
        for player in players.iter_mut().filter(|player| player.is_meant(named)) {
            came += player.ask(&case, 2).await;
        }
        assert_eq!(came, 1, "whoever is told of a job gets it");
    }
}

/// A burst of jobs wakes as many waiting daemons as it takes to run them, without any of them having to look by itself.
pub async fn a_burst_brings_in_all_that_it_takes(case: Case) {
    let (mut players, mut wakes) = waiting_players(&case, 4).await;
    case.enqueue_n(4).await;
    let mut came = 0;
    while came < 4 {
        let named = named_next(&mut wakes, &case).await;
        for player in players.iter_mut().filter(|player| player.is_meant(named) && player.asks == 1) {
            assert_eq!(player.ask(&case, 1).await, 1, "there is one for each");
            came += 1;
        }
    }
}

/// A daemon that waits for another queue isn't named, as it would look in vain.
pub async fn who_waits_for_another_queue_is_not_named(case: Case) {
    let (mut players, mut wakes) = waiting_players(&case, 1).await;
    let mut other = Player::of(9);
    let asker = Some(Asker { daemon: other.id, number: 1, repeats: false });
    case.lease_as(LeaseAsk { asker, ..case.asking(&[(queue_named("other"), 1)]) }).await;
    for _ in 0..5 {
        case.enqueue(case.new_job()).await;
        let named = named_next(&mut wakes, &case).await;
        assert!(players[0].is_meant(named));
        assert_eq!(players[0].ask(&case, 2).await, 1);
    }
    assert_eq!(other.ask(&case, 1).await, 0);
}

/// A daemon that has asked for nothing since, as one does that is about to stop, isn't named.
pub async fn who_waits_no_more_is_not_named(case: Case) {
    let (mut players, mut wakes) = waiting_players(&case, 4).await;
    for player in &mut players[1..] {
        assert_eq!(player.ask(&case, 0).await, 0);
    }
    case.enqueue(case.new_job()).await;
    let named = named_next(&mut wakes, &case).await;
    assert!(players[0].is_meant(named));
    assert_eq!(players[0].ask(&case, 1).await, 1);
    case.enqueue(case.new_job()).await;
    assert_eq!(named_next(&mut wakes, &case).await, None, "nobody waits, so all are told");
}

/// One stream wakes for each of its tenants.
pub async fn each_tenant_is_woken_for(case: Case) {
    let other = case.of_another_tenant();
    let mut wakes = listen(&case, &[&case.tenant, &other.tenant]).await;
    other.enqueue(other.new_job()).await;
    hear_of(&mut wakes, &other.tenant).await;
    case.enqueue(case.new_job()).await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// A cancellation that is requested of a leased job wakes its holder, so that the run ends before its next renewal. Each
/// request does.
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
                Wake::Cancel(..) | Wake::Ready { .. } | Wake::Due(_) | Wake::Events(_) => {}
            }
        }
        assert_eq!(case.renew(renew(token)).await, Renewal::CancelRequested);
    }
}
