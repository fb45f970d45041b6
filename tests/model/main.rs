//! The protocol of leases, settlements and effects as a model, and every course that it can take, tried through.
//!
//! # What is modelled
//! - The **broker** is `sandhog_broker::memory`, the reference model that the brokers on Redis and SQLite are held against
//!   ([`store`]). The **daemon's part** is `sandhog_core::attempt` with `sandhog_core::settle`, which the real one runs
//!   ([`world`]). So it is the code's rules that are checked, and no second telling of them.
//! - A **producer** that sends a job until it is acknowledged; **daemons** with a seat each, which lease, start, run, renew
//!   and settle; somebody who **cancels**.
//! - The **wire**: a call may arrive at any time, after any other, or never; its reply may be lost; a caller may give up
//!   and say the same again while the first call is still on its way, and even after its own end.
//! - A daemon may **crash**, be **drained**, or do nothing for as long as it likes (whatever can happen next, may: a daemon
//!   that is paused is one that isn't chosen) and then go on as if nothing had been.
//! - **Effects**: each run adds to a counter of its job, counts up a number that is common to all by compare and set, and
//!   enqueues a job.
//!
//! # What is left out
//! - Time. A lease runs out when it likes, and a daemon notices when it likes: so what is found to be safe here rests on no
//!   clock. Waits are zero. Final jobs are kept for longer than any call is on its way.
//! - A reply that comes late: that is one that was lost, and a call repeated.
//! - Batches, queues, priorities, unique keys, quotas, redrives: the conformance suite has those.
//! - How much goes wrong has a bound, so that there is an end. Past it, calls arrive and leases are renewed; what has no
//!   further step then must be settled.
//!
//! A [`witness`] sees every call arrive, believes no token, and notes what is wrong; [`properties`] says what must hold. A
//! model finds nothing if it can't fail: so each [`protection`] is taken away in turn, and then it must.

mod call;
mod printed;
mod properties;
mod protection;
mod store;
mod witness;
mod world;

use std::collections::BTreeSet;
use std::time::Instant;

use protection::Protection;
use stateright::{Checker, HasDiscoveries, Model};
use world::{Protocol, Renewals, Sharing};

/// Tries everything, with as many faults as `MODEL_FAULTS` says, if it says so; returns what was seen to be possible.
fn check(name: &str, mut protocol: Protocol) -> BTreeSet<&'static str> {
    if let Ok(faults) = std::env::var("MODEL_FAULTS") {
        protocol.faults = faults.parse().expect("a small number");
    }
    let began = Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, up to {depth} deep, in {:.1?}", began.elapsed());
    let found = checker.discoveries();
    for (name, path) in &found {
        let is_wrong = checker.model().property(name).expectation.discovery_is_failure();
        assert!(!is_wrong, "it doesn't hold that {name}: {:#?}", path.clone().into_actions());
    }
    found.into_keys().collect()
}

/// A way to something that must not be, once this protection is taken away. There must be one.
fn without(protection: Protection, broken: &'static str) {
    let protocol = Protocol { broken: Some(protection), sharing: Sharing::Nothing, ..ONE_JOB };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([broken]));
    let checker = protocol.checker().finish_when(until).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path =
        checker.discovery(broken).unwrap_or_else(|| panic!("{states} states, and in all of them {broken}"));
    println!("without {protection:?} it doesn't hold that {broken} (found among {states} states):");
    path.into_actions().iter().for_each(|step| println!("  {step:?}"));
}

const ONE_JOB: Protocol = Protocol {
    jobs: 1,
    holders: 2,
    faults: 2,
    cancels: 0,
    max_attempts: 2,
    expiries_max: 1,
    sharing: Sharing::ANumber,
    renewals: Renewals::ForTheLog,
    broken: None,
};

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_happens_twice() {
    let one = |faults, cancels, renewals| Protocol { faults, cancels, renewals, ..ONE_JOB };
    let mut possible = check("one job, cancelled", one(1, 1, Renewals::ForTheLog));
    possible.append(&mut check("one job, two faults", one(2, 0, Renewals::ForNews)));
    possible.append(&mut check("two jobs", Protocol { jobs: 2, ..one(1, 0, Renewals::ForNews) }));
    for property in ONE_JOB.properties() {
        let is_wrong = property.expectation.discovery_is_failure();
        assert!(is_wrong || possible.contains(property.name), "it never happens that {}", property.name);
    }
}

#[test]
fn without_the_fence_of_settlements_it_fails() {
    without(Protection::FenceOfSettlements, "one settlement at most makes a job succeed");
}

#[test]
fn without_the_fence_of_renewals_it_fails() {
    without(Protection::FenceOfRenewals, "log lines are those that holders brought");
}

#[test]
fn with_effects_apart_from_the_settlement_it_fails() {
    without(
        Protection::EffectsWithTheSettlement,
        "a job has its effects once if it succeeded, and else none",
    );
}

#[test]
fn without_repeats_that_change_nothing_it_fails() {
    without(Protection::RepeatsChangeNothing, "a job has its effects once if it succeeded, and else none");
}

#[test]
fn without_numbers_that_rise_when_taken_back_it_fails() {
    without(Protection::NumbersRiseWhenTakenBack, "a stale token changes nothing, and no answer is untrue");
}

#[test]
fn without_ids_of_producers_it_fails() {
    without(Protection::IdsOfProducers, "a job that was sent twice is there once");
}
