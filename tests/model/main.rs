//! The protocol of leases, lanes, settlements and effects as a model, and every course that it can take, tried through.
//!
//! # What is modelled
//! - The **broker** is `sandhog_broker::memory`, the reference model that the brokers on Redis and SQLite are held against
//!   ([`store`]). The **daemon's part** in a run is `sandhog_core::attempt` with `sandhog_core::settle`, which the real one
//!   runs ([`world`]). So it is the code's rules that are checked, and no second telling of them.
//! - A **producer** that sends a job until it is acknowledged; **daemons** with a slot each, which lease, start, run, renew
//!   and settle; a **janitor** that sweeps whenever it likes, once there is something to be swept; somebody who **cancels**.
//! - The **wire**: a call may arrive at any time, after any other, or never; its reply may be lost; a caller may give up
//!   and say the same again while the first call is still on its way, and even after its own end.
//! - A daemon may **crash**, be **drained**, or do nothing for as long as it likes (whatever can happen next, may: a daemon
//!   that is paused is one that isn't chosen) and then go on as if nothing had been.
//! - **Effects**: each run adds to a counter of its job, counts up a number that is common to all by compare and set, and
//!   enqueues a job.
//! - **Lanes**: jobs of several kinds in one queue, and daemons that serve different ones of them ([`fleet`]). A plugin has a
//!   limit that holds for the whole fleet; jobs that wait go to the lane that is made of them; a lane that is empty and not
//!   asked for is given up; a daemon learns of lanes by their number.
//! - **Wakes**: in a queue with lanes, a daemon to whom an ask brought nothing asks no more before the broker tells it to look.
//!   There is no poll that would make up for a wake that is missing.
//!
//! # What a limit promises
//! Whoever is handed a job of a limited plugin is handed it only if there are, with this one, no more leased jobs that count
//! against the limit than *this asker* says. If there are more already, as another daemon's file says more, that is waited
//! out: no lease is taken away for it. A job counts from its lease until the broker takes in the end of that; so a run that
//! goes on after its lease is lost doesn't count any more. One that went to somebody who didn't know yet that its kind needs
//! a lane in this queue doesn't count at all, and isn't run.
//!
//! # What is left out
//! - Time. A lease runs out when it likes, and a daemon notices when it likes: so what is found to be safe here rests on no
//!   clock. Waits are zero. Final jobs are kept for longer than any call is on its way. Of a lane it is known whether it was
//!   asked for in the last hour.
//! - A reply that comes late: that is one that was lost, and a call repeated.
//! - A daemon that hears late that it is to look: all that comes of it is an ask more, in vain. Which one is told, where not all
//!   are: that is the stores' own, and so are daemons that say that they wait no more.
//! - A look at the lanes that fails: the daemon's next turn makes up for it. Asks that are repeated by their number.
//! - Batches, priorities, unique keys, quotas, redrives, what is leased ahead: the conformance suite has the store's part.
//! - How much goes wrong has a bound, so that there is an end. What then has nothing left that it has to do must be settled.
//!
//! A [`witness`] sees every call arrive, believes no token, and notes what is wrong; [`properties`] says what must hold. A
//! model finds nothing if it can't fail: so each [`protection`] is taken away in turn, and then it must.

mod call;
mod fleet;
mod printed;
mod properties;
mod protection;
mod store;
mod witness;
mod world;

use std::collections::BTreeSet;
use std::time::Instant;

use fleet::{Fleet, Home, Lane, Limit, Served};
use protection::Protection;
use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Exit, Load, Protocol, Renewals, Sharing};

/// Tries everything, with as many faults as `MODEL_FAULTS` says, if it says so; returns what was seen to be possible.
fn check(name: &str, mut protocol: Protocol) -> BTreeSet<&'static str> {
    if let Ok(faults) = std::env::var("MODEL_FAULTS") {
        protocol.faults = faults.parse().expect("a small number");
    }
    let began = Instant::now();
    let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, up to {depth} deep, in {:.1?}", began.elapsed());
    let found = checker.discoveries();
    for (name, path) in &found {
        let is_wrong = checker.model().property(name).expectation.discovery_is_failure();
        assert!(!is_wrong, "it doesn't hold that {name}: {:#?}", path.clone().into_actions());
    }
    found.into_keys().collect()
}

/// What is possible in some of the worlds has to be in one of them, or it says nothing.
fn assert_possible(possible: &BTreeSet<&'static str>, properties: &[Property<Protocol>]) {
    for property in properties {
        let is_wrong = property.expectation.discovery_is_failure();
        assert!(is_wrong || possible.contains(property.name), "it never happens that {}", property.name);
    }
}

/// A way to something that must not be, once this protection is taken away. There must be one.
fn without(protection: Protection, protocol: Protocol, broken: &'static str) {
    let protocol = Protocol { broken: Some(protection), ..protocol };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([broken]));
    let checker = protocol.checker().finish_when(until).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path =
        checker.discovery(broken).unwrap_or_else(|| panic!("{states} states, and in all of them {broken}"));
    println!("without {protection:?} it doesn't hold that {broken} (found among {states} states):");
    path.into_actions().iter().for_each(|step| println!("  {step:?}"));
}

const ONE_JOB: Protocol = Protocol {
    load: Load::OneKind { jobs: 1, daemons: 2 },
    faults: 2,
    cancels: 0,
    max_attempts: 2,
    expiries_max: 1,
    sharing: Sharing::ANumber,
    exits: &[Exit::Returns, Exit::Fails, Exit::FailsForGood],
    renewals: Renewals::ForTheLog,
    broken: None,
};

const NOTHING_SHARED: Protocol = Protocol { sharing: Sharing::Nothing, ..ONE_JOB };

/// A kind of a plugin with a limit, another kind of that plugin, and two kinds of plugins without.
const NARROW: Served = limited("narrow", 1);
const NARROW_TOO: Served = limited("narrow-too", 1);
const WIDE: Served = Served { lane: Lane { kind: "wide", limit: None }, home: Home::Here };
const BROAD: Served = Served { lane: Lane { kind: "broad", limit: None }, home: Home::Here };

const fn limited(kind: &'static str, most: u32) -> Served {
    let limit = Some(Limit { plugin: "one", most });
    Served { lane: Lane { kind, limit }, home: Home::Here }
}

/// One daemon serves all, the other what has a limit alone.
const TWO_KINDS: Fleet =
    Fleet { jobs: &["narrow", "narrow", "wide"], daemons: &[&[NARROW, WIDE], &[NARROW]], hours: 0 };
const A_LIMIT: Fleet = Fleet { jobs: &["narrow", "narrow"], ..TWO_KINDS };
const ONE_OF_EACH: Fleet = Fleet { jobs: &["narrow", "wide"], ..TWO_KINDS };

const fn lanes(fleet: &'static Fleet) -> Protocol {
    Protocol {
        load: Load::Lanes(fleet),
        faults: 0,
        max_attempts: 1,
        exits: &[Exit::Returns, Exit::Fails],
        renewals: Renewals::ForNews,
        ..NOTHING_SHARED
    }
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_happens_twice() {
    let one = |faults, cancels, renewals| Protocol { faults, cancels, renewals, ..ONE_JOB };
    let mut possible = check("one job, cancelled", one(1, 1, Renewals::ForTheLog));
    possible.append(&mut check("one job, two faults", one(2, 0, Renewals::ForNews)));
    possible.append(&mut check(
        "two jobs",
        Protocol { load: Load::OneKind { jobs: 2, daemons: 2 }, ..one(1, 0, Renewals::ForNews) },
    ));
    assert_possible(&possible, &properties::all());
}

#[test]
fn whatever_happens_lanes_keep_their_limits_and_nothing_stays_in_them() {
    const AN_HOUR: Fleet = Fleet { hours: 1, ..ONE_OF_EACH };
    const A_SHARED_LIMIT: Fleet = Fleet {
        jobs: &["narrow", "narrow-too"],
        daemons: &[&[NARROW, NARROW_TOO], &[NARROW_TOO]],
        ..A_LIMIT
    };
    const TWO_LIMITS: Fleet = Fleet {
        jobs: &["narrow", "narrow", "narrow"],
        daemons: &[&[limited("narrow", 2)], &[NARROW]],
        ..A_LIMIT
    };
    const ANOTHER_QUEUE: Fleet =
        Fleet { daemons: &[&[Served { home: Home::Elsewhere, ..NARROW }], &[NARROW]], ..A_LIMIT };
    const UNKNOWN_TO_ONE: Fleet = Fleet { jobs: &["wide", "wide"], ..TWO_KINDS };
    const EACH_ITS_OWN: Fleet = Fleet {
        jobs: &["narrow", "wide", "broad"],
        daemons: &[&[NARROW, WIDE], &[NARROW, BROAD]],
        ..A_LIMIT
    };
    let faulty = |fleet| Protocol { faults: 1, ..lanes(fleet) };
    let mut possible = check("lanes of two kinds", faulty(&TWO_KINDS));
    let cancelled = Protocol { cancels: 1, ..faulty(&A_LIMIT) };
    possible.append(&mut check("lanes, cancelled", cancelled));
    let retried = Protocol { max_attempts: 2, ..lanes(&TWO_KINDS) };
    possible.append(&mut check("lanes, retried", retried));
    let given_up = Protocol { cancels: 1, ..lanes(&AN_HOUR) };
    possible.append(&mut check("lanes and an hour", given_up));
    possible.append(&mut check("lanes of a kind that one knows nothing of", faulty(&UNKNOWN_TO_ONE)));
    possible.append(&mut check("lanes with a limit in common", faulty(&A_SHARED_LIMIT)));
    possible.append(&mut check("lanes whose limit is told in two ways", lanes(&TWO_LIMITS)));
    possible.append(&mut check("lanes in another plugin's queue", faulty(&ANOTHER_QUEUE)));
    possible.append(&mut check("lanes of three kinds", lanes(&EACH_ITS_OWN)));
    assert_possible(&possible, &properties::of_lanes());
}

#[test]
fn without_the_fence_of_settlements_it_fails() {
    without(Protection::FenceOfSettlements, NOTHING_SHARED, "one settlement at most makes a job succeed");
}

#[test]
fn without_the_fence_of_renewals_it_fails() {
    without(Protection::FenceOfRenewals, NOTHING_SHARED, "log lines are those that holders brought");
}

#[test]
fn with_effects_apart_from_the_settlement_it_fails() {
    without(
        Protection::EffectsWithTheSettlement,
        NOTHING_SHARED,
        "a job has its effects once if it succeeded, and else none",
    );
}

#[test]
fn without_repeats_that_change_nothing_it_fails() {
    without(
        Protection::RepeatsChangeNothing,
        NOTHING_SHARED,
        "a job has its effects once if it succeeded, and else none",
    );
}

#[test]
fn without_numbers_that_rise_when_taken_back_it_fails() {
    without(
        Protection::NumbersRiseWhenTakenBack,
        NOTHING_SHARED,
        "a stale token changes nothing, and no answer is untrue",
    );
}

#[test]
fn without_ids_of_producers_it_fails() {
    without(Protection::IdsOfProducers, NOTHING_SHARED, "a job that was sent twice is there once");
}

#[test]
fn without_limits_that_count_it_fails() {
    let broken = "no more jobs are under way than a limit allows";
    without(Protection::LimitsCount, lanes(&A_LIMIT), broken);
}

#[test]
fn without_places_that_are_left_it_fails() {
    let faulty = Protocol { faults: 1, ..lanes(&A_LIMIT) };
    without(Protection::PlacesAreLeft, faulty, properties::ALL_IS_DONE);
}

#[test]
fn without_news_of_places_it_fails() {
    without(Protection::FreePlacesAreNews, lanes(&A_LIMIT), properties::NOBODY_IS_IDLE);
}

#[test]
fn without_lanes_that_are_for_askers_it_fails() {
    let broken = "what is in a lane goes to those who ask for it";
    without(Protection::LanesAreForAskers, lanes(&ONE_OF_EACH), broken);
}

#[test]
fn without_news_of_lanes_it_fails() {
    without(Protection::LanesAreTold, lanes(&ONE_OF_EACH), properties::ALL_IS_DONE);
}
