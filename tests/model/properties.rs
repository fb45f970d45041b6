//! What must hold in every world, and what must be possible so that this means something.

use sandhog_core::job::State;
use sandhog_core::reason::Reason;
use stateright::{Model, Property};

use crate::store::SeenJob;
use crate::witness::{End, Noted};
use crate::world::{Protocol, World};

pub(crate) const ALL_IS_DONE: &str =
    "when nothing has to happen any more, every job that was acknowledged is final";

pub(crate) const NOBODY_IS_IDLE: &str = "no daemon waits to be told of a job that it would get";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always("a stale token changes nothing, and no answer is untrue", |_, world: &World| {
            world.witness.wrong.is_none()
        }),
        Property::always("a job has its effects once if it succeeded, and else none", |_, world| {
            every(world, |_, job| {
                let times = u64::from(job.state == State::Succeeded);
                job.counted == times && job.children as u64 == times
            })
        }),
        Property::always("no write to what is shared is lost", |protocol, world| {
            let succeeded = jobs(world).filter(|(_, job)| job.state == State::Succeeded).count() as u64;
            protocol.sharing == crate::world::Sharing::Nothing || world.store.seen().shared == succeeded
        }),
        Property::always("one settlement at most makes a job succeed", |_, world| {
            every(world, |noted, job| noted.succeeded_by.len() == usize::from(job.state == State::Succeeded))
        }),
        Property::always("a job that was taken in is there", |_, world: &World| {
            world
                .witness
                .jobs
                .iter()
                .zip(&world.store.seen().jobs)
                .all(|(noted, job)| noted.is_enqueued == job.is_some())
        }),
        Property::always("a job that was sent twice is there once", |_, world: &World| {
            world.store.seen().strays == 0
        }),
        Property::always("attempts and expiries are counted, and bounded", |protocol, world| {
            let counts = |noted: &Noted, job: &SeenJob| {
                (noted.attempts, noted.expiries) == (job.attempts, job.expiries)
                    && job.attempts <= protocol.max_attempts
                    && job.expiries <= protocol.expiries_max + 1
            };
            every(world, counts)
        }),
        Property::always("log lines are those that holders brought", |_, world| {
            every(world, |noted, job| noted.log == job.log)
        }),
        Property::always(ALL_IS_DONE, |protocol, world: &World| {
            let is_final = |noted: &Noted, job: &SeenJob| !noted.is_acknowledged || job.state.is_final();
            let has_to_go_on = || {
                let mut steps = Vec::new();
                protocol.actions(&world.becalmed(), &mut steps);
                !steps.is_empty()
            };
            every(world, is_final) || has_to_go_on()
        }),
        Property::sometimes("a job succeeds after a lease of it was lost", |_, world| {
            some(world, |noted, job| job.state == State::Succeeded && noted.expiries > 0)
        }),
        Property::sometimes("a job is given up as its daemons vanish", |protocol, world| {
            some(world, |_, job| job.state == State::Dead && job.expiries > protocol.expiries_max)
        }),
        Property::sometimes("a job is cancelled while it runs", |_, world| {
            some(world, |_, job| job.state == State::Cancelled && job.lease.0 > 0)
        }),
        Property::sometimes("a stale token is refused", |_, world| some(world, |noted, _| noted.has_refused)),
        Property::sometimes("a settlement is repeated, and answered as before", |_, world| {
            some(world, |noted, _| noted.has_repeated)
        }),
        Property::sometimes("two runs want to write what is shared", |protocol, world| {
            protocol.sharing == crate::world::Sharing::Nothing
                || some(world, |noted, _| noted.has_met_a_conflict)
        }),
        Property::sometimes("all is well after all that may fail has failed", |_, world: &World| {
            world.is_without_faults() && every(world, |_, job| job.state == State::Succeeded)
        }),
    ]
}

/// Of worlds with lanes.
pub(crate) fn of_lanes() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no more jobs are under way than a limit allows", |_, world: &World| {
            !world.witness.has_overrun
        }),
        Property::always("what is in a lane goes to those who ask for it", |_, world: &World| {
            !world.witness.has_strayed
        }),
        Property::always(NOBODY_IS_IDLE, |protocol, world: &World| !world.has_idle_daemon(protocol)),
        Property::sometimes("a job gets the place of one that was settled", |_, world| {
            succeeds_to(world, End::Settled)
        }),
        Property::sometimes("a job gets the place of one whose daemon was drained", |_, world| {
            succeeds_to(world, End::Released(Reason::Drained))
        }),
        Property::sometimes("a job gets the place of one that was cancelled", |_, world| {
            succeeds_to(world, End::Cancelled)
        }),
        Property::sometimes("a job gets the place of one that was taken back", |_, world| {
            succeeds_to(world, End::TakenBack)
        }),
        Property::sometimes("a job goes back as its daemon has no plugin for it", |_, world: &World| {
            world.gives_back(Reason::NoPlugin)
        }),
        Property::sometimes("a job goes back as it wasn't counted", |_, world: &World| {
            world.gives_back(Reason::NoRoom)
        }),
        Property::sometimes("a lane is given up", |_, world: &World| {
            let lanes = &world.store.seen().lanes;
            lanes.number > lanes.kinds.len() as u64
        }),
    ]
}

/// Whether a job holds a place under a limit that another had left in this way.
fn succeeds_to(world: &World, end: End) -> bool {
    let Some(left) = world.witness.left.filter(|left| left.end == end) else { return false };
    let mut jobs = world.witness.jobs.iter().enumerate();
    jobs.any(|(job, noted)| noted.is_counted() && job != left.job)
}

fn jobs(world: &World) -> impl Iterator<Item = (&Noted, &SeenJob)> {
    let seen = world.store.seen().jobs.iter();
    world.witness.jobs.iter().zip(seen).filter_map(|(noted, job)| Some((noted, job.as_ref()?)))
}

fn every(world: &World, holds: impl Fn(&Noted, &SeenJob) -> bool) -> bool {
    jobs(world).all(|(noted, job)| holds(noted, job))
}

fn some(world: &World, holds: impl Fn(&Noted, &SeenJob) -> bool) -> bool {
    jobs(world).any(|(noted, job)| holds(noted, job))
}
