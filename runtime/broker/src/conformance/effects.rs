//! What a run wants written happens in the step that settles it: whole, or not at all.

use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::Effects;
use sandhog_core::id::{LeaseToken, StateKey};
use sandhog_core::job::{NewJob, State};

use super::case::{Case, TTL};
use super::script::{
    PLUGIN, add_to, bury, effects, key, lines, ms, plugin, progress, ran, retry, secs, settle, succeed_with,
    unique, usage,
};
use crate::{Counts, Enqueued, Settle};

fn set_to(name: &str, value: &str, ttl: Option<Duration>) -> Effects {
    effects(|effects| effects.set(key(name), value.into(), ttl))
}

fn swap(name: &str, expected: Option<&str>, value: &str) -> Effects {
    effects(|effects| effects.swap(key(name), expected.map(Into::into), value.into(), None))
}

fn conflict(name: &str) -> SettleReply {
    SettleReply::Conflict { key: key(name) }
}

/// Runs a fresh job to its success with these effects.
async fn succeed_once(case: &Case, effects: Effects) -> SettleReply {
    let token = case.leased_job().await;
    case.settle(token, succeed_with(effects)).await
}

async fn text(case: &Case, key: &StateKey) -> Option<String> {
    let value = case.stored(key).await;
    value.map(|value| String::from_utf8(value).expect("a rule writes text"))
}

/// The state and the jobs of a run are written by its settlement, all at once, and not before.
pub async fn a_success_writes_its_state_and_jobs(case: Case) {
    let child = case.new_job();
    let wanted = effects(|effects| {
        effects.set(key("seen"), b"yes".to_vec(), None);
        effects.increment(key("count"), 5).expect("nothing was set before");
        effects.enqueue(child.clone());
    });
    let token = case.leased_job().await;
    assert_eq!((case.stored(&key("seen")).await, case.find(child.id).await), (None, None));
    case.applied(token, succeed_with(wanted)).await;
    assert_eq!(text(&case, &key("seen")).await.as_deref(), Some("yes"));
    assert_eq!(text(&case, &key("count")).await.as_deref(), Some("5"));
    let record = case.record(child.id).await;
    assert_eq!((record.state, record.enqueued_at), (State::Ready, case.now()));
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Succeeded, 1)]));
}

/// The effects of a run that lost its lease are not written.
pub async fn effects_of_a_failed_attempt_are_not_written(case: Case) {
    let child = case.new_job();
    let wanted = effects(|effects| {
        effects.set(key("seen"), b"yes".to_vec(), None);
        effects.enqueue(child.clone());
    });
    let token = case.leased_job().await;
    case.pass(TTL);
    let newer = case.lease_one().await;
    assert_eq!(case.settle(token, succeed_with(wanted)).await, SettleReply::Lost);
    case.applied(newer, retry(secs(1))).await;
    assert_eq!((case.stored(&key("seen")).await, case.find(child.id).await), (None, None));
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 1)]));
}

/// Increments by concurrent runs are all added up; none overwrites another.
pub async fn increments_of_concurrent_runs_all_count(case: Case) {
    case.enqueue_n(8).await;
    let tokens: Vec<LeaseToken> = case.lease(8).await.iter().map(|lease| lease.token).collect();
    let (batch, single) = tokens.split_at(4);
    let settlements: Vec<Settle> =
        batch.iter().map(|token| settle(*token, succeed_with(add_to("n", 3)))).collect();
    assert_eq!(case.settle_all(&settlements).await, vec![SettleReply::Applied; 4]);
    for token in single {
        case.applied(*token, succeed_with(add_to("n", -1))).await;
    }
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("8"));
}

/// A settlement whose comparison fails changes nothing: no value, job, progress, log line or usage.
pub async fn compare_and_set_conflict_changes_nothing(case: Case) {
    let child = case.new_job();
    let wanted = effects(|effects| {
        effects.swap(key("owner"), Some(b"a".to_vec()), b"b".to_vec(), None);
        effects.set(key("aside"), b"1".to_vec(), None);
        effects.enqueue(child.clone());
    });
    assert_eq!(succeed_once(&case, set_to("owner", "c", None)).await, SettleReply::Applied);
    let token = case.leased_job().await;
    let before = (case.record(token.job).await, case.counts().await);
    let late = Settle { progress: progress(1), log: lines(0..3), ..settle(token, succeed_with(wanted)) };
    assert_eq!(case.settle_with(late).await, conflict("owner"));
    assert_eq!((case.record(token.job).await, case.counts().await), before);
    assert_eq!(case.log(token.job).await, []);
    assert_eq!(text(&case, &key("owner")).await.as_deref(), Some("c"));
    assert_eq!((case.stored(&key("aside")).await, case.find(child.id).await), (None, None));
}

/// The lease still holds after a conflict, so the run can be settled in another way.
pub async fn a_conflict_can_be_settled_otherwise(case: Case) {
    let token = case.leased_job().await;
    assert_eq!(case.settle(token, succeed_with(swap("n", Some("1"), "2"))).await, conflict("n"));
    assert_eq!(case.settle(token, succeed_with(swap("n", Some("1"), "2"))).await, conflict("n"));
    case.applied(token, retry(secs(1))).await;
    assert_eq!(case.record(token.job).await.attempts, 1);
}

/// A comparison can expect that there is no value. The first of two runs that saw none wins.
pub async fn nothing_there_can_be_expected_too(case: Case) {
    assert_eq!(succeed_once(&case, swap("lock", None, "a")).await, SettleReply::Applied);
    assert_eq!(succeed_once(&case, swap("lock", None, "b")).await, conflict("lock"));
    assert_eq!(text(&case, &key("lock")).await.as_deref(), Some("a"));
}

/// Of several conflicts, comparisons come before sums, and then the first key is named, so that every broker answers the same.
pub async fn an_expectation_fails_before_a_sum_and_the_first_key_is_named(case: Case) {
    succeed_once(&case, set_to("a", "text", None)).await;
    let wanted = effects(|effects| {
        effects.increment(key("a"), 1).expect("nothing was set before");
        effects.swap(key("c"), Some(b"1".to_vec()), b"2".to_vec(), None);
        effects.swap(key("b"), Some(b"1".to_vec()), b"2".to_vec(), None);
    });
    let token = case.leased_job().await;
    assert_eq!(case.settle(token, succeed_with(wanted)).await, conflict("b"));
    let wanted = effects(|effects| {
        effects.increment(key("z"), 1).expect("nothing was set before");
        effects.increment(key("a"), 1).expect("nothing was set before");
    });
    assert_eq!(case.settle(token, succeed_with(wanted)).await, conflict("a"));
    assert_eq!(case.stored(&key("z")).await, None);
}

/// A sum needs a decimal integer in its shortest form. Any other value is a conflict, and stays unchanged.
pub async fn only_a_number_can_be_added_to(case: Case) {
    for no_number in ["", " 1", "1 ", "+1", "007", "-0", "1.0", "1e3", "0x1", "text", "ü"] {
        assert_eq!(succeed_once(&case, set_to("n", no_number, None)).await, SettleReply::Applied);
        let token = case.leased_job().await;
        assert_eq!(case.settle(token, succeed_with(add_to("n", 1))).await, conflict("n"), "{no_number:?}");
        assert_eq!(text(&case, &key("n")).await.as_deref(), Some(no_number));
        case.applied(token, bury()).await;
    }
    for (number, sum) in [("0", "-7"), ("-1", "-8"), ("9007199254740993", "9007199254740986")] {
        assert_eq!(succeed_once(&case, set_to("n", number, None)).await, SettleReply::Applied);
        assert_eq!(succeed_once(&case, add_to("n", -7)).await, SettleReply::Applied);
        assert_eq!(text(&case, &key("n")).await.as_deref(), Some(sum));
    }
}

/// A sum or a number beyond the range of 64 signed bits is a conflict; the limits themselves are not.
pub async fn a_number_past_the_range_is_a_conflict(case: Case) {
    assert_eq!(succeed_once(&case, add_to("n", i64::MAX)).await, SettleReply::Applied);
    assert_eq!(text(&case, &key("n")).await, Some(i64::MAX.to_string()));
    let token = case.leased_job().await;
    assert_eq!(case.settle(token, succeed_with(add_to("n", 1))).await, conflict("n"));
    case.applied(token, succeed_with(add_to("n", -1))).await;
    assert_eq!(text(&case, &key("n")).await, Some((i64::MAX - 1).to_string()));
    assert_eq!(succeed_once(&case, set_to("n", "9223372036854775808", None)).await, SettleReply::Applied);
    assert_eq!(succeed_once(&case, add_to("n", -1)).await, conflict("n"));
    assert_eq!(succeed_once(&case, add_to("low", i64::MIN)).await, SettleReply::Applied);
    assert_eq!(text(&case, &key("low")).await, Some(i64::MIN.to_string()));
}

/// A missing value counts as 0 in a sum. Adding 0 creates it.
pub async fn a_missing_value_counts_as_zero(case: Case) {
    succeed_once(&case, add_to("n", 0)).await;
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("0"));
}

/// A value with a time to live is gone when that is over, to the millisecond.
pub async fn a_value_goes_when_its_time_is_over(case: Case) {
    succeed_once(&case, set_to("n", "1", Some(secs(10)))).await;
    case.pass(secs(10) - ms(1));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("1"));
    case.pass(ms(1));
    assert_eq!(text(&case, &key("n")).await, None);
    succeed_once(&case, set_to("n", "1", Some(Duration::ZERO))).await;
    assert_eq!(text(&case, &key("n")).await, None);
}

/// A sum keeps the time to live of its value, so that a counter by the minute ends with its minute. Setting a value replaces
/// the time, or removes it.
pub async fn adding_keeps_the_time_to_live_and_setting_replaces_it(case: Case) {
    succeed_once(&case, set_to("n", "1", Some(secs(10)))).await;
    case.pass(secs(6));
    succeed_once(&case, add_to("n", 1)).await;
    case.pass(secs(4) - ms(1));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("2"));
    case.pass(ms(1));
    assert_eq!(text(&case, &key("n")).await, None);
    succeed_once(&case, set_to("n", "2", Some(secs(10)))).await;
    case.pass(secs(9));
    succeed_once(&case, set_to("n", "3", Some(secs(10)))).await;
    case.pass(secs(9));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("3"));
    succeed_once(&case, set_to("n", "4", None)).await;
    case.pass(secs(9_999));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("4"));
}

/// Replacing a value keeps its time to live. If the value is gone, the new one has none.
pub async fn a_replaced_value_keeps_its_time_to_live(case: Case) {
    let replace = |value: &str| effects(|effects| effects.replace(key("n"), value.into()));
    succeed_once(&case, set_to("n", "1", Some(secs(10)))).await;
    case.pass(secs(6));
    succeed_once(&case, replace("2")).await;
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("2"));
    case.pass(secs(4));
    assert_eq!(text(&case, &key("n")).await, None);
    // There is nothing to inherit from any more.
    succeed_once(&case, replace("3")).await;
    case.pass(secs(9_999));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("3"));
}

/// A value past its time is missing to every effect, even before it is swept. A new one doesn't inherit its time.
pub async fn what_is_past_its_time_is_nothing_to_a_run(case: Case) {
    let tokens = [case.leased_job().await, case.leased_job().await, case.leased_job().await];
    for name in ["added", "expected", "swapped"] {
        succeed_once(&case, set_to(name, "5", Some(secs(1)))).await;
    }
    case.pass(secs(1));
    let [adds, expects, swaps] = tokens;
    case.applied(adds, succeed_with(add_to("added", 2))).await;
    assert_eq!(
        case.settle(expects, succeed_with(swap("expected", Some("5"), "6"))).await,
        conflict("expected")
    );
    case.applied(swaps, succeed_with(swap("swapped", None, "6"))).await;
    // What was written anew doesn't inherit the time of the old value.
    case.pass(secs(1000));
    assert_eq!(text(&case, &key("added")).await.as_deref(), Some("2"));
    assert_eq!(text(&case, &key("swapped")).await.as_deref(), Some("6"));
}

/// A deleted value is gone, together with its time to live. Deleting a missing one is no error.
pub async fn a_deleted_value_is_gone(case: Case) {
    succeed_once(&case, set_to("n", "1", Some(secs(50)))).await;
    for _ in 0..2 {
        succeed_once(&case, effects(|effects| effects.delete(key("n")))).await;
        assert_eq!(case.stored(&key("n")).await, None);
    }
    succeed_once(&case, add_to("n", 1)).await;
    case.pass(secs(50));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("1"));
}

/// Values are kept byte for byte, and keys may have any characters.
pub async fn values_are_kept_byte_for_byte(case: Case) {
    let all_bytes: Vec<u8> = (0..=255).collect();
    let odd = key("{a}:b c/ü \"'\\*");
    for value in [Vec::new(), all_bytes] {
        let wanted = effects(|effects| effects.set(odd.clone(), value.clone(), None));
        assert_eq!(succeed_once(&case, wanted).await, SettleReply::Applied);
        assert_eq!(case.stored(&odd).await, Some(value.clone()));
        let wanted = effects(|effects| effects.swap(odd.clone(), Some(value), Vec::new(), None));
        assert_eq!(succeed_once(&case, wanted).await, SettleReply::Applied);
        assert_eq!(case.stored(&odd).await, Some(Vec::new()));
    }
}

/// State belongs to one plugin of one tenant. Neither other plugins nor the same plugin of other tenants see it.
pub async fn state_belongs_to_one_plugin_of_one_tenant(case: Case) {
    succeed_once(&case, set_to("n", "1", None)).await;
    let token = case.leased_job().await;
    let report =
        Settle { ran: Some(ran("report", usage(1))), ..settle(token, succeed_with(add_to("n", 50))) };
    assert_eq!(case.settle_with(report).await, SettleReply::Applied);
    let of_report = case.broker.state(&case.tenant, &plugin("report"), &key("n")).await;
    assert_eq!(of_report.expect("a look succeeds"), Some(b"50".to_vec()));
    let other = case.of_another_tenant();
    assert_eq!(other.stored(&key("n")).await, None);
    succeed_once(&other, add_to("n", 7)).await;
    assert_eq!(text(&other, &key("n")).await.as_deref(), Some("7"));
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("1"));
}

/// Jobs of a run are enqueued by the rules of every enqueue. Those whose id is known or whose unique key is held are left out,
/// which is no failure.
pub async fn jobs_of_a_run_are_enqueued_by_the_rules_of_enqueue(case: Case) {
    let holder =
        case.enqueue(NewJob { unique_key: unique("nightly"), delay: secs(99), ..case.new_job() }).await;
    let token = case.leased_job().await;
    let rival = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    let late = NewJob { delay: secs(5), ..case.new_job() };
    let soon = case.new_job();
    let known = NewJob { payload: b"other".to_vec(), ..case.new_job() };
    let known = NewJob { id: holder, ..known };
    let wanted = effects(|effects| {
        [&rival, &late, &soon, &known].into_iter().for_each(|job| effects.enqueue(job.clone()))
    });
    case.applied(token, succeed_with(wanted)).await;
    assert_eq!(case.find(rival.id).await, None);
    let record = case.record(late.id).await;
    assert_eq!((record.state, record.due_at), (State::Scheduled, Some(case.now().after(secs(5)))));
    assert_eq!(case.record(holder).await.payload, b"{}");
    assert_eq!(case.drain().await, [soon.id]);
}

/// A job that a run enqueues can take over the unique key of the run's own job, which is final in the same step.
pub async fn a_success_hands_on_its_unique_key(case: Case) {
    case.enqueue(NewJob { unique_key: unique("nightly"), ..case.new_job() }).await;
    let token = case.lease_one().await;
    let next = NewJob { unique_key: unique("nightly"), delay: secs(5), ..case.new_job() };
    let wanted = effects(|effects| effects.enqueue(next.clone()));
    case.applied(token, succeed_with(wanted)).await;
    assert_eq!(case.state_of(next.id).await, State::Scheduled);
    let rival = NewJob { unique_key: unique("nightly"), ..case.new_job() };
    assert_eq!(case.enqueue_all(&[rival]).await, [Enqueued::Duplicate(next.id)]);
}

/// The effects of a settlement without a run are not written, as they belong to no plugin.
pub async fn without_a_run_there_are_no_effects(case: Case) {
    let child = case.new_job();
    let wanted = effects(|effects| {
        effects.swap(key("n"), Some(b"1".to_vec()), b"2".to_vec(), None);
        effects.set(key("m"), b"2".to_vec(), None);
        effects.enqueue(child.clone());
    });
    let token = case.leased_job().await;
    let nobodys = Settle { ran: None, ..settle(token, succeed_with(wanted)) };
    assert_eq!(case.settle_with(nobodys).await, SettleReply::Applied);
    let stored = case.broker.state(&case.tenant, &plugin(PLUGIN), &key("m")).await.expect("a look succeeds");
    assert_eq!((stored, case.find(child.id).await), (None, None));
}

/// The effects of a settlement that is repeated, after its answer was lost, are written once.
pub async fn a_repeated_success_writes_nothing_twice(case: Case) {
    let child = case.new_job();
    let wanted = effects(|effects| {
        effects.increment(key("n"), 1).expect("nothing was set before");
        effects.swap(key("step"), None, b"1".to_vec(), None);
        effects.enqueue(child.clone());
    });
    let token = case.leased_job().await;
    for _ in 0..3 {
        case.applied(token, succeed_with(wanted.clone())).await;
    }
    assert_eq!(text(&case, &key("n")).await.as_deref(), Some("1"));
    assert_eq!(case.counts().await, Counts::of(&[(State::Ready, 1), (State::Succeeded, 1)]));
}
