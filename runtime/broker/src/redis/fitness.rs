//! The check of whether the server, or each primary of its cluster, lets the broker keep its promises.

use std::collections::HashMap;

use redis::Value;
use sandhog_core::id::TenantId;
use sandhog_core::redis::Address;

use super::batch::Request;
use super::library::Scripts;
use super::link::{Answer, BY_SCRIPTS, Call, Link};
use super::nodes::Nodes;
use crate::{Error, Result};

const MAJOR_MIN: u32 = 7;

/// Checks the user, and the server or all primaries of its cluster. Returns warnings; what makes a server unfit is an error.
/// What the server doesn't tell is a warning: many managed servers answer no CONFIG, and work.
pub(super) async fn check(
    nodes: &Nodes,
    scripts: &Scripts,
    tenant: Option<&TenantId>,
) -> Result<Vec<String>> {
    let mut warnings = check_servers(nodes).await?;
    warnings.extend(check_user(nodes, scripts, tenant).await?);
    Ok(warnings)
}

/// Checks the user's permissions for its tenant; an operator's user, who serves all tenants, is checked for a made-up one.
async fn check_user(nodes: &Nodes, scripts: &Scripts, tenant: Option<&TenantId>) -> Result<Option<String>> {
    let anyone = TenantId::parse("check").map_err(|invalid| unfit(invalid.to_string()))?;
    let is_anyone = tenant.is_none();
    let tenant = tenant.unwrap_or(&anyone);
    let request = Request::of(tenant);
    let call = Call { scripts, function: &scripts.permissions, request: &request };
    match nodes.make_sure_of_permissions("check", tenant, call).await {
        // The tenant is made up, so its slot may well have no node.
        Err(Error::Unavailable { cause, .. }) if is_anyone => {
            return Ok(Some(format!("what the user may do could not be checked: {cause}")));
        }
        Err(Error::Unfit { problem }) if is_anyone => {
            return Err(unfit(format!(
                "{problem}; the user in `[broker]` works for all tenants that have none of their own, and a tenant's own belongs into \
                 `[tenants.NAME.broker]`"
            )));
        }
        checked => checked?,
    }
    Ok(nodes.home_of(tenant).calls_scripts().then(|| BY_SCRIPTS.to_owned()))
}

async fn check_servers(nodes: &Nodes) -> Result<Vec<String>> {
    let (node, answer) = nodes.ask_any("check", &redis::cmd("INFO")).await?;
    let info = match answer {
        Answer::Given(reply) => Info::read(&reply),
        Answer::Withheld(why) => return Ok(vec![unchecked(OF_INFO, "INFO", &why)]),
    };
    match info.is("cluster_enabled", "1") {
        false => check_server(&node, &info).await,
        true => check_cluster(nodes, &node, &info).await,
    }
}

/// The parts of INFO that are checked, for warnings.
const OF_INFO: &str = "the server's version, role, eviction policy and persistence";

const NO_REPLICA: &str = "it has no replica, so while it is gone nothing is done for its tenants";

/// Returns the warning that something couldn't be checked.
fn unchecked(what: &str, command: &str, why: &str) -> String {
    format!("{what} could not be checked, as the server doesn't answer {command}: {why}")
}

async fn check_server(server: &Link, info: &Info) -> Result<Vec<String>> {
    info.check_version()?;
    info.check_eviction()?;
    info.check_role()?;
    let mut warnings = Vec::new();
    warnings.extend(info.untold());
    warnings.extend(info.persistence_warning());
    if info.is("aof_enabled", "1") {
        warnings.extend(warning_of(server, "appendfsync", "no", FSYNC_WARNING).await?);
    }
    if info.has_replicas() {
        warnings.extend(warning_of(server, "min-replicas-to-write", "0", REPLICAS_WARNING).await?);
    }
    Ok(warnings)
}

const FSYNC_WARNING: &str = "the server leaves it to the system when its append-only file reaches the disk, so a power cut may lose half a \
    minute of jobs; set appendfsync to everysec or always";
const REPLICAS_WARNING: &str = "the server has replicas, and goes on to acknowledge jobs while it is cut off from all of them, which are lost \
    if one of them then takes its place; set min-replicas-to-write to 1";

/// Returns `warning` if the setting has the value `bad`, or another warning if it can't be read.
async fn warning_of(server: &Link, name: &str, bad: &str, warning: &str) -> Result<Option<String>> {
    let command = redis::cmd("CONFIG").arg("GET").arg(name).to_owned();
    let answer = server.ask(&command).await.map_err(|failure| failure.fault().of("check"))?;
    let reply = match answer {
        Answer::Given(reply) => reply,
        Answer::Withheld(why) => return Ok(Some(unchecked(name, "CONFIG GET", &why))),
    };
    let settings: HashMap<String, String> = redis::from_redis_value(reply).unwrap_or_default();
    Ok(match settings.get(name) {
        Some(value) if value == bad => Some(warning.to_owned()),
        Some(_) => None,
        None => Some(unchecked(name, "CONFIG GET", "its answer doesn't have it")),
    })
}

/// Checks each primary of the cluster. Warnings and errors of a node say which one it is.
async fn check_cluster(nodes: &Nodes, asked: &Link, info: &Info) -> Result<Vec<String>> {
    let command = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
    let (node, answer) = nodes.ask_any("check", &command).await?;
    let reply = match answer {
        Answer::Given(reply) => reply,
        Answer::Withheld(why) => {
            // The node that was asked is checked all the same.
            let mut warnings = vec![unchecked("the other nodes of the cluster", "CLUSTER SLOTS", &why)];
            warnings.extend(check_server(asked, info).await?);
            return Ok(warnings);
        }
    };
    let shards = Shards::read(reply, &node);
    let mut warnings: Vec<String> = shards.warning().into_iter().collect();
    for address in &shards.primaries {
        let primary = nodes.at(address);
        let of_it = |problem: String| format!("node {address} of the cluster: {problem}");
        let answer = primary.ask(&redis::cmd("INFO")).await.map_err(|failure| failure.fault().of("check"))?;
        let info = match answer {
            Answer::Given(reply) => Info::read(&reply),
            Answer::Withheld(why) => {
                warnings.push(of_it(unchecked(OF_INFO, "INFO", &why)));
                continue;
            }
        };
        match check_server(&primary, &info).await {
            Ok(of_server) => {
                let alone = (!info.has_replicas()).then(|| NO_REPLICA.to_owned());
                warnings.extend(of_server.into_iter().chain(alone).map(of_it));
            }
            Err(Error::Unfit { problem }) => return Err(unfit(of_it(problem))),
            Err(other) => return Err(other),
        }
    }
    Ok(warnings)
}

/// The assignment of a cluster's slots to nodes.
struct Shards {
    /// Number of slots that have a node.
    slots: u64,
    primaries: Vec<Address>,
}

const SLOTS: u64 = 16_384;

impl Shards {
    /// Reads the answer to CLUSTER SLOTS: for each range its first and last slot, its primary, and its replicas.
    fn read(reply: Value, asked: &Link) -> Self {
        let mut shards = Self { slots: 0, primaries: Vec::new() };
        let Value::Array(ranges) = reply else { return shards };
        for range in ranges {
            let Value::Array(range) = range else { continue };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_slice() else {
                continue;
            };
            shards.slots += u64::try_from(last - first + 1).unwrap_or_default();
            shards.primaries.extend(address(primary, asked));
        }
        shards.primaries.sort_by_cached_key(Address::to_string);
        shards.primaries.dedup();
        shards
    }

    fn warning(&self) -> Option<String> {
        let missing = SLOTS.saturating_sub(self.slots);
        (missing > 0).then(|| {
            format!("{missing} of the cluster's {SLOTS} slots have no node, so nothing can be done for tenants in them")
        })
    }
}

/// Returns a node's address. A node that doesn't know its own name is at the address where it was asked.
fn address(node: &[Value], asked: &Link) -> Option<Address> {
    let [host, Value::Int(port), ..] = node else { return None };
    let port = u16::try_from(*port).ok()?;
    match host {
        Value::BulkString(host) if !matches!(host.as_slice(), b"" | b"?") => {
            Address::new(std::str::from_utf8(host).ok()?, port)
        }
        _ => Address::new(asked.address()?.host(), port),
    }
}

/// The answer to INFO, by field.
struct Info(HashMap<String, String>);

impl Info {
    fn read(reply: &Value) -> Self {
        let text = match reply {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::VerbatimString { text, .. } => text.clone(),
            _ => String::new(),
        };
        Self::of_text(&text)
    }

    fn of_text(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// Returns a warning of the fields that INFO leaves out, or `None` if it has all of them.
    fn untold(&self) -> Option<String> {
        let of_field = |(field, what): (&str, &'static str)| (!self.0.contains_key(field)).then_some(what);
        let fields = [
            ("redis_version", "its version"),
            ("role", "its role"),
            ("maxmemory_policy", "its eviction policy"),
            ("aof_enabled", "its persistence"),
        ];
        let untold: Vec<&str> = fields.into_iter().filter_map(of_field).collect();
        (!untold.is_empty()).then(|| unchecked(&untold.join(", "), "INFO", "its answer doesn't have it"))
    }

    fn check_version(&self) -> Result<()> {
        // Under this name Valkey gives the version of Redis that it is compatible with.
        let Some(version) = self.0.get("redis_version") else { return Ok(()) };
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major >= MAJOR_MIN) {
            return Ok(());
        }
        Err(unfit(format!(
            "the server is version `{version}`; it has to be Redis {MAJOR_MIN} or later, or Valkey"
        )))
    }

    fn check_eviction(&self) -> Result<()> {
        let policy = self.get("maxmemory_policy");
        // Without a limit nothing is ever evicted.
        if matches!(self.get("maxmemory"), "" | "0") || matches!(policy, "" | "noeviction") {
            return Ok(());
        }
        Err(unfit(format!(
            "the server drops keys when its memory is full (maxmemory-policy is `{policy}`), and jobs with them; set \
             maxmemory-policy to noeviction"
        )))
    }

    fn check_role(&self) -> Result<()> {
        if self.is("role", "slave") {
            let host = self.get("master_host");
            return Err(unfit(format!(
                "the server is a replica and can't be written to; name its primary, {host}"
            )));
        }
        Ok(())
    }

    fn persistence_warning(&self) -> Option<String> {
        self.is("aof_enabled", "0").then(|| {
            "the server keeps no append-only file, so jobs that it has acknowledged since its last snapshot are lost if \
             it ends without one; set appendonly to yes"
                .to_owned()
        })
    }

    fn has_replicas(&self) -> bool {
        !matches!(self.get("connected_slaves"), "" | "0")
    }
}

fn unfit(problem: String) -> Error {
    Error::Unfit { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        Info::of_text(text)
    }

    #[test]
    fn an_old_server_is_unfit() {
        assert!(info("redis_version:7.0.15\r\n").check_version().is_ok());
        assert!(info("redis_version:10.1.0\r\n").check_version().is_ok());
        for old in ["redis_version:6.2.1\r\n", "redis_version:", "redis_version:x"] {
            assert!(info(old).check_version().is_err(), "{old}");
        }
    }

    #[test]
    fn a_server_that_evicts_is_unfit_only_if_it_ever_would() {
        assert!(info("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n").check_eviction().is_ok());
        assert!(info("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n").check_eviction().is_ok());
        let problem = info("maxmemory:100\r\nmaxmemory_policy:volatile-lru\r\n").check_eviction();
        let problem = problem.expect_err("it would drop keys").to_string();
        assert!(problem.contains("volatile-lru") && problem.contains("noeviction"), "{problem}");
    }

    #[test]
    fn what_a_server_leaves_out_is_unchecked_and_not_wrong() {
        let silent = info("redis_mode:standalone\r\n");
        assert!(
            silent.check_version().is_ok() && silent.check_eviction().is_ok() && silent.check_role().is_ok()
        );
        assert_eq!(silent.persistence_warning(), None);
        let untold = silent.untold().expect("there is much to say");
        assert!(untold.contains("its version, its role, its eviction policy, its persistence"), "{untold}");
        let full = "redis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(info(full).untold(), None);
    }

    #[test]
    fn a_replica_is_unfit() {
        assert!(info("role:master\r\n").check_role().is_ok());
        assert!(info("role:slave\r\nmaster_host:10.0.0.1\r\n").check_role().is_err());
    }
}
