//! Attempts: one try of a job, from its lease to what is recorded of it.
//!
//! | part | is about |
//! |---|---|
//! | [`worker`] | seeing a leased job through |
//! | [`turn`] | several quick jobs on one permit, one after the other |
//! | [`runner`] | the seam between the loops and the sandbox |
//! | [`guest_host`] | what a run may ask of its host, on behalf of one job |
//! | [`settler`] | recording ends, in batches |

pub(crate) mod guest_host;
pub mod runner;
pub(crate) mod settler;
pub(crate) mod turn;
pub(crate) mod worker;
