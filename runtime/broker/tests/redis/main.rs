//! The Redis broker, on real servers: one that most tests share, and more for those that break theirs.

mod cluster;
mod conformance;
mod cost;
mod failover;
mod fenced;
mod fitness;
mod library;
mod login;
mod outages;
mod producer;
mod races;
mod sealed;
mod sentinel;
mod storage;
mod waiters;
mod whole;
mod work;
