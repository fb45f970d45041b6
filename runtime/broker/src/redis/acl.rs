//! ACL rules of tenants' own users of the server: the commands and keys that they need, and no others.
//!
//! There are two roles. A **worker's** user does for its tenant all that daemons do. A **producer's** enqueues and looks: it
//! may write what enqueueing writes, and neither leases, settlements, state nor accounts. The server checks each command that
//! a function calls by the rules of the user who called the function, so a user can do by functions what it can do by hand,
//! and no more.
//!
//! Users of both roles call functions and load none: a user who could load them could change the functions of all tenants.
//! The operator's own login loads them.

use sandhog_core::id::TenantId;

use super::keys;

/// The role of a tenant's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The tenant's own services: they enqueue jobs, and look at them.
    Producer,
    /// Daemons, and people who correct by hand what has become of jobs.
    Worker,
}

/// Commands that connections send by themselves, beside calls of functions. The login needs no permission.
const CONNECTION: [&str; 4] = ["hello", "ping", "select", "subscribe"];

/// The command that calls a function.
const CALL: &str = "fcall";

/// Commands that functions call, each with arguments. The server checks each call, with its keys.
const CALLS: [&str; 31] = [
    "del key",
    "exists key",
    "expire key 0",
    "get key",
    "getrange key 0 0",
    "hdel key 0",
    "hget key 0",
    "hgetall key",
    "hmget key 0",
    "hset key 0 0",
    "lrange key 0 0",
    "ltrim key 0 0",
    "mget key",
    "mset key 0",
    "msetnx key 0",
    "publish channel 0",
    "rpush key 0",
    "sadd key 0",
    "set key 0",
    "sismember key 0",
    "smembers key",
    "srem key 0",
    "strlen key",
    "time",
    "unlink key",
    "zadd key 0 0",
    "zcard key",
    "zrange key 0 0",
    "zrem key 0",
    "zremrangebyrank key 0 0",
    "zscore key 0",
];

/// A call that a producer's user may make as well, though not with any other key.
const ENQUEUES: &str = "zadd schedule 0 0";

/// Commands by which looks and enqueueing read.
const PRODUCER_READS: [&str; 13] = [
    "exists",
    "get",
    "getrange",
    "hget",
    "hgetall",
    "lrange",
    "mget",
    "sismember",
    "smembers",
    "time",
    "zcard",
    "zrange",
    "zscore",
];

/// Keys that looks and enqueueing read. Of state only its size is among them, as its values are the plugins' own.
const PRODUCER_READS_FROM: [&str; 39] = [
    "after:*",
    "blocked",
    "breakers",
    "event_log",
    "events",
    "fair",
    "finals*",
    "flow:*",
    "gates",
    "group_limits",
    "held",
    "hold_notes",
    "holds",
    "job:*",
    "lanes",
    "leases",
    "lines",
    "log:*",
    "open:*",
    "parked",
    "queues",
    "ready:*",
    "rules",
    "run:*",
    "schedule",
    "schedules",
    "schedules:records",
    "sequence",
    "shares:*",
    "sizes",
    "starting",
    "tally",
    "turns",
    "unique",
    "unique_deadlines",
    "unique_ends",
    "unreadable",
    "waiters:*",
    "weights",
];

/// Keys of the tenant's usage accounts.
const USAGE: &str = "usage:*";

/// Commands by which enqueueing writes, each with the keys that it writes.
const PRODUCER_WRITES: [(&str, &[&str]); 9] = [
    (
        "zadd",
        &[
            "blocked",
            "lines",
            "ready:*",
            "schedule",
            "shares:*",
            "starting",
            "turns",
            "unique_deadlines",
            "unique_ends",
        ],
    ),
    ("mset", &["after:*", "event_log", "job:*", "open:*", "sequence", "tally"]),
    ("msetnx", &["job:*"]),
    ("sadd", &["queues"]),
    ("hset", &["flow:*", "unique"]),
    ("srem", &["waiters:*"]),
    ("zrem", &["blocked", "lines"]),
    ("rpush", &["events"]),
    ("ltrim", &["events"]),
];

/// The command by which enqueueing notifies listeners.
const PUBLISH: &str = "publish";

/// Returns calls that show what a user is allowed: one of each command that functions call, on a key of the tenant or on its
/// channel; and one that a producer's user may make.
pub(super) fn calls(tenant: &TenantId) -> Vec<Vec<String>> {
    let word = |word: &str| match word {
        "key" => keys::never(tenant),
        "channel" => keys::wake(tenant),
        "schedule" => format!("{}schedule", keys::prefix(tenant)),
        other => other.to_owned(),
    };
    CALLS.iter().chain([&ENQUEUES]).map(|call| call.split(' ').map(word).collect()).collect()
}

/// The permissions that a user turned out to have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// The user may call all that functions call.
    All,
    /// The user may do what a producer's user may.
    Enqueueing,
    /// The user may not call these commands.
    AllBut(Vec<&'static str>),
}

/// Returns the permissions of a user who was refused the [`calls`] with these indexes.
pub(super) fn allowed(refused: &[usize]) -> Allowed {
    let is_refused = |call: &str| {
        CALLS
            .iter()
            .chain([&ENQUEUES])
            .position(|known| *known == call)
            .is_some_and(|at| refused.contains(&at))
    };
    if refused.is_empty() {
        return Allowed::All;
    }
    if is_refused("zadd key 0 0") && !is_refused(ENQUEUES) {
        return Allowed::Enqueueing;
    }
    let name = |at: &usize| commands().nth(*at).unwrap_or("zadd");
    Allowed::AllBut(refused.iter().map(name).collect())
}

/// Returns the commands that functions call.
fn commands() -> impl Iterator<Item = &'static str> {
    CALLS.iter().filter_map(|call| call.split(' ').next())
}

/// Returns the rules of `ACL SETUSER` for a user of this tenant: its keys, its channel, and the commands that the broker
/// uses. They remove all that the user was allowed before, and leave passwords alone.
///
/// `INFO` and `CONFIG GET` are not among them, as they tell of the whole server. Without them [`crate::Broker::check`] says
/// that it could not look.
#[must_use]
pub fn acl_rules(tenant: &TenantId, role: Role) -> Vec<String> {
    let prefix = keys::prefix(tenant);
    let mut rules: Vec<String> = ["on", "clearselectors", "resetkeys"].map(str::to_owned).into();
    match role {
        Role::Worker => rules.push(format!("~{prefix}*")),
        Role::Producer => {
            let readable = PRODUCER_READS_FROM.into_iter().chain([USAGE]);
            rules.extend(readable.map(|name| format!("%R~{prefix}{name}")));
        }
    }
    rules.push("resetchannels".to_owned());
    rules.push(format!("&{}", keys::wake(tenant)));
    rules.push("-@all".to_owned());
    rules.extend(CONNECTION.iter().map(|command| format!("+{command}")));
    match role {
        Role::Worker => {
            rules.extend([CALL].into_iter().chain(commands()).map(|command| format!("+{command}")))
        }
        Role::Producer => {
            rules.extend(PRODUCER_READS.into_iter().chain([PUBLISH]).map(|command| format!("+{command}")));
            // To the server, a function may read and write whatever keys it is given. Each of its commands on them is checked
            // by itself.
            rules.push(format!("(+{CALL} ~{prefix}*)"));
            for (command, names) in PRODUCER_WRITES {
                let names: Vec<String> = names.iter().map(|name| format!("%W~{prefix}{name}")).collect();
                rules.push(format!("(+{command} {})", names.join(" ")));
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The texts of files in a folder whose names end like this.
    fn texts(folder: &str, extension: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files =
            fs::read_dir(folder).expect("the folder is there").map(|file| file.expect("a file").path());
        let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
        files.map(|path| fs::read_to_string(path).expect("a text")).collect()
    }

    /// The words that follow these openings, up to the closing mark.
    fn words<'t>(text: &'t str, openings: &'t [&str], close: char) -> impl Iterator<Item = String> + 't {
        let after = openings.iter().flat_map(|opening| text.split(*opening).skip(1));
        after.filter_map(move |rest| Some(rest.split_once(close)?.0.to_lowercase()))
    }

    #[test]
    fn every_command_of_the_scripts_is_allowed_and_no_other() {
        let openings = [
            "call('",
            "list('",
            "list_of_many('",
            "fresh or { '",
            "try('",
            "values('",
            "value('",
            "pair('",
            "need('",
        ];
        let used: BTreeSet<String> = texts("src/redis/lua", "lua")
            .iter()
            .flat_map(|text| words(text, &openings, '\'').collect::<Vec<_>>())
            .collect();
        assert_eq!(used, commands().map(str::to_owned).collect());
    }

    #[test]
    fn every_command_outside_scripts_is_allowed_but_for_those_that_tell_of_the_server() {
        let allowed = |word: &String| {
            let of_group = |command: &&str| command.split('|').next() == Some(word.as_str());
            CONNECTION.into_iter().chain([CALL]).chain(commands()).any(|command| of_group(&command))
        };
        let sources = texts("src/redis", "rs");
        let sent = sources.iter().flat_map(|text| words(text, &["redis::cmd(\""], '"').collect::<Vec<_>>());
        let not_allowed: BTreeSet<String> = sent.filter(|word| !allowed(word)).collect();
        // The operator loads functions, and purges tenants; scripts are loaded by users that earlier versions have made; the last
        // one goes to sentinels, which have users of their own.
        let others = ["cluster", "config", "function", "info", "scan", "script", "sentinel"];
        assert_eq!(not_allowed, others.map(str::to_owned).into());
    }

    /// What they are needed for is shown on a server, with the keys: see `tests/redis/producer.rs`.
    #[test]
    fn a_producer_is_allowed_nothing_that_a_worker_is_not() {
        let workers: BTreeSet<&str> = commands().collect();
        let writes = PRODUCER_WRITES.map(|(command, _)| command);
        for command in PRODUCER_READS.into_iter().chain(writes).chain([PUBLISH]) {
            assert!(workers.contains(command), "{command}");
        }
        for command in PRODUCER_READS {
            assert!(!writes.contains(&command), "{command} writes");
        }
    }

    #[test]
    fn the_rules_name_the_tenants_keys_and_channel() {
        let tenant = TenantId::parse("acme").expect("a valid name");
        let workers = ["~sandhog:{acme}:*", "&sandhog:{acme}:wake", "-@all", "+fcall"];
        let producers = [
            "%R~sandhog:{acme}:usage:*",
            "&sandhog:{acme}:wake",
            "-@all",
            "(+fcall ~sandhog:{acme}:*)",
            "(+zrem %W~sandhog:{acme}:blocked %W~sandhog:{acme}:lines)",
        ];
        for (role, wanted) in [(Role::Worker, &workers[..]), (Role::Producer, &producers)] {
            let rules = acl_rules(&tenant, role);
            for rule in wanted {
                assert!(rules.iter().any(|known| known == rule), "{role:?}: {rule}");
            }
        }
    }

    #[test]
    fn what_is_refused_tells_whose_user_it_is() {
        let place = |call: &str| CALLS.iter().position(|known| *known == call).expect("it is in the list");
        assert_eq!(allowed(&[]), Allowed::All);
        assert_eq!(allowed(&[place("zadd key 0 0"), place("zrem key 0")]), Allowed::Enqueueing);
        assert_eq!(allowed(&[place("zrem key 0")]), Allowed::AllBut(vec!["zrem"]));
        assert_eq!(allowed(&[place("zadd key 0 0"), CALLS.len()]), Allowed::AllBut(vec!["zadd", "zadd"]));
    }
}
