//! Rate limits, which hold for the whole fleet.

use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::id::{JobId, Kind, RateName};
use sandhog_core::job::NewJob;
use sandhog_core::rate::Rate;

use super::case::Case;
use super::script::{ms, plugin, queue, retry, secs, settle, succeed};
use crate::{LaneAsk, LeaseAsk, Leased, RateLimit, RateOf};

fn not_zero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("it isn't 0")
}

fn per_second(count: u32, burst: Option<u32>) -> Rate {
    Rate::new(not_zero(count), 1_000_000, burst.map(not_zero)).expect("a valid rate")
}

fn stripe() -> RateOf {
    RateOf::Named(RateName::parse("stripe").expect("a valid name"))
}

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("a valid kind")
}

fn lane(name: &str, room: u32, of: RateOf, rate: Rate) -> LaneAsk {
    LaneAsk { rate: Some(RateLimit { of, rate }), ..LaneAsk::new(queue(), kind(name), room) }
}

async fn enqueue(case: &Case, name: &str, n: usize) -> Vec<JobId> {
    let jobs: Vec<NewJob> = (0..n).map(|_| NewJob { kind: kind(name), ..case.new_job() }).collect();
    case.enqueue_all(&jobs).await;
    jobs.into_iter().map(|job| job.id).collect()
}

async fn lease(case: &Case, n: u32, lanes: &[LaneAsk]) -> Leased {
    let queues = [(queue(), n)];
    case.lease_as(LeaseAsk { lanes, ..case.asking(&queues) }).await
}

fn ids(leased: &Leased) -> Vec<JobId> {
    leased.leases.iter().map(|lease| lease.token.job).collect()
}

/// No more jobs of a rate are leased within a time than it allows, over all daemons. Other jobs of the queue aren't held up.
pub async fn no_more_are_leased_within_a_time_than_the_rate_says(case: Case) {
    let pay = enqueue(&case, "pay", 9).await;
    let other = enqueue(&case, "other", 1).await;
    let rate = per_second(10, Some(2));
    let lanes = [lane("pay", 9, stripe(), rate)];
    let leased = lease(&case, 9, &lanes).await;
    assert_eq!(ids(&leased), [&pay[..2], &other[..]].concat());
    assert_eq!(leased.next_token, Some(ms(100)));
    assert_eq!(ids(&lease(&case, 9, &lanes).await), []);
    case.pass(ms(99));
    let leased = lease(&case, 9, &lanes).await;
    assert_eq!((ids(&leased), leased.next_token), (vec![], Some(ms(1))));
    case.pass(ms(1));
    assert_eq!(ids(&lease(&case, 9, &lanes).await), pay[2..3]);
    case.pass(secs(60));
    let leased = lease(&case, 9, &lanes).await;
    assert_eq!((ids(&leased), leased.next_token), (pay[3..5].to_vec(), Some(ms(100))));
}

/// Over some time, as many jobs are leased as the rate allows, within 1%, if daemons ask when they are told to.
pub async fn over_some_time_as_many_are_leased_as_the_rate_says(case: Case) {
    enqueue(&case, "pay", 1_500).await;
    let lanes = [lane("pay", 100, stripe(), per_second(100, None))];
    let (mut count, mut left) = (0, secs(10));
    loop {
        // Two daemons ask by turns.
        let both = [lease(&case, 100, &lanes).await, lease(&case, 100, &lanes).await];
        count += both.iter().map(|leased| leased.leases.len()).sum::<usize>();
        let wait = both[1].next_token.expect("all tokens are taken");
        if wait >= left {
            break;
        }
        left -= wait;
        case.pass(wait);
        let done: Vec<_> = both
            .iter()
            .flat_map(|leased| &leased.leases)
            .map(|lease| settle(lease.token, succeed()))
            .collect();
        case.settle_all(&done).await;
    }
    assert!((990..=1_010).contains(&count), "{count}");
}

/// Kinds whose rates have the same name share its tokens.
pub async fn kinds_share_a_rate_by_its_name(case: Case) {
    let (pay, refund) = (enqueue(&case, "pay", 2).await, enqueue(&case, "refund", 2).await);
    let rate = per_second(1, Some(3));
    let lanes = [lane("pay", 9, stripe(), rate), lane("refund", 9, stripe(), rate)];
    assert_eq!(ids(&lease(&case, 9, &lanes).await), [&pay[..], &refund[..1]].concat());
    let own = RateOf::Plugin(plugin("refund"));
    assert_eq!(ids(&lease(&case, 9, &[lane("refund", 9, own, rate)]).await), refund[1..], "another name");
}

/// Each lease takes a token of its own, and a retry gives none back.
pub async fn each_try_takes_a_token(case: Case) {
    let pay = enqueue(&case, "pay", 2).await;
    let lanes = [lane("pay", 9, stripe(), per_second(1, Some(1)))];
    let leased = lease(&case, 1, &lanes).await;
    assert_eq!(ids(&leased), pay[..1]);
    case.applied(leased.leases[0].token, retry(Duration::ZERO)).await;
    assert_eq!(ids(&lease(&case, 9, &lanes).await), []);
    case.pass(secs(1));
    assert_eq!(ids(&lease(&case, 9, &lanes).await), pay[1..]);
    case.pass(secs(1));
    assert_eq!(ids(&lease(&case, 9, &lanes).await), pay[..1]);
}

/// A changed rate applies at once: tokens that a slower one has taken aren't waited for.
pub async fn a_rate_that_is_changed_holds_at_once(case: Case) {
    let pay = enqueue(&case, "pay", 3).await;
    let slow = Rate::new(not_zero(1), 3_600_000_000, None).expect("a valid rate");
    assert_eq!(ids(&lease(&case, 9, &[lane("pay", 9, stripe(), slow)]).await), pay[..1]);
    let fast = [lane("pay", 9, stripe(), per_second(10, Some(1)))];
    let leased = lease(&case, 9, &fast).await;
    assert_eq!((ids(&leased), leased.next_token), (vec![], Some(ms(100))));
    case.pass(ms(100));
    assert_eq!(ids(&lease(&case, 9, &fast).await), pay[1..2]);
}

/// A lane that hands out no job takes no token.
pub async fn a_lane_without_jobs_or_room_takes_no_token(case: Case) {
    let rate = per_second(1, Some(1));
    assert_eq!(lease(&case, 9, &[lane("pay", 9, stripe(), rate)]).await.next_token, None);
    let pay = enqueue(&case, "pay", 1).await;
    assert_eq!(ids(&lease(&case, 9, &[lane("pay", 0, stripe(), rate)]).await), []);
    assert_eq!(ids(&lease(&case, 9, &[lane("pay", 9, stripe(), rate)]).await), pay);
}
