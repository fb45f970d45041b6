//! The list of daemons. Rules may share a server, so each looks at its own daemons alone, and lets less time pass than after
//! which entries are removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_core::id::{DaemonId, QueueName, TenantId};
use sandhog_core::time::Timestamp;

use super::Case;
use super::clock::ManualClock;
use crate::memory::Memory;
use crate::{Broker, DAEMON_LAPSE, DaemonReport, DaemonSeen, Served, WallClock};

/// Returns a daemon that no other rule has.
fn fresh() -> DaemonId {
    DaemonId::from_parts(Timestamp::from_millis(1), rand::rng().random())
}

fn report(nth: u32) -> DaemonReport {
    let queue = |name: &str| {
        (TenantId::parse("acme").expect("a valid name"), QueueName::parse(name).expect("a valid name"))
    };
    DaemonReport {
        name: format!("machine {nth}"),
        version: "1.2.3".to_owned(),
        age: Duration::from_secs(nth.into()),
        fetched: (!nth.is_multiple_of(3)).then(|| Duration::from_millis(nth.into())),
        slots: nth + 2,
        slots_used: nth,
        is_draining: nth % 2 == 1,
        plugins: nth + 1,
        served: Served::of([queue("default"), queue("mail")]),
    }
}

/// Lists those of these daemons that are in the list.
async fn listed(broker: &dyn Broker, own: &BTreeSet<DaemonId>) -> Vec<DaemonSeen> {
    let fleet = broker.daemons().await.expect("a look succeeds");
    fleet.daemons.into_iter().filter(|daemon| own.contains(&daemon.id)).collect()
}

async fn tell(case: &Case, id: DaemonId, report: Option<&DaemonReport>) {
    case.broker.report_daemon(id, report).await.expect("a report succeeds");
}

/// A daemon is listed with what it told last, and when that was; what it tells as times ago become times of the store.
pub async fn a_daemon_is_listed_as_it_tells(case: Case) {
    let id = fresh();
    let own = BTreeSet::from([id]);
    assert_eq!(listed(&*case.broker, &own).await, []);
    tell(&case, id, Some(&report(1))).await;
    case.pass(Duration::from_secs(3));
    tell(&case, id, Some(&report(2))).await;
    let seen = case.now();
    case.pass(Duration::from_secs(2));
    let fleet = case.broker.daemons().await.expect("a look succeeds");
    assert_eq!(fleet.now, case.now());
    let found = listed(&*case.broker, &own).await;
    assert_eq!(found, [DaemonSeen { id, seen, report: report(2) }]);
    assert_eq!(seen.since(found[0].started()), report(2).age);
    assert_eq!(found[0].last_fetch().map(|at| seen.since(at)), report(2).fetched);
}

/// A daemon that tells nothing for a while counts as gone, and is back with its next report.
pub async fn a_daemon_that_is_silent_lapses(case: Case) {
    let id = fresh();
    let own = BTreeSet::from([id]);
    tell(&case, id, Some(&report(1))).await;
    case.pass(DAEMON_LAPSE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(listed(&*case.broker, &own).await.len(), 1);
    case.pass(Duration::from_millis(1));
    assert_eq!(listed(&*case.broker, &own).await, []);
    tell(&case, id, Some(&report(1))).await;
    assert_eq!(listed(&*case.broker, &own).await.len(), 1);
}

/// A daemon that says so is gone at once, and others stay.
pub async fn a_daemon_that_leaves_is_gone_at_once(case: Case) {
    let (one, other) = (fresh(), fresh());
    let own = BTreeSet::from([one, other]);
    tell(&case, one, Some(&report(1))).await;
    tell(&case, other, Some(&report(2))).await;
    assert_eq!(listed(&*case.broker, &own).await.len(), 2);
    tell(&case, one, None).await;
    tell(&case, one, None).await;
    let left = listed(&*case.broker, &own).await;
    assert_eq!(left.iter().map(|daemon| daemon.id).collect::<Vec<_>>(), [other]);
}

/// Whatever daemons tell in whatever order, and however long they are silent: the list is that of the model.
pub async fn the_list_of_daemons_is_as_the_model_has_it(case: Case) {
    let clock = Arc::new(ManualClock::default());
    let model = Memory::new(Arc::clone(&clock) as Arc<dyn WallClock>);
    clock.advance(case.now().since(clock.now()));
    let own: Vec<DaemonId> = (0..4).map(|_| fresh()).collect();
    let all: BTreeSet<DaemonId> = own.iter().copied().collect();
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..60 {
        let time = Duration::from_millis(random.random_range(0..12_000));
        case.pass(time);
        clock.advance(time);
        let id = own[random.random_range(0..own.len())];
        let told = random.random_bool(0.8).then(|| report(random.random_range(0..20)));
        tell(&case, id, told.as_ref()).await;
        model.report_daemon(id, told.as_ref()).await.expect("a report succeeds");
        assert_eq!(listed(&*case.broker, &all).await, listed(&model, &all).await);
    }
}
