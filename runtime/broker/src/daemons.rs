//! Daemons of a fleet, as each tells of itself every few seconds.
//!
//! The list belongs to no tenant. All times in it are by the broker's clock: a daemon tells how long ago something was, so its
//! own clock doesn't matter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandhog_core::id::{DaemonId, QueueName, TenantId};
use sandhog_core::time::{Timestamp, millis};

use crate::pack::{Packer, Unpacker, Unreadable};

/// Interval at which a daemon tells of itself.
pub const DAEMON_REPORT_EVERY: Duration = Duration::from_secs(5);

/// Time after its last report at which a daemon counts as gone: one lost report is no news.
pub const DAEMON_LAPSE: Duration = Duration::from_secs(20);

/// Time for which the store keeps the entry of a daemon that is gone.
pub const DAEMON_KEPT: Duration = Duration::from_secs(60 * 60);

/// Maximum number of daemons in the list. The next one takes the place of the one that was silent for longest.
pub const DAEMONS_MAX: usize = 1000;

/// Maximum number of entries that one report removes.
pub(crate) const FORGOTTEN_MAX: usize = 100;

/// Maximum number of queues, of all tenants together, that a daemon tells that it serves.
pub const SERVED_MAX: usize = 500;

/// Maximum length of a daemon's name and of its version, in bytes.
const NAME_MAX: usize = 128;

/// Self-description of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonReport {
    /// Name for people, such as that of its machine. Longer than 128 bytes, it is cut when it is stored.
    pub name: String,
    /// Version of the program. Cut likewise.
    pub version: String,
    /// Time since it started.
    pub age: Duration,
    /// Time since it last leased jobs, or saw that there were none for it; `None` before the first time, and for a process that
    /// runs no jobs.
    pub fetched: Option<Duration>,
    /// Maximum number of runs under way at once; 0 for a process that runs no jobs.
    pub slots: u32,
    /// Number of them that are taken.
    pub slots_used: u32,
    /// Whether it is on its way down, and leases no more.
    pub is_draining: bool,
    /// Number of plugins in force.
    pub plugins: u32,
    /// Queues that it leases from.
    pub served: Served,
}

/// Queues that a daemon serves, by tenant: at most [`SERVED_MAX`] in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Served {
    queues: BTreeMap<TenantId, BTreeSet<QueueName>>,
    is_cut: bool,
}

impl Served {
    /// Collects queues, and leaves out those beyond [`SERVED_MAX`].
    #[must_use]
    pub fn of(queues: impl IntoIterator<Item = (TenantId, QueueName)>) -> Self {
        let (mut served, mut count) = (Self::default(), 0);
        for (tenant, queue) in queues {
            if count == SERVED_MAX {
                served.is_cut = true;
                break;
            }
            count += usize::from(served.queues.entry(tenant).or_default().insert(queue));
        }
        served
    }

    /// Queues by tenant.
    #[must_use]
    pub fn queues(&self) -> &BTreeMap<TenantId, BTreeSet<QueueName>> {
        &self.queues
    }

    /// Whether there are more queues than these.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether a queue is served; `None` if it isn't among those that were told, and there are more.
    #[must_use]
    pub fn has(&self, tenant: &TenantId, queue: &QueueName) -> Option<bool> {
        match self.queues.get(tenant).is_some_and(|queues| queues.contains(queue)) {
            false if self.is_cut => None,
            has => Some(has),
        }
    }
}

/// Daemons of which the store has heard lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Time of the look, by the store's clock.
    pub now: Timestamp,
    /// The daemons, in the order in which they started.
    pub daemons: Vec<DaemonSeen>,
    /// Number of daemons whose reports can't be read, as another version wrote them.
    pub unreadable: usize,
}

/// A daemon, and when the store has heard of it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSeen {
    /// The daemon.
    pub id: DaemonId,
    /// Time of its last report.
    pub seen: Timestamp,
    /// The report.
    pub report: DaemonReport,
}

impl DaemonSeen {
    /// Returns the time at which the daemon started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        before(self.seen, self.report.age)
    }

    /// Returns the time at which it last leased jobs, or saw that there were none for it.
    #[must_use]
    pub fn last_fetch(&self) -> Option<Timestamp> {
        Some(before(self.seen, self.report.fetched?))
    }
}

fn before(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_sub(millis(time)))
}

impl Fleet {
    /// Collects the entries of a store, each with the time of the report: of those that count as gone, nothing.
    pub(crate) fn of<'b>(
        now: Timestamp,
        entries: impl IntoIterator<Item = (DaemonId, Timestamp, &'b [u8])>,
    ) -> Self {
        let mut fleet = Self { now, daemons: Vec::new(), unreadable: 0 };
        for (id, seen, bytes) in entries {
            if now.since(seen) >= DAEMON_LAPSE {
                continue;
            }
            match DaemonReport::from_bytes(bytes) {
                Ok(report) => fleet.daemons.push(DaemonSeen { id, seen, report }),
                Err(_) => fleet.unreadable += 1,
            }
        }
        fleet.daemons.sort_unstable_by_key(|daemon| daemon.id);
        fleet
    }
}

/// Number of values at the head of a report. Later versions add theirs behind the queues.
const FIELDS: usize = 10;

impl DaemonReport {
    /// Returns the report as stores keep it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut to = Packer::default();
        to.array(FIELDS).bytes(cut(&self.name).as_bytes()).bytes(cut(&self.version).as_bytes());
        to.uint(millis(self.age)).optional_uint(self.fetched.map(millis));
        to.uint(self.slots.into()).uint(self.slots_used.into()).uint(self.is_draining.into());
        to.uint(self.plugins.into()).uint(self.served.is_cut.into());
        to.array(self.served.queues.len());
        for (tenant, queues) in &self.served.queues {
            to.array(1 + queues.len()).bytes(tenant.as_str().as_bytes());
            for queue in queues {
                to.bytes(queue.as_str().as_bytes());
            }
        }
        to.into_bytes()
    }

    /// Reads what [`Self::to_bytes`] has made, and what later versions may make.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut from = Unpacker::new(bytes);
        if from.array()? < FIELDS {
            return Err(Unreadable("it is cut"));
        }
        let number = |from: &mut Unpacker<'_>| -> Result<u32, Unreadable> {
            u32::try_from(from.uint()?).map_err(|_| Unreadable("a number is out of range"))
        };
        let (name, version) = (from.text()?.to_owned(), from.text()?.to_owned());
        let age = Duration::from_millis(from.uint()?);
        let fetched = from.optional(Unpacker::uint)?.map(Duration::from_millis);
        let (slots, slots_used) = (number(&mut from)?, number(&mut from)?);
        let is_draining = from.uint()? != 0;
        let plugins = number(&mut from)?;
        let mut served = Served { is_cut: from.uint()? != 0, ..Served::default() };
        for _ in 0..from.array()? {
            let count = from.array()?.checked_sub(1).ok_or(Unreadable("a tenant has no name"))?;
            let tenant = TenantId::parse(from.text()?).map_err(|_| Unreadable("a tenant's name is none"))?;
            let queues = (0..count)
                .map(|_| QueueName::parse(from.text()?).map_err(|_| Unreadable("a queue's name is none")));
            served.queues.insert(tenant, queues.collect::<Result<_, _>>()?);
        }
        Ok(Self { name, version, age, fetched, slots, slots_used, is_draining, plugins, served })
    }
}

/// Returns the beginning of a text, of no more bytes than are stored.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(tenant: u16, queue: u16) -> (TenantId, QueueName) {
        let tenant = TenantId::parse(&format!("t{tenant}")).expect("valid");
        (tenant, QueueName::parse(&format!("q{queue}")).expect("valid"))
    }

    proptest! {
        #[test]
        fn a_report_is_read_as_it_was_written(
            name in ".{0,40}", age in 0..1u64 << 40, fetched: Option<u32>, numbers: [u32; 3], is_draining: bool,
            queues in proptest::collection::vec((0..9u16, 0..99u16), 0..40), more in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let [slots, slots_used, plugins] = numbers;
            let report = DaemonReport {
                version: name.clone(), name, age: Duration::from_millis(age),
                fetched: fetched.map(|millis| Duration::from_millis(millis.into())),
                slots, slots_used, is_draining, plugins,
                served: Served::of(queues.into_iter().map(|(t, q)| queue(t, q))),
            };
            let mut bytes = report.to_bytes();
            prop_assert_eq!(DaemonReport::from_bytes(&bytes), Ok(report.clone()));
            bytes.extend(more);
            prop_assert_eq!(DaemonReport::from_bytes(&bytes), Ok(report));
        }

        #[test]
        fn any_bytes_can_be_read_or_not(bytes: Vec<u8>) {
            let _ = DaemonReport::from_bytes(&bytes);
        }
    }

    #[test]
    fn what_is_served_is_bounded_and_says_so() {
        let all = |count: u16| Served::of((0..count).map(|n| queue(n % 7, n)));
        let (tenant, last) = queue((SERVED_MAX as u16 - 1) % 7, SERVED_MAX as u16 - 1);
        assert!(!all(SERVED_MAX as u16).is_cut());
        assert_eq!(all(SERVED_MAX as u16).has(&tenant, &last), Some(true));
        let (other, missing) = queue(SERVED_MAX as u16 % 7, SERVED_MAX as u16);
        assert_eq!(all(SERVED_MAX as u16).has(&other, &missing), Some(false));
        assert!(all(SERVED_MAX as u16 + 1).is_cut());
        assert_eq!(all(SERVED_MAX as u16 + 1).has(&other, &missing), None, "nobody knows");
    }
}
