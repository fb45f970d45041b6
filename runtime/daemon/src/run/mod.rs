//! Attempts: one try of a job, from its lease to what is recorded of it.
//!
//! | part | is about |
//! |---|---|
//! | [`worker`] | seeing a leased job through |
//! | [`turn`] | several quick jobs on one permit, one after the other |
//! | [`runner`] | the seam between the loops and the sandbox |
//! | [`guest_host`] | what a run may ask of its host, on behalf of one job |
//! | [`parent_outputs`] | payloads with the outputs of the jobs that a job comes after |
//! | [`breakers`] | telling circuit breakers how runs ended |
//! | [`settler`] | recording ends, in batches |

pub(crate) mod breakers;
pub(crate) mod guest_host;
pub(crate) mod parent_outputs;
pub mod runner;
pub(crate) mod settler;
pub(crate) mod turn;
pub(crate) mod worker;
