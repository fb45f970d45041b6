//! Names of all keys. The Lua scripts build the same names from the same prefix (`lua/start.lua`). Rules on what a
//! producer's user may read and write of them are in `acl.rs`.
//!
//! | key, after `sandhog:{tenant}:` | type | content |
//! |---|---|---|
//! | `job:<id>` | string | the job as its producer enqueued it; never changes |
//! | `run:<id>` | string | its history since; absent before its first lease |
//! | `log:<id>` | list | its log lines |
//! | `ready:<lane>` | sorted set | ready jobs, by priority and the order of becoming ready; see `lua/waiting.lua` |
//! | `queues` | set | the lanes that hold a ready job |
//! | `tally` | string | numbers of waiting jobs, of bytes in their payloads and of changes of lanes; see `lua/tally.lua` |
//! | `lanes` | hash | the kinds that have a lane of their own; see `lua/lanes.lua` |
//! | `breakers`, `gates` | hash | the records of breakers, and what of them holds jobs back; see `lua/breaker.lua` |
//! | `holds`, `hold_notes` | sorted set, hash | what is held back, by when that ends; and why, by whom, since when; see `lua/holds.lua` |
//! | `places`, `limits`, `in:<limit>` | hash, set, sorted set | jobs that are leased under a fleet limit; see `lua/places.lua` |
//! | `rules` | hash | the rules of queues for groups; see `lua/groups.lua` |
//! | `group_limits` | hash | limits of single groups; see `lua/groups.lua` |
//! | `turns`, `lines`, `held` | sorted sets | jobs that have a turn of their group, wait for one, or hold it as they are dead |
//! | `fair`, `weights`, `shares:<queue>` | hashes, sorted set | the fair queues, weights of groups, and places; see `lua/fair.lua` |
//! | `blocked` | sorted set | jobs that wait for others, in the order in which they came |
//! | `rates` | hash | states of rate limits; see `lua/rates.lua` |
//! | `asked:<daemon>` | string | the last grant of leases to a daemon; see `lua/lease.lua` |
//! | `sequence` | string | the counter behind the order of becoming ready; absent while no job is ready |
//! | `schedule` | sorted set | scheduled jobs, by due time |
//! | `starting` | sorted set | jobs that have to start within a time and haven't, by when it is over; see `lua/starting.lua` |
//! | `flow:<id>` | hash | the jobs of a flow, and what each comes after; see `lua/flows.lua` |
//! | `open:<id>`, `after:<id>` | string | the jobs that a blocked job waits for; those that come after a job |
//! | `settled` | sorted set | jobs of flows that have ended, until the jobs that come after them are told |
//! | `leases` | sorted set | leased jobs, by expiry of their leases |
//! | `finals:<state>:<keep>` | sorted set | final jobs that are kept for `<keep>` milliseconds, by finish time |
//! | `finals` | sorted set | the former, by when the first job of each is to be removed; and `state`, by when a value expires |
//! | `unique` | hash | unique keys and the jobs that hold them |
//! | `unique_ends`, `unique_deadlines` | sorted sets | when keys are free in any case, and past which time nothing is put off; see `lua/unique.lua` |
//! | `state:<plugin>:<key>` | string | a plugin's state; see `lua/state.lua` |
//! | `expiring` | sorted set | values of state that expire, by expiry |
//! | `sizes` | hash | size of each plugin's state |
//! | `usage:<day>` | hash | usage of the tenant's runs on a day, by plugin; see `lua/accounts.lua` |
//! | `parked:<lane>` | sorted set | ready jobs that can't be read, out of the way of the others; see `lua/parking.lua` |
//! | `parked` | set | the lanes with parked jobs |
//! | `unreadable` | sorted set | jobs that can't be read, by when that was found |
//! | `trial:<plugin>:<old>:<new>` | hash | a canary's trial: each daemon's counts, and the decision; see `lua/trial.lua` |
//! | `schedules` | sorted set | the schedules, by when they are due; those that aren't at the end; see `lua/schedule.lua` |
//! | `schedules:records` | hash | their records |
//! | `events`, `event_log` | list, string | events, while somebody wants them; until when that is, and their numbers; see `lua/events.lua` |
//! | `never` | – | never exists; every function declares it, see [`Keys::of`] |
//! | `waiters:<lane>` | set | daemons that wait for jobs of a lane; see `lua/waiters.lua` |
//! | `wake` | channel | news: see below |
//!
//! Keys of no tenant are `sandhog:tenants`, the set of tenants; and after `sandhog:{sandhog:tenants}:` the ZSET `daemons` and the
//! HASH `daemon_reports`, the list of daemons: see `lua/daemon.lua`.
//!
//! Messages on `wake`: an empty one when there is work where there was none; `ready <daemon>` when that daemon is to look
//! for it; the id of a leased job when it is to be cancelled; `due` when a schedule is due earlier than any was;
//! `events` when events were recorded.

use std::fmt::{Display, Write};

use sandhog_core::account::Day;
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::trial::Pair;

/// Keys of one tenant, in the order in which a script gets them. The first key is the same for all scripts.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
    /// All keys concatenated; each ends where the next one starts.
    text: String,
    ends: Vec<usize>,
}

/// Position of a key among the keys of a script, from 1 on as in Lua.
pub(super) type Place = u64;

impl Keys {
    /// Creates the list with the key that every script gets, and that never exists. It tells scripts the tenant.
    ///
    /// Redis Cluster migrates a slot key by key. Meanwhile a script may be run on the node that the slot leaves as long as all
    /// keys that it declares are still there; but it stops half-way, with what it has written so far, at the first command
    /// that reads or creates another one. A node that lacks a declared key doesn't start the script. So with this key declared,
    /// no script is run while its tenant's slot is being migrated, and each is run as a whole.
    pub(super) fn of(tenant: &TenantId) -> Self {
        let mut keys = Self { prefix: prefix(tenant), text: String::new(), ends: Vec::new() };
        keys.push("never", "");
        keys
    }

    /// Creates the list for the functions on the list of daemons, which is no tenant's.
    pub(super) fn of_fleet() -> Self {
        let mut keys = Self { prefix: FLEET.to_owned(), text: String::new(), ends: Vec::new() };
        keys.push("never", "");
        keys
    }

    fn push(&mut self, name: &str, rest: impl Display) -> Place {
        self.text.push_str(&self.prefix);
        self.text.push_str(name);
        write!(self.text, "{rest}").expect("writing to a string can't fail");
        self.ends.push(self.text.len());
        self.ends.len() as Place
    }

    pub(super) fn job(&mut self, id: JobId) -> Place {
        self.push("job:", id)
    }

    pub(super) fn run(&mut self, id: JobId) -> Place {
        self.push("run:", id)
    }

    pub(super) fn log(&mut self, id: JobId) -> Place {
        self.push("log:", id)
    }

    pub(super) fn state(&mut self, plugin: &PluginName, key: &StateKey) -> Place {
        self.push("state:", format_args!("{plugin}:{key}"))
    }

    pub(super) fn trial(&mut self, pair: &Pair) -> Place {
        self.push("trial:", of_pair(pair))
    }

    /// Adds a key by its full name, which must be one of the tenant's.
    pub(super) fn named(&mut self, name: &str) -> Place {
        self.text.push_str(name);
        self.ends.push(self.text.len());
        self.ends.len() as Place
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }
}

/// Returns the key that never exists: see [`Keys::of`].
pub(super) fn never(tenant: &TenantId) -> String {
    format!("{}never", prefix(tenant))
}

/// Returns the prefix of all keys of a tenant. The braces make Redis Cluster put them in one slot.
pub(super) fn prefix(tenant: &TenantId) -> String {
    format!("sandhog:{{{tenant}}}:")
}

/// Key of the set of tenants of which the server keeps anything, as far as the operator's user has served them.
pub(super) const TENANTS: &str = "sandhog:tenants";

/// Prefix of the keys of the list of daemons. The braces put them into the slot of [`TENANTS`]; no tenant has this name, as
/// names have no colons.
const FLEET: &str = "sandhog:{sandhog:tenants}:";

/// Returns the pattern of a tenant's keys whose names begin with `name`.
pub(super) fn pattern(tenant: &TenantId, name: &str) -> String {
    format!("{}{name}*", prefix(tenant))
}

pub(super) fn job(tenant: &TenantId, id: JobId) -> String {
    format!("{}job:{id}", prefix(tenant))
}

pub(super) fn run(tenant: &TenantId, id: JobId) -> String {
    format!("{}run:{id}", prefix(tenant))
}

pub(super) fn log(tenant: &TenantId, id: JobId) -> String {
    format!("{}log:{id}", prefix(tenant))
}

pub(super) fn usage(tenant: &TenantId, day: Day) -> String {
    format!("{}usage:{}", prefix(tenant), day.0)
}

/// Returns the end of a trial's key.
fn of_pair(Pair { plugin, old, new }: &Pair) -> String {
    format!("{plugin}:{old}:{new}")
}

pub(super) fn trial(tenant: &TenantId, pair: &Pair) -> String {
    format!("{}trial:{}", prefix(tenant), of_pair(pair))
}

pub(super) fn tally(tenant: &TenantId) -> String {
    format!("{}tally", prefix(tenant))
}

pub(super) fn events(tenant: &TenantId) -> String {
    format!("{}events", prefix(tenant))
}

pub(super) fn hold_notes(tenant: &TenantId) -> String {
    format!("{}hold_notes", prefix(tenant))
}

pub(super) fn wake(tenant: &TenantId) -> String {
    format!("{}wake", prefix(tenant))
}

/// Returns the state key in a key that [`Keys::state`] made. A plugin's name has no colon, so the first colon ends it.
pub(super) fn state_key_in<'a>(tenant: &TenantId, key: &'a str) -> Option<&'a str> {
    let plugin_and_key = key.strip_prefix(&prefix(tenant))?.strip_prefix("state:")?;
    plugin_and_key.split_once(':').map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::parse("acme").expect("a valid name")
    }

    #[test]
    fn keys_come_out_as_they_were_put_in() {
        let mut keys = Keys::of(&tenant());
        let plugin = PluginName::parse("report").expect("a valid name");
        let place = keys.state(&plugin, &StateKey::parse("a:b").expect("a valid key"));
        let all: Vec<&str> = keys.iter().collect();
        assert_eq!(all, ["sandhog:{acme}:never", "sandhog:{acme}:state:report:a:b"]);
        assert_eq!((place, keys.len()), (2, all.len()));
        assert_eq!(state_key_in(&tenant(), all[1]), Some("a:b"));
    }
}
