//! Data model of jobs, and the decisions about them: pure, without I/O.
//!
//! Nothing here reads a clock, does I/O, logs or awaits. Time, chance and the answers of the outside world come in as
//! arguments, so each decision can be tested by calling it.
//!
//! A job's way through the system, with the module that owns each step's rule:
//!
//! ```text
//! lease ──> admit ──> run ──> settle
//! job       admit     outcome  settle      attempt: the order in which these may happen
//!           budget    effects  retry
//!                              transition
//! ```

pub mod access;
pub mod account;
pub mod admit;
pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod canary;
pub mod compile;
pub mod edit;
pub mod effects;
pub mod event;
pub mod fair;
pub mod fingerprint;
pub mod flow;
pub mod grants;
pub mod group;
pub mod group_limit;
pub mod history;
pub mod hold;
pub mod host_memory;
pub mod id;
pub mod job;
pub mod keyring;
pub mod kinds;
pub mod labels;
pub mod outcome;
pub mod quota;
pub mod rate;
pub mod reason;
pub mod redis;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod settle;
pub mod text;
pub mod time;
pub mod transition;
pub mod trial;
pub mod unique;
pub mod waits;
