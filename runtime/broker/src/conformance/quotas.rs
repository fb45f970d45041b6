//! A plugin keeps no more state than it may.

use std::time::Duration;

use sandhog_core::attempt::SettleReply;
use sandhog_core::budget::Bytes;
use sandhog_core::effects::Effects;
use sandhog_core::quota::{StateExcess, StateQuota};

use super::case::Case;
use super::script::{PLUGIN, STATE_MAX, bury, effects, key, ms, ran, secs, settle, succeed_with, usage};
use crate::{Ran, SWEEP_MAX, Settle};

/// Room for `bytes` of keys and plain values in `values` values, and for `keys` keys.
fn room(case: &Case, (bytes, values): (u64, u64), keys: u64) -> StateQuota {
    StateQuota { bytes: Bytes(bytes + values * case.seal), keys }
}

async fn write_as(case: &Case, name: &str, quota: StateQuota, effects: Effects) -> SettleReply {
    let token = case.leased_job().await;
    let ran = Some(Ran { state_max: quota, ..ran(name, usage(1)) });
    let reply = case.settle_with(Settle { ran, ..settle(token, succeed_with(effects)) }).await;
    if reply != SettleReply::Applied {
        case.applied(token, bury()).await;
    }
    reply
}

async fn write(case: &Case, quota: StateQuota, effects: Effects) -> SettleReply {
    write_as(case, PLUGIN, quota, effects).await
}

fn set(name: &str, length: usize, ttl: Option<Duration>) -> Effects {
    effects(|effects| effects.set(key(name), vec![b'x'; length], ttl))
}

fn full(excess: StateExcess, quota: StateQuota) -> SettleReply {
    SettleReply::Full { excess, quota }
}

/// A success that would overfill the state changes nothing, and the lease still holds. Keys and values are both counted.
pub async fn a_success_that_would_overfill_the_state_changes_nothing(case: Case) {
    let quota = room(&case, (20, 2), 9);
    assert_eq!(write(&case, quota, set("abc", 7, None)).await, SettleReply::Applied);
    let token = case.leased_job().await;
    let before = case.record(token.job).await;
    let child = case.new_job();
    let both = effects(|effects| {
        effects.set(key("abc"), b"new".to_vec(), None);
        effects.set(key("d"), vec![b'x'; 14], None);
        effects.enqueue(child.clone());
    });
    let ran = Some(Ran { state_max: quota, ..ran(PLUGIN, usage(1)) });
    let overfull = Settle { ran, ..settle(token, succeed_with(both)) };
    for _ in 0..2 {
        assert_eq!(case.settle_with(overfull.clone()).await, full(StateExcess::Bytes, quota));
        assert_eq!(case.record(token.job).await, before);
        assert_eq!(
            (case.stored(&key("abc")).await, case.stored(&key("d")).await),
            (Some(vec![b'x'; 7]), None)
        );
        assert_eq!(case.find(child.id).await, None);
    }
    case.applied(token, bury()).await;
    assert_eq!(write(&case, quota, set("d", 9, None)).await, SettleReply::Applied, "to the last byte");
}

/// Values are limited in number as well as in bytes.
pub async fn keys_are_counted_too(case: Case) {
    let quota = room(&case, (1000, 2), 2);
    for name in ["a", "b", "a"] {
        assert_eq!(write(&case, quota, set(name, 0, None)).await, SettleReply::Applied);
    }
    assert_eq!(write(&case, quota, set("c", 0, None)).await, full(StateExcess::Keys, quota));
    let replace = effects(|effects| {
        effects.delete(key("a"));
        effects.set(key("c"), Vec::new(), None);
    });
    assert_eq!(write(&case, quota, replace).await, SettleReply::Applied);
}

/// A value that is replaced counts by its difference in length, and so does a sum, by its digits.
pub async fn what_is_replaced_makes_room(case: Case) {
    let quota = room(&case, (10, 1), 9);
    assert_eq!(write(&case, quota, set("n", 9, None)).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("n", 10, None)).await, full(StateExcess::Bytes, quota));
    assert_eq!(write(&case, quota, set("n", 1, None)).await, SettleReply::Applied);
    let number = |text: &str| {
        let text = text.to_owned();
        effects(move |effects| effects.set(key("n"), text.into_bytes(), None))
    };
    let add = || effects(|effects| effects.increment(key("n"), 1).expect("a number"));
    assert_eq!(write(&case, quota, number("99999999")).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, add()).await, SettleReply::Applied);
    assert_eq!(case.stored(&key("n")).await, Some(b"100000000".to_vec()));
    assert_eq!(write(&case, quota, number("999999999")).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, add()).await, full(StateExcess::Bytes, quota));
    assert_eq!(case.stored(&key("n")).await, Some(b"999999999".to_vec()));
}

/// State that is over its quota, as that was lowered, can be read and made smaller, but doesn't grow.
pub async fn what_is_over_its_quota_can_shrink(case: Case) {
    for name in ["a", "b", "c"] {
        assert_eq!(write(&case, STATE_MAX, set(name, 99, None)).await, SettleReply::Applied);
    }
    let quota = room(&case, (10, 1), 1);
    assert_eq!(write(&case, quota, set("a", 100, None)).await, full(StateExcess::Bytes, quota));
    assert_eq!(write(&case, quota, set("a", 99, None)).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("a", 50, None)).await, SettleReply::Applied);
    assert_eq!(case.stored(&key("a")).await, Some(vec![b'x'; 50]));
    assert_eq!(write(&case, quota, effects(|effects| effects.delete(key("b")))).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("b", 0, None)).await, full(StateExcess::Bytes, quota));
    assert_eq!(write(&case, quota, Effects::default()).await, SettleReply::Applied, "it writes no state");
}

/// State that is over its quota can't put a shorter value in the place of one whose time is over: that is a new value.
pub async fn what_is_over_its_quota_does_not_grow_from_what_is_gone(case: Case) {
    let too_little =
        [(room(&case, (10, 0), 9), StateExcess::Bytes), (room(&case, (999, 9), 0), StateExcess::Keys)];
    for (quota, excess) in too_little {
        assert_eq!(write(&case, STATE_MAX, set("a", 50, Some(secs(5)))).await, SettleReply::Applied);
        case.pass(secs(5));
        assert_eq!(write(&case, quota, set("a", 30, None)).await, full(excess, quota));
    }
}

/// A value frees its room when its time is over, to the millisecond, whether or not it is swept.
pub async fn a_value_whose_time_is_over_gives_its_room_back(case: Case) {
    let quota = room(&case, (10, 1), 1);
    assert_eq!(write(&case, quota, set("a", 9, Some(secs(5)))).await, SettleReply::Applied);
    case.pass(secs(5) - ms(1));
    assert_eq!(write(&case, quota, set("b", 9, None)).await, full(StateExcess::Bytes, quota));
    case.pass(ms(1));
    assert_eq!(write(&case, quota, set("b", 9, Some(secs(5)))).await, SettleReply::Applied);
    case.pass(secs(9));
    case.sweep().await;
    // Not twice: what was swept is swept.
    assert_eq!(write(&case, quota, set("c", 9, None)).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("d", 0, None)).await, full(StateExcess::Bytes, quota));
}

/// A value that is set anew frees its room by its new time, or not at all if it has none.
pub async fn a_new_time_to_live_replaces_the_old_one_in_the_sizes(case: Case) {
    let quota = room(&case, (10, 1), 1);
    assert_eq!(write(&case, quota, set("a", 9, Some(secs(5)))).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("a", 9, Some(secs(60)))).await, SettleReply::Applied);
    case.pass(secs(30));
    case.sweep().await;
    assert_eq!(write(&case, quota, set("b", 9, None)).await, full(StateExcess::Bytes, quota));
    assert_eq!(write(&case, quota, set("a", 9, None)).await, SettleReply::Applied);
    case.pass(secs(90));
    case.sweep().await;
    assert_eq!(case.stored(&key("a")).await, Some(vec![b'x'; 9]));
    assert_eq!(write(&case, quota, set("b", 9, None)).await, full(StateExcess::Bytes, quota));
    assert_eq!(write(&case, quota, set("a", 9, Some(Duration::ZERO))).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("b", 9, None)).await, SettleReply::Applied);
}

/// All values whose time is over free their room at once, even if there are more than a sweep removes.
pub async fn all_values_whose_time_is_over_make_room(case: Case) {
    let many = SWEEP_MAX as u64 + 100;
    let quota = room(&case, (100_000, many), many);
    let all = effects(|effects| {
        (0..many).for_each(|n| effects.set(key(&format!("k{n}")), b"v".to_vec(), Some(secs(5))));
    });
    assert_eq!(write(&case, quota, all.clone()).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("other", 1, None)).await, full(StateExcess::Keys, quota));
    case.pass(secs(5));
    assert_eq!(write(&case, quota, all).await, SettleReply::Applied);
    assert_eq!(write(&case, quota, set("other", 1, None)).await, full(StateExcess::Keys, quota));
}

/// Each plugin of each tenant has a quota of its own.
pub async fn each_plugin_of_each_tenant_has_a_quota_of_its_own(case: Case) {
    let quota = room(&case, (10, 1), 1);
    assert_eq!(write(&case, quota, set("a", 9, None)).await, SettleReply::Applied);
    assert_eq!(write_as(&case, "report", quota, set("b", 9, None)).await, SettleReply::Applied);
    assert_eq!(write_as(&case, "report", quota, set("c", 9, None)).await, full(StateExcess::Bytes, quota));
    let other = case.of_another_tenant();
    assert_eq!(write(&other, quota, set("c", 9, None)).await, SettleReply::Applied);
}

/// Settlements of one batch share the room as if they had come one after the other.
pub async fn settlements_of_a_batch_share_what_room_there_is(case: Case) {
    let quota = room(&case, (10, 2), 9);
    case.enqueue_n(3).await;
    let batch: Vec<Settle> = case
        .lease(3)
        .await
        .iter()
        .zip(["a", "b", "c"])
        .map(|(lease, name)| Settle {
            ran: Some(Ran { state_max: quota, ..ran(PLUGIN, usage(1)) }),
            ..settle(lease.token, succeed_with(set(name, 4, None)))
        })
        .collect();
    let replies = case.settle_all(&batch).await;
    assert_eq!(replies, [SettleReply::Applied, SettleReply::Applied, full(StateExcess::Bytes, quota)]);
}

/// A settlement that has a conflict and would overfill the state is answered with the conflict.
pub async fn a_conflict_comes_before_a_full_state(case: Case) {
    let quota = room(&case, (1, 1), 1);
    let clash = effects(|effects| effects.swap(key("a"), Some(b"x".to_vec()), vec![b'y'; 99], None));
    assert_eq!(write(&case, quota, clash).await, SettleReply::Conflict { key: key("a") });
}
