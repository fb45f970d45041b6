//! People and programs look at what is there.

use sandhog_core::job::{NewJob, Priority, State};
use sandhog_core::settle::Settlement;

use super::case::Case;
use super::script::{bury, lines, ms, queue_named, renew, secs, succeed};
use crate::{Counts, Query, Renew};

/// Ready ones as they are handed out, whatever their queue; the others by their time, then by id.
pub async fn waiting_jobs_are_listed_in_the_order_in_which_they_go(case: Case) {
    let of = |name, priority, delay| NewJob {
        queue: queue_named(name),
        priority: Priority(priority),
        delay: ms(delay),
        ..case.new_job()
    };
    let ready = [of("b", 100, 0), of("a", 100, 0), of("default", 200, 0), of("a", 255, 0)];
    let scheduled = [of("b", 0, 20), of("a", 255, 30), of("a", 0, 10), of("a", 0, 20)];
    let [r1, r2, r3, r4] = ready.each_ref().map(|job| job.id);
    let [s1, s2, s3, s4] = scheduled.each_ref().map(|job| job.id);
    let mut batch = [ready, scheduled].concat();
    batch.swap(4, 7);
    case.enqueue_all(&batch).await;
    assert_eq!(case.list(State::Ready).await, [r4, r3, r1, r2]);
    assert_eq!(case.list(State::Scheduled).await, [s3, s1, s4, s2]);
    let asks = [(queue_named("a"), 2), (queue_named("b"), 1)];
    let leases = case.ask(&asks).await.leases;
    assert_eq!(case.list(State::Leased).await, [r1, r2, r4]);
    case.pass(ms(1));
    case.renew(renew(leases[1].token)).await;
    assert_eq!(case.list(State::Leased).await, [r1, r4, r2]);
}

/// Of those that ended at the same time, the one with the greatest id.
pub async fn final_jobs_are_listed_latest_first(case: Case) {
    for (settlement, state) in
        [(succeed(), State::Succeeded), (bury(), State::Dead), (Settlement::Cancel, State::Cancelled)]
    {
        let ids = case.enqueue_n(4).await;
        let tokens: Vec<_> = case.lease(4).await.iter().map(|lease| lease.token).collect();
        for nth in [3, 0, 2] {
            case.applied(tokens[nth], settlement.clone()).await;
            if nth == 3 {
                case.pass(secs(1));
            }
        }
        case.pass(secs(1));
        case.applied(tokens[1], settlement).await;
        assert_eq!(case.list(state).await, [ids[1], ids[2], ids[0], ids[3]]);
    }
}

/// Pages of any state fit together, and hold whole records.
pub async fn a_page_holds_what_was_asked_for(case: Case) {
    let ids = case.enqueue_n(5).await;
    let page = |offset, limit| case.page(Query { state: State::Ready, offset, limit });
    let found: Vec<_> =
        page(0, 2).await.into_iter().chain(page(2, 2).await).chain(page(4, 2).await).collect();
    assert_eq!(found.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
    assert_eq!(found[3], case.record(ids[3]).await);
    assert_eq!((page(5, 2).await, page(u64::MAX, 2).await), (vec![], vec![]));
    assert_eq!(case.list(State::Dead).await, []);
}

/// Nor is it empty where something is there.
pub async fn a_page_is_never_larger_than_the_limit(case: Case) {
    case.enqueue_n(Query::LIMIT_MAX as usize + 1).await;
    for (limit, found) in [(0, 1), (1, 1), (u32::MAX, Query::LIMIT_MAX as usize)] {
        assert_eq!(case.page(Query { state: State::Ready, offset: 0, limit }).await.len(), found);
    }
}

/// At every step of every job.
pub async fn counts_are_exact(case: Case) {
    assert_eq!(case.counts().await, Counts::default());
    case.enqueue_n(4).await;
    let late = case.enqueue(NewJob { delay: secs(5), ..case.new_job() }).await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 1), (State::Ready, 4)]));
    let tokens: Vec<_> = case.lease(3).await.iter().map(|lease| lease.token).collect();
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Scheduled, 1), (State::Ready, 1), (State::Leased, 3)])
    );
    case.applied(tokens[0], succeed()).await;
    case.applied(tokens[1], bury()).await;
    case.applied(tokens[2], Settlement::Cancel).await;
    assert_eq!(
        case.counts().await,
        Counts::of(&[
            (State::Scheduled, 1),
            (State::Ready, 1),
            (State::Succeeded, 1),
            (State::Dead, 1),
            (State::Cancelled, 1)
        ])
    );
    case.broker.cancel(&case.tenant, late).await.expect("a cancellation succeeds");
    case.broker.redrive(&case.tenant, tokens[1].job).await.expect("a redrive succeeds");
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Ready, 2), (State::Succeeded, 1), (State::Cancelled, 2)])
    );
}

/// And that is no error.
pub async fn nothing_is_known_of_an_unknown_job(case: Case) {
    let id = case.new_job().id;
    assert_eq!((case.find(id).await, case.log(id).await), (None, vec![]));
}

/// Whatever they look at.
pub async fn tenants_see_their_own_jobs_alone(case: Case) {
    let token = case.leased_job().await;
    case.renew(Renew { log: lines(0..2), ..renew(token) }).await;
    case.enqueue_n(2).await;
    let other = case.of_another_tenant();
    assert_eq!((other.find(token.job).await, other.log(token.job).await), (None, vec![]));
    assert_eq!((other.list(State::Ready).await, other.list(State::Leased).await), (vec![], vec![]));
    assert_eq!(other.counts().await, Counts::default());
    assert_eq!(other.lease(10).await, []);
    assert_eq!(other.sweep().await.next_due, None);
}

/// There may be warnings.
pub async fn a_fit_store_passes_its_check(case: Case) {
    case.broker.check().await.expect("the store is fit");
}
