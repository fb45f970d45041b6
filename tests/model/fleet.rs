//! Daemons that serve different kinds of one queue: what each asks for, and what it knows.
//!
//! This is told as the daemon's `intake/` and `capacity/permits.rs` do it, in few lines and for one slot. It is no machine that could be
//! run here as it is.

use std::collections::BTreeSet;
use std::fmt;

use sandhog_core::reason::Reason;

use crate::store::Answer;

/// What there is beside the broker.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The kinds of the jobs, all in one queue.
    pub(crate) jobs: &'static [&'static str],
    /// What each daemon has plugins for.
    pub(crate) daemons: &'static [&'static [Served]],
    /// How often an hour passes in which nobody asks for anything.
    pub(crate) hours: u8,
}

/// A kind that a daemon has a plugin for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) lane: Lane,
    pub(crate) home: Home,
}

/// Which queue a plugin has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// This one: if it has a limit, it is known from the start that its kinds need lanes.
    Here,
    /// Another, and producers put its jobs into this one all the same.
    Elsewhere,
}

/// A lane as it is asked for, for one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) kind: &'static str,
    pub(crate) limit: Option<Limit>,
}

/// How many jobs of a plugin may be leased at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Limit {
    pub(crate) plugin: &'static str,
    pub(crate) most: u32,
}

/// What a daemon knows of the queue and its lanes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Outlook {
    /// There may be a job for it.
    pub(crate) is_hungry: bool,
    /// The kinds whose lanes it knows of, and serves.
    lanes: BTreeSet<&'static str>,
    /// As of which change of the lanes.
    number: u64,
}

impl Outlook {
    /// That of a daemon that has just started, and has yet to look.
    pub(crate) fn new() -> Self {
        Self { is_hungry: true, lanes: BTreeSet::new(), number: 0 }
    }

    /// Which lanes it asks for.
    pub(crate) fn lanes(&self, served: &[Served]) -> Vec<Lane> {
        let is_needed = |one: &&Served| {
            self.lanes.contains(one.lane.kind) || (one.lane.limit.is_some() && one.home == Home::Here)
        };
        served.iter().filter(is_needed).map(|one| one.lane).collect()
    }

    /// Takes in the answer to its ask. What it heard while it waited for that may not be in the answer.
    pub(crate) fn learn(&mut self, served: &[Served], answer: &Answer, has_heard: bool) {
        self.is_hungry = answer.lease.is_some() || has_heard;
        if answer.lanes.number != self.number {
            let is_there = |kind: &&str| answer.lanes.kinds.iter().any(|known| known == kind);
            self.lanes = served.iter().map(|one| one.lane.kind).filter(is_there).collect();
            self.number = answer.lanes.number;
            self.is_hungry = true;
        }
    }

    /// Why it can't run a job that came when it had asked for these lanes, if it can't.
    pub(crate) fn refusal(
        &mut self,
        served: &[Served],
        asked: &[Lane],
        kind: &'static str,
    ) -> Option<Reason> {
        let Some(one) = served.iter().find(|one| one.lane.kind == kind) else {
            return Some(Reason::NoPlugin);
        };
        let is_counted = one.lane.limit.is_none() || asked.iter().any(|lane| lane.kind == kind);
        if is_counted {
            return None;
        }
        self.lanes.insert(one.lane.kind);
        self.is_hungry = true;
        Some(Reason::NoRoom)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "{} ({} of {})", self.kind, limit.most, limit.plugin),
            None => f.write_str(self.kind),
        }
    }
}
