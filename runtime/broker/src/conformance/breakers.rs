//! Breakers: what a gate holds back isn't leased, until exactly when it opens, and few at once from then on.

use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::breaker::{
    BREAKERS_MAX, Barrier, Breaker, BreakerReport, BreakerRule, EndedRuns, Probes, RunTally, Shut,
};
use sandhog_core::hold::{HoldReason, HoldScope, NewHold};
use sandhog_core::id::{BreakerName, JobId, Kind, LeaseToken};
use sandhog_core::job::{NewJob, State};

use super::case::Case;
use super::script::{ms, plugin, queue, release, retry, secs, succeed};
use super::waking::{hear_of, listen};
use crate::{
    BreakerRecord, BreakerWrite, BreakerWritten, FleetLimit, HoldOutcome, JobAction, LaneAsk, LeaseAsk,
    StoredBreaker,
};

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("a valid kind")
}

fn name(text: &str) -> BreakerName {
    BreakerName::parse(text).expect("a valid name")
}

/// No job of these kinds passes for this time, and then so many at once for an hour.
fn gate(case: &Case, kinds: &[&str], shut: Duration, probes: u32) -> Barrier {
    let until = case.now().after(shut);
    let probes = NonZeroU32::new(probes).map(|most| Probes { most, until: until.after(secs(3600)) });
    let shut = Shut::Until(until);
    let kinds = kinds.iter().copied().map(kind).collect();
    Barrier { kinds, reason: HoldReason::Breaker, since: case.now(), shut, probes }
}

async fn stored(case: &Case, of: &str) -> Option<StoredBreaker> {
    case.broker.breakers(&case.tenant, Some(name(of))).await.expect("a look succeeds").breakers.pop()
}

async fn write(
    case: &Case,
    of: &str,
    expected: Option<u64>,
    record: Option<BreakerRecord>,
) -> BreakerWritten {
    let write = BreakerWrite { name: name(of), expected, record };
    case.broker.write_breaker(&case.tenant, write).await.expect("a write succeeds")
}

/// Writes a breaker's gate, whatever is stored.
async fn set(case: &Case, of: &str, gate: Option<Barrier>) {
    let expected = stored(case, of).await.map(|breaker| breaker.version);
    let record = BreakerRecord { bytes: b"record".to_vec(), gate };
    assert_eq!(write(case, of, expected, Some(record)).await, BreakerWritten::Done);
}

async fn job_of(case: &Case, of: &str) -> JobId {
    case.enqueue(NewJob { kind: kind(of), ..case.new_job() }).await
}

/// Leases as a daemon does that asks for the lanes that there are.
async fn leased_under(case: &Case, limit: Option<FleetLimit>) -> Vec<LeaseToken> {
    let (queues, mut tokens) = ([(queue(), 99)], Vec::new());
    // The lanes that the first ask makes are known to the second.
    for _ in 0..2 {
        let lanes = case.broker.lanes(&case.tenant).await.expect("a look succeeds").lanes;
        let ask = |(queue, kind)| LaneAsk { limit: limit.clone(), ..LaneAsk::new(queue, kind, 99) };
        let lanes: Vec<LaneAsk> = lanes.into_iter().map(ask).collect();
        let ask = LeaseAsk { lanes: &lanes, suspects: u32::MAX, ..case.asking(&queues) };
        tokens.extend(case.lease_as(ask).await.leases.into_iter().map(|lease| lease.token));
    }
    tokens
}

async fn leased(case: &Case) -> Vec<LeaseToken> {
    leased_under(case, None).await
}

async fn leased_ids(case: &Case) -> Vec<JobId> {
    leased(case).await.into_iter().map(|token| token.job).collect()
}

/// And all else is, whatever wait they are in.
pub async fn what_an_open_breaker_covers_is_not_leased(case: Case) {
    let (held, also, free) =
        (job_of(&case, "send").await, job_of(&case, "sort").await, job_of(&case, "other").await);
    set(&case, "stripe", Some(gate(&case, &["send", "sort"], secs(10), 1))).await;
    assert_eq!(leased_ids(&case).await, [free]);
    assert!(!case.sweep().await.has_ready, "a daemon would look in vain");
    set(&case, "stripe", None).await;
    assert_eq!(leased_ids(&case).await, [held, also], "in the order in which they came");
}

/// The time is the same to the millisecond, whether or not anybody sweeps.
pub async fn an_open_breaker_lets_probes_through_at_its_time(case: Case) {
    let ids = [job_of(&case, "send").await, job_of(&case, "send").await, job_of(&case, "send").await];
    set(&case, "stripe", Some(gate(&case, &["send"], secs(10), 2))).await;
    let queues = [(queue(), 9)];
    case.pass(secs(10) - ms(1));
    let told = case.lease_as(case.asking(&queues)).await;
    assert_eq!((told.leases.len(), told.next_due), (0, Some(ms(1))), "the janitor knows when");
    case.pass(ms(1));
    assert_eq!(leased_ids(&case).await, ids[..2]);
    assert_eq!(leased_ids(&case).await, []);
}

/// However they end: each that goes lets another in.
pub async fn no_more_than_so_many_probes_are_leased_at_once(case: Case) {
    for _ in 0..6 {
        job_of(&case, "send").await;
    }
    set(&case, "stripe", Some(gate(&case, &["send"], Duration::ZERO, 1))).await;
    for end in [succeed(), release(secs(60)), retry(secs(60))] {
        let tokens = leased(&case).await;
        assert_eq!(tokens.len(), 1);
        assert_eq!(leased(&case).await, []);
        case.applied(tokens[0], end).await;
    }
    let lost = leased(&case).await;
    assert_eq!(lost.len(), 1);
    case.pass(secs(30));
    case.sweep().await;
    let again = leased(&case).await;
    assert_eq!(again.len(), 1, "the lease ran out");
    assert_eq!(case.act(JobAction::Cancel, again[0].job).await, crate::Changed::Requested);
    assert_eq!(leased(&case).await, [], "it is still leased");
}

/// Over all kinds and queues of it.
pub async fn a_breakers_kinds_share_its_probes(case: Case) {
    job_of(&case, "send").await;
    job_of(&case, "sort").await;
    set(&case, "stripe", Some(gate(&case, &["send", "sort"], Duration::ZERO, 1))).await;
    let tokens = leased(&case).await;
    assert_eq!(tokens.len(), 1);
    case.applied(tokens[0], succeed()).await;
    assert_eq!(leased(&case).await.len(), 1);
}

/// Under each there has to be room, and under a limit on its plugin as well.
pub async fn a_job_is_a_probe_of_all_its_breakers(case: Case) {
    for of in ["send", "send", "send", "sort", "sort"] {
        job_of(&case, of).await;
    }
    set(&case, "stripe", Some(gate(&case, &["send", "sort"], Duration::ZERO, 3))).await;
    set(&case, "plugin/mail", Some(gate(&case, &["send"], Duration::ZERO, 2))).await;
    let limit = |most| Some(FleetLimit { name: plugin("mail"), most });
    let first = leased_under(&case, limit(1)).await;
    assert_eq!(first.len(), 1, "the limit of the plugin");
    let more = leased_under(&case, limit(9)).await;
    assert_eq!(more.len(), 2, "a second one of send, and one of sort");
    assert_eq!(leased_under(&case, limit(9)).await, []);
    case.applied(more[1], succeed()).await;
    assert_eq!(leased_under(&case, limit(9)).await.len(), 1, "sort");
    case.applied(first[0], succeed()).await;
    assert_eq!(leased_under(&case, limit(9)).await.len(), 1, "send");
}

/// Jobs that run go on, and those that come back wait with the others: no attempt, lease number or turn is spent on them.
pub async fn jobs_wait_at_an_open_breaker_as_they_are(case: Case) {
    job_of(&case, "send").await;
    let token = leased(&case).await[0];
    set(&case, "stripe", Some(gate(&case, &["send"], secs(10), 1))).await;
    case.applied(token, release(Duration::ZERO)).await;
    for _ in 0..3 {
        assert_eq!(leased(&case).await, []);
        case.sweep().await;
    }
    let record = case.record(token.job).await;
    assert_eq!((record.state, record.attempts, record.lease), (State::Ready, 0, token.lease));
}

/// Nobody has to look for it: not when it opens, lets probes through, closes, or a probe ends.
pub async fn a_breaker_that_changes_wakes(case: Case) {
    job_of(&case, "send").await;
    job_of(&case, "send").await;
    let mut wakes = listen(&case, &[&case.tenant]).await;
    set(&case, "stripe", Some(gate(&case, &["send"], secs(10), 1))).await;
    hear_of(&mut wakes, &case.tenant).await;
    case.pass(secs(10));
    let swept = case.sweep().await;
    assert_eq!((swept.next_due, swept.has_ready), (Some(secs(3600)), true));
    hear_of(&mut wakes, &case.tenant).await;
    let tokens = leased(&case).await;
    assert_eq!(tokens.len(), 1);
    case.applied(tokens[0], succeed()).await;
    hear_of(&mut wakes, &case.tenant).await;
    set(&case, "stripe", None).await;
    hear_of(&mut wakes, &case.tenant).await;
}

/// A half-open breaker that nobody hears of any more holds nothing back for ever.
pub async fn probes_are_bounded_until_a_time(case: Case) {
    for _ in 0..3 {
        job_of(&case, "send").await;
    }
    set(&case, "stripe", Some(gate(&case, &["send"], Duration::ZERO, 1))).await;
    assert_eq!(leased(&case).await.len(), 1);
    case.pass(secs(3600));
    assert_eq!(leased(&case).await.len(), 2);
    assert_eq!(case.broker.holds(&case.tenant).await.expect("a look succeeds"), []);
}

/// Each kind by the breaker's name, whatever else is held; and a job says that it waits for it.
pub async fn breakers_are_listed_as_holds(case: Case) {
    let id = job_of(&case, "send").await;
    set(&case, "stripe", Some(gate(&case, &["send", "sort"], secs(10), 1))).await;
    let pause = NewHold::pause(HoldScope { queue: None, kind: Some(kind("send")) });
    case.broker.hold(&case.tenant, pause.clone()).await.expect("a hold succeeds");
    let told = |holds: Vec<sandhog_core::hold::Hold>| -> Vec<_> {
        holds.into_iter().map(|hold| (hold.scope.kind, hold.reason, hold.by, hold.until)).collect()
    };
    let until = case.now().after(secs(10));
    let by_breaker = |of, reason, until| (Some(kind(of)), reason, Some("stripe".to_owned()), Some(until));
    let paused = (Some(kind("send")), HoldReason::Paused, None, None);
    let list = told(case.broker.holds(&case.tenant).await.expect("a look succeeds"));
    let open = |of| by_breaker(of, HoldReason::Breaker, until);
    assert_eq!(list, [paused.clone(), open("send"), open("sort")]);
    let facts = case.broker.why(&case.tenant, id).await.expect("a look succeeds").expect("it is there");
    assert_eq!(told(facts.holds), [paused, open("send")]);
    let lifted = case.broker.lift(&case.tenant, pause.scope).await.expect("it succeeds");
    assert_eq!(lifted, HoldOutcome::Lifted);
    assert_eq!(leased(&case).await, [], "the breaker is still open");
    case.pass(secs(10));
    let list = told(case.broker.holds(&case.tenant).await.expect("a look succeeds"));
    let half_open = |of| by_breaker(of, HoldReason::HalfOpen, until.after(secs(3600)));
    assert_eq!(list, [half_open("send"), half_open("sort")]);
}

/// A record that is another one by now than the one that was read stays as it is.
pub async fn a_breaker_is_written_as_it_was_read(case: Case) {
    assert_eq!(stored(&case, "stripe").await, None);
    let record = |bytes: &[u8]| Some(BreakerRecord { bytes: bytes.to_vec(), gate: None });
    assert_eq!(write(&case, "stripe", Some(1), record(b"one")).await, BreakerWritten::Stale);
    assert_eq!(write(&case, "stripe", None, record(b"one")).await, BreakerWritten::Done);
    assert_eq!(write(&case, "stripe", None, record(b"two")).await, BreakerWritten::Stale);
    let first = stored(&case, "stripe").await.expect("it is stored");
    assert_eq!(first.record, Ok(b"one".to_vec()));
    assert_eq!(write(&case, "stripe", Some(first.version), record(b"two")).await, BreakerWritten::Done);
    let second = stored(&case, "stripe").await.expect("it is stored");
    assert!(second.version > first.version);
    assert_eq!(write(&case, "stripe", Some(first.version), None).await, BreakerWritten::Stale);
    assert_eq!(write(&case, "stripe", Some(second.version), None).await, BreakerWritten::Done);
    assert_eq!(stored(&case, "stripe").await, None);
}

/// The one that is too many is refused, and those of another tenant are none of its business.
pub async fn a_tenant_has_a_bounded_number_of_breakers(case: Case) {
    for nth in 0..BREAKERS_MAX {
        set(&case, &format!("b{nth}"), None).await;
    }
    let record = Some(BreakerRecord { bytes: Vec::new(), gate: None });
    assert_eq!(write(&case, "more", None, record.clone()).await, BreakerWritten::TooMany);
    set(&case, "b0", None).await;
    let other = case.of_another_tenant();
    assert_eq!(write(&other, "more", None, record).await, BreakerWritten::Done);
    let all = case.broker.breakers(&case.tenant, None).await.expect("a look succeeds");
    assert_eq!(all.breakers.len(), BREAKERS_MAX);
    assert!(all.breakers.is_sorted_by_key(|breaker| &breaker.name));
}

/// With all else of the tenant.
pub async fn a_purge_removes_breakers(case: Case) {
    set(&case, "stripe", Some(gate(&case, &["send"], secs(10), 1))).await;
    case.broker.purge(&case.tenant, usize::MAX).await.expect("a purge succeeds");
    assert_eq!(stored(&case, "stripe").await, None);
    job_of(&case, "send").await;
    case.lease_one().await;
}

/// From the first failure to the last probe, by the rules of the core and the times of the store.
pub async fn a_breaker_goes_all_its_way(case: Case) {
    for _ in 0..9 {
        job_of(&case, "send").await;
    }
    let four = NonZeroU32::new(4).expect("not zero");
    let rule = BreakerRule::new(50, four, secs(60), (secs(10), secs(60)), NonZeroU32::MIN).expect("valid");
    let report = async |started, succeeded, failed| {
        let found = case.broker.breakers(&case.tenant, Some(name("stripe"))).await.expect("a look succeeds");
        let stored = found.breakers.first();
        let mut breaker =
            stored.map_or_else(Breaker::default, |stored| stored.read().expect("it can be read"));
        let runs = vec![EndedRuns { started, ended: found.now, tally: RunTally { succeeded, failed } }];
        breaker.report(&rule, [kind("send")], &BreakerReport { runs, limited_until: None }, found.now);
        let record = BreakerRecord::of(&breaker, found.now);
        let expected = stored.map(|stored| stored.version);
        assert_eq!(write(&case, "stripe", expected, record).await, BreakerWritten::Done);
    };
    let first = leased(&case).await;
    assert_eq!(first.len(), 9, "it is closed");
    let started = case.now();
    for token in &first[..4] {
        case.applied(*token, release(Duration::ZERO)).await;
    }
    report(started, 0, 3).await;
    assert_eq!(leased(&case).await.len(), 4, "too few have failed");
    report(started, 0, 1).await;
    case.applied(first[4], release(Duration::ZERO)).await;
    case.applied(first[5], release(Duration::ZERO)).await;
    assert_eq!(leased(&case).await, []);
    case.pass(secs(10));
    let probe = leased(&case).await;
    assert_eq!(probe.len(), 1);
    case.applied(probe[0], release(Duration::ZERO)).await;
    report(case.now(), 0, 1).await;
    case.pass(secs(19));
    assert_eq!(leased(&case).await, [], "it is open for twice as long");
    case.pass(secs(1));
    let probe = leased(&case).await;
    assert_eq!(probe.len(), 1);
    case.applied(probe[0], succeed()).await;
    report(case.now(), 1, 0).await;
    assert_eq!(stored(&case, "stripe").await, None, "nothing is known of it");
    assert_eq!(leased(&case).await.len(), 1);
    for token in &first {
        assert!(
            case.record(token.job).await.attempts <= 1,
            "no attempt was spent but the one that succeeded"
        );
    }
}
