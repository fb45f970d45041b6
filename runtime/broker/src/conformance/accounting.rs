//! What runs spend is added up, exactly once, in the step that settles them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use sandhog_core::account::{Account, Day, DayUsage, RunEnd, Traffic};
use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::effects::Effects;
use sandhog_core::id::{LeaseNo, LeaseToken};
use sandhog_core::outcome::Usage;
use sandhog_core::quota::{FuelQuota, FuelSpent, OnEmpty};
use sandhog_core::settle::Settlement;

use super::case::{Case, TTL};
use super::script::{
    PLUGIN, bury, effects, key, plugin, queue, ran, release, retry, secs, settle, succeed, succeed_with,
    traffic, usage,
};
use crate::{Ran, Settle, USAGE_DAYS_KEPT};

const DAY: Duration = Duration::from_millis(Day::MILLIS);

const EVER: RangeInclusive<Day> = Day(0)..=Day(u32::MAX);

async fn usage_of(case: &Case, days: RangeInclusive<Day>) -> Vec<DayUsage> {
    case.broker.usage(&case.tenant, days).await.expect("a look succeeds")
}

/// What the usual plugin has spent, ever.
async fn spent(case: &Case) -> Account {
    let all = usage_of(case, EVER).await;
    all.iter().fold(Account::default(), |sum, of_day| sum.and(&of_day.account))
}

fn run(end: RunEnd) -> Account {
    Account::of(end, usage(1), traffic(1))
}

/// Each settled run adds its usage and traffic to the account of its plugin, and is counted under the way it ended.
pub async fn every_settled_run_is_counted_by_its_end(case: Case) {
    assert_eq!(usage_of(&case, EVER).await, []);
    let mut expected = Account::default();
    let endings = [
        (succeed(), RunEnd::Succeeded),
        (retry(Duration::ZERO), RunEnd::Retried),
        (release(Duration::ZERO), RunEnd::Released),
        (bury(), RunEnd::Dead),
        (Settlement::Cancel, RunEnd::Cancelled),
    ];
    for (settlement, end) in endings {
        case.enqueue(case.new_job()).await;
        case.applied(case.lease_one().await, settlement).await;
        expected = expected.and(&run(end));
        let today = DayUsage { day: Day::of(case.now()), plugin: plugin(PLUGIN), account: expected };
        assert_eq!(usage_of(&case, EVER).await, [today]);
    }
    assert_eq!(spent(&case).await.attempts(), 3);
}

/// A settlement with a stale token is added to no account: the lease has gone to another holder by then.
pub async fn a_stale_token_spends_nothing(case: Case) {
    let stale = case.leased_job().await;
    case.pass(TTL);
    let newer = case.lease_one().await;
    let (late, in_time) = (settle(stale, succeed()), settle(newer, retry(Duration::ZERO)));
    assert_eq!(case.settle_all(std::slice::from_ref(&late)).await, [SettleReply::Lost]);
    assert_eq!(usage_of(&case, EVER).await, []);
    assert_eq!(case.settle_all(&[late, in_time]).await, [SettleReply::Lost, SettleReply::Applied]);
    assert_eq!(spent(&case).await, run(RunEnd::Retried));
}

/// A repeated settlement is added up once. One that was refused for a conflict is not added up until the run is settled in
/// another way.
pub async fn a_repeated_settlement_spends_nothing_twice(case: Case) {
    let token = case.leased_job().await;
    let clash = succeed_with(effects(|effects| {
        effects.swap(key("owner"), Some(b"nobody".to_vec()), b"me".to_vec(), None);
    }));
    assert_eq!(case.settle(token, clash).await, SettleReply::Conflict { key: key("owner") });
    assert_eq!(usage_of(&case, EVER).await, []);
    for _ in 0..2 {
        case.applied(token, retry(Duration::ZERO)).await;
        assert_eq!(spent(&case).await, run(RunEnd::Retried));
    }
}

/// A run that is given back after its job was cancelled is counted as cancelled, not as released.
pub async fn a_run_whose_job_is_cancelled_is_counted_as_that(case: Case) {
    let tokens = [case.leased_job().await, case.leased_job().await];
    case.broker.cancel(&case.tenant, tokens[0].job).await.expect("a cancellation succeeds");
    case.settle_all(&tokens.map(|token| settle(token, release(Duration::ZERO)))).await;
    assert_eq!(spent(&case).await, run(RunEnd::Cancelled).and(&run(RunEnd::Released)));
}

/// A job that is settled without a run is added to no account.
pub async fn what_did_not_run_spends_nothing(case: Case) {
    let token = case.leased_job().await;
    case.settle_with(Settle { ran: None, ..settle(token, bury()) }).await;
    assert_eq!(usage_of(&case, EVER).await, []);
}

/// Usage is added up by plugin and by tenant, whether runs are settled in one batch or one by one.
pub async fn each_plugin_has_its_own_account(case: Case) {
    case.enqueue_n(6).await;
    let tokens: Vec<_> = case.lease(6).await.into_iter().map(|lease| lease.token).collect();
    let batch: Vec<Settle> = tokens
        .iter()
        .zip(["report", PLUGIN, "report", PLUGIN, "report", "a.b-c_d"])
        .map(|(token, name)| Settle { ran: Some(ran(name, usage(2))), ..settle(*token, succeed()) })
        .collect();
    case.settle_all(&batch).await;
    let one = Account::of(RunEnd::Succeeded, usage(2), traffic(1));
    let times = |n: usize| (0..n).fold(Account::default(), |sum, _| sum.and(&one));
    let all = usage_of(&case, EVER).await;
    let all: BTreeMap<&str, Account> = all.iter().map(|of| (of.plugin.as_str(), of.account)).collect();
    assert_eq!(all, BTreeMap::from([("a.b-c_d", times(1)), ("report", times(3)), (PLUGIN, times(2))]));
    assert_eq!(usage_of(&case.of_another_tenant(), EVER).await, []);
}

/// Usage is added to the day of the settlement, in UTC by the broker's clock.
pub async fn days_are_told_apart(case: Case) {
    let mut days = Vec::new();
    for _ in 0..3 {
        let token = case.leased_job().await;
        case.pass(DAY);
        case.applied(token, succeed()).await;
        days.push(Day::of(case.now()));
    }
    let row = |day: &Day| DayUsage { day: *day, plugin: plugin(PLUGIN), account: run(RunEnd::Succeeded) };
    assert_eq!(usage_of(&case, EVER).await, days.iter().map(row).collect::<Vec<_>>());
    assert_eq!(usage_of(&case, days[1]..=days[1]).await, [row(&days[1])]);
    assert_eq!(usage_of(&case, days[1]..=Day(u32::MAX)).await, [row(&days[1]), row(&days[2])]);
    assert_eq!(usage_of(&case, Day(0)..=days[0].before(1)).await, []);
}

/// Usage is kept for [`USAGE_DAYS_KEPT`] days, so that the store doesn't grow for ever.
pub async fn what_was_spent_long_ago_is_forgotten(case: Case) {
    case.applied(case.leased_job().await, succeed()).await;
    case.pass(DAY * USAGE_DAYS_KEPT);
    assert_eq!(spent(&case).await, run(RunEnd::Succeeded));
    case.pass(DAY);
    assert_eq!(usage_of(&case, EVER).await, []);
    case.applied(case.leased_job().await, retry(Duration::ZERO)).await;
    assert_eq!(spent(&case).await, run(RunEnd::Retried));
}

/// Sums are exact where a 64-bit float is not, and stay at [`Account::MOST`] once they reach it.
pub async fn great_numbers_are_exact(case: Case) {
    let odd = (1 << 53) + 1;
    let great = |n: u64| Settle {
        ran: Some(Ran {
            traffic: Traffic { input: Bytes(n), output: Bytes(n - 1) },
            ..ran(
                PLUGIN,
                Usage {
                    fuel: Fuel(n),
                    memory_peak: Bytes::mib(4096),
                    wall: Duration::from_micros(n >> 10),
                    cpu: Duration::from_micros(n),
                    host_calls: n,
                },
            )
        }),
        ..settle(
            LeaseToken { job: case.new_job().id, lease: LeaseNo(1) },
            Settlement::Succeed { output: Vec::new(), effects: Effects::default() },
        )
    };
    let mut expected = Account::default();
    for numbers in [vec![odd, odd + 2], vec![odd], vec![u64::MAX, 1], vec![odd]] {
        let mut batch = Vec::new();
        for n in numbers {
            let settle = Settle { token: case.leased_job().await, ..great(n) };
            let ran = settle.ran.as_ref().expect("it ran");
            expected = expected.and(&Account::of(RunEnd::Succeeded, ran.usage, ran.traffic));
            batch.push(settle);
        }
        case.settle_all(&batch).await;
        assert_eq!(spent(&case).await, expected);
    }
    assert_eq!((expected.fuel, expected.runs[0]), (Fuel(Account::MOST), 6));
}

/// No job is leased while a quota of fuel is used up. Jobs stay ready meanwhile, and are leased as soon as the minute or the
/// day is over.
pub async fn nothing_is_handed_out_while_a_quota_of_fuel_is_used_up(case: Case) {
    let Usage { fuel: Fuel(each), .. } = usage(1);
    let per_minute = FuelQuota { per_minute: Some(Fuel(2 * each)), ..FuelQuota::default() };
    let per_day = FuelQuota { per_day: Some(Fuel(3 * each)), ..FuelQuota::default() };
    let both = FuelQuota { per_day: per_day.per_day, ..per_minute };
    case.enqueue_n(9).await;
    let until_midnight = FuelSpent::at(case.now(), Fuel(0), Fuel(0)).day_left;
    case.pass(until_midnight);
    for nth in 0..2 {
        let leased = case.ask_within(&[(queue(), 1)], Some(both)).await;
        assert_eq!(leased.spent, Some(FuelSpent::at(case.now(), Fuel(nth * each), Fuel(nth * each))));
        case.applied(leased.leases[0].token, retry(secs(3 * 86_400))).await;
    }
    let held = case.ask_within(&[(queue(), 1)], Some(both)).await;
    assert_eq!(held.leases, []);
    assert_eq!(held.spent, Some(FuelSpent::at(case.now(), Fuel(2 * each), Fuel(2 * each))));
    assert_eq!(
        case.ask_within(&[(queue(), 1)], Some(per_day)).await.leases.len(),
        1,
        "the day has some left"
    );
    case.pass(secs(60));
    let token = case.ask_within(&[(queue(), 1)], Some(both)).await.leases[0].token;
    case.applied(token, retry(secs(3 * 86_400))).await;
    let held = case.ask_within(&[(queue(), 1)], Some(both)).await;
    assert_eq!((held.leases, held.spent.map(|spent| spent.minute)), (vec![], Some(Fuel(each))));
    case.pass(secs(60));
    assert_eq!(
        case.ask_within(&[(queue(), 1)], Some(both)).await.leases,
        [],
        "the day is no longer than a minute"
    );
    case.pass(FuelSpent::at(case.now(), Fuel(0), Fuel(0)).day_left);
    assert_eq!(case.ask_within(&[(queue(), 1)], Some(both)).await.leases.len(), 1);
}

/// A quota that rejects or idles when it is used up doesn't stop leases: the broker reports the fuel spent, and the caller
/// decides what becomes of the jobs.
pub async fn a_quota_that_does_not_hold_hands_out_and_tells_what_was_spent(case: Case) {
    case.enqueue_n(3).await;
    case.applied(case.lease_one().await, retry(secs(600))).await;
    for on_empty in [OnEmpty::Reject, OnEmpty::Idle] {
        let quota = FuelQuota { per_minute: Some(Fuel(1)), per_day: Some(Fuel(1)), on_empty };
        let leased = case.ask_within(&[(queue(), 1)], Some(quota)).await;
        assert_eq!(leased.leases.len(), 1);
        assert_eq!(leased.spent, Some(FuelSpent::at(case.now(), usage(1).fuel, usage(1).fuel)));
    }
    assert_eq!(case.ask(&[]).await.spent, None, "nobody asked");
    let other = case.of_another_tenant();
    let spent = other.ask_within(&[], Some(FuelQuota::default())).await.spent;
    assert_eq!(spent, Some(FuelSpent::at(case.now(), Fuel(0), Fuel(0))));
}

/// Fuel spent in an earlier minute doesn't count against the present one, even if nothing was spent in this one.
pub async fn fuel_of_an_earlier_minute_counts_no_more(case: Case) {
    case.applied(case.leased_job().await, succeed()).await;
    case.pass(secs(60));
    let token = case.leased_job().await;
    case.settle_with(Settle { ran: Some(ran(PLUGIN, Usage::default())), ..settle(token, succeed()) }).await;
    let spent = case.ask_within(&[], Some(FuelQuota::default())).await.spent.expect("it was asked for");
    assert_eq!(spent.minute, Fuel(0));
}
