//! Calls to the broker, as long as they are on the wire.

use std::fmt;

use sandhog_broker::Settle;
use sandhog_core::id::LeaseNo;

use crate::fleet::Lane;
use crate::printed::Printed;

/// Which of the jobs.
pub(crate) type Nth = usize;

/// A call that has been sent, and hasn't arrived yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Call {
    pub(crate) from: Caller,
    pub(crate) what: What,
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Caller {
    /// The producer.
    Producer,
    /// A daemon.
    Holder(usize),
    /// Nobody any more: the caller has given up or is dead. The call may still arrive, at any time.
    Nobody,
}

/// What it asks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    Enqueue(Nth),
    Lease(Wanted),
    Renew(Nth, LeaseNo),
    Settle(Nth, Printed<Settle>),
}

/// What a daemon asks for: one job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wanted {
    /// Of this queue.
    pub(crate) queue: usize,
    /// And of these lanes of it.
    pub(crate) lanes: Vec<Lane>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Enqueue(job) => write!(f, "enqueue job {job}"),
            What::Lease(wanted) => write!(f, "lease of queue {} and lanes {:?}", wanted.queue, wanted.lanes),
            What::Renew(job, lease) => write!(f, "renew {job}/{}", lease.0),
            What::Settle(job, settle) => {
                write!(f, "settle {job}/{} as {}", settle.token.lease.0, settle.settlement.slug())
            }
        }?;
        write!(f, " for {:?}", self.from)
    }
}
