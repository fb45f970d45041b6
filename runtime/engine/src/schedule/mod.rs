//! Scheduling of runs: which run goes on which thread, when. Guests share threads of their own, fairly.
//!
//! [`policy`] decides, [`executor`] does what it says, [`task`] is a run, [`ticker`] is the clock by which a running guest
//! notices that others wait.

mod executor;
mod lap;
mod policy;
mod task;
mod ticker;

pub(crate) use executor::{Crowd, Executor, NICE};
pub(crate) use task::{Claim, End, GiveWay, Panicked, panic_message};
