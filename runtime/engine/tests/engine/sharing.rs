//! Many runs at once: each gets its share, none disturbs another.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes, Fuel};
use sandhog_core::outcome::{Outcome, StopReason};
use sandhog_engine::{Abort, Class, Config, Share};

use super::bed::{Bed, budget, config, limit, output, share};
use super::guests;

/// While one tenant's only run uses its fuel up, another's two runs, of three times the weight, use three times as
/// much between them. What is compared is work done, not time.
#[tokio::test]
async fn tenants_get_cpu_by_weight_not_by_number_of_runs() {
    let bed = Bed::with(Config { guest_threads: NonZeroUsize::MIN, ..config() });
    let plugin = bed.load(guests::spin());
    let fuel = Fuel(600_000_000);
    let stop = [Abort::new(), Abort::new()];
    let light = async {
        let report =
            bed.start_for(&plugin, Budget { fuel, ..budget() }, Abort::new(), share("light", 1)).await;
        stop.iter().for_each(|abort| abort.stop(StopReason::Drained));
        report
    };
    let endless = Budget { fuel: Fuel(u64::MAX), ..budget() };
    let heavy = |n: usize| bed.start_for(&plugin, endless, stop[n].clone(), share("heavy", 3));
    let (light, one, two) = tokio::join!(light, heavy(0), heavy(1));
    assert_eq!(light.usage.fuel, fuel);
    let both = one.usage.fuel.0 + two.usage.fuel.0;
    let ratio = both as f64 / fuel.0 as f64;
    assert!((2.7..=3.3).contains(&ratio), "{ratio}");
}

#[tokio::test]
async fn hogs_of_one_tenant_do_not_keep_another_from_running() {
    let bed = Bed::with(Config { guest_threads: NonZeroUsize::MIN, ..config() });
    let plugin = bed.load(guests::spin());
    let endless = Budget { fuel: Fuel(u64::MAX), ..budget() };
    let aborts: Vec<_> = (0..6).map(|_| Abort::new()).collect();
    let hogs = aborts.iter().map(|abort| bed.start_for(&plugin, endless, abort.clone(), share("hogs", 1)));
    let quick = async {
        for _ in 0..20 {
            bed.still_works().await;
        }
        aborts.iter().for_each(|abort| abort.stop(StopReason::Cancelled));
    };
    let (hogs, ()) = tokio::join!(futures::future::join_all(hogs), quick);
    assert!(hogs.iter().all(|report| report.outcome == Outcome::Aborted(StopReason::Cancelled)));
}

#[tokio::test]
async fn many_runs_go_on_at_once_and_each_has_its_own_end() {
    let bed = Bed::new();
    let (echo, spin) = (bed.load(guests::echo()), bed.load(guests::spin()));
    let little = Budget { fuel: Fuel(30_000_000), ..budget() };
    for _ in 0..10 {
        let echoes = (0..4).map(|_| bed.start(&echo, budget(), Abort::new()));
        let spins = (0..4).map(|_| bed.start(&spin, little, Abort::new()));
        let all = futures::future::join(futures::future::join_all(echoes), futures::future::join_all(spins));
        let (echoes, spins) = all.await;
        assert!(echoes.iter().all(|report| output(report) == b"payload"));
        assert!(spins.iter().all(|report| limit(report) == Some(sandhog_core::outcome::Limit::Fuel)));
    }
}

/// A thousand runs that never end are one tenant's, and get a thousandth of its share each: another's go on as if they
/// were few.
#[tokio::test]
async fn a_thousand_hogs_of_one_tenant_do_not_keep_another_from_running() {
    const HOGS: u32 = 1000;
    let instances = NonZeroU32::new(HOGS + 8).expect("not zero");
    let bed = Bed::with(Config { guest_threads: NonZeroUsize::MIN, instances, ..config() });
    let plugin = bed.load(guests::spin());
    let endless = Budget { fuel: Fuel(u64::MAX), ..budget() };
    let aborts: Vec<_> = (0..HOGS).map(|_| Abort::new()).collect();
    let of_hogs = share("hogs", 1);
    let memory = of_hogs.memory.clone();
    let hogs = aborts.iter().map(|abort| bed.start_for(&plugin, endless, abort.clone(), of_hogs.clone()));
    let quick = async {
        // Each of them has had a turn: they are all there.
        while memory.in_use() < Bytes::kib(64 * u64::from(HOGS)) {
            tokio::task::yield_now().await;
            bed.still_works().await;
        }
        for _ in 0..20 {
            bed.still_works().await;
        }
        aborts.iter().for_each(|abort| abort.stop(StopReason::Cancelled));
    };
    let (hogs, ()) = tokio::join!(futures::future::join_all(hogs), quick);
    assert!(hogs.iter().all(|report| report.outcome == Outcome::Aborted(StopReason::Cancelled)));
    assert!(hogs.iter().all(|report| report.usage.cpu > Duration::ZERO), "each had a turn");
    assert_eq!(memory.in_use(), Bytes(0));
}

/// A run of the idle class waits while a normal one computes, however much larger its weight; and it has the machine
/// when nobody else wants it.
#[tokio::test]
async fn an_idle_run_goes_only_while_no_normal_one_wants_to() {
    let bed = Bed::with(Config { guest_threads: NonZeroUsize::MIN, ..config() });
    let plugin = bed.load(guests::spin());
    let endless = Budget { fuel: Fuel(u64::MAX), ..budget() };
    let (abort, last) = (Abort::new(), Abort::new());
    // One of these two wants the thread for as long as the idle run is there.
    let first = async {
        let budget = Budget { fuel: Fuel(400_000_000), ..budget() };
        let report = bed.start_for(&plugin, budget, Abort::new(), share("busy", 1)).await;
        assert_eq!(limit(&report), Some(sandhog_core::outcome::Limit::Fuel));
        abort.stop(StopReason::Drained);
    };
    let second = bed.start_for(&plugin, endless, last.clone(), share("busy", 1));
    let idle = async {
        let share = Share { class: Class::Idle, ..share("idlers", 10_000) };
        let report = bed.start_for(&plugin, endless, abort.clone(), share).await;
        last.stop(StopReason::Drained);
        report
    };
    let ((), _, idle) = tokio::join!(first, second, idle);
    assert_eq!(idle.outcome, Outcome::Aborted(StopReason::Drained));
    assert!(idle.usage.fuel < Fuel(40_000_000), "{:?}", idle.usage);
    let alone = Budget { fuel: Fuel(30_000_000), ..budget() };
    let share = Share { class: Class::Idle, ..share("idlers", 1) };
    let report = bed.start_for(&plugin, alone, Abort::new(), share).await;
    assert_eq!(limit(&report), Some(sandhog_core::outcome::Limit::Fuel));
}
