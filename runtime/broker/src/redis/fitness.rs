//! Whether the server is one on which the broker can keep its promises.

use std::collections::HashMap;

use redis::Value;

use super::link::Link;
use crate::{Error, Result};

const MAJOR_MIN: u32 = 7;

/// Checks the server. The texts are warnings; what makes it unfit is an error.
pub(super) async fn check(link: &Link) -> Result<Vec<String>> {
    let Some(reply) = link.call_if_allowed("check", &redis::cmd("INFO")).await? else {
        return Ok(vec![
            "the broker's user may not ask for INFO, so the server's version, eviction policy and persistence are \
             unchecked"
                .to_owned(),
        ]);
    };
    let info = Info::read(&reply);
    info.check_version()?;
    info.check_eviction()?;
    info.check_role()?;
    let mut warnings = Vec::new();
    warnings.extend(info.persistence_warning());
    warnings.extend(append_only_warning(link, &info).await?);
    warnings.extend(info.cluster_warning());
    Ok(warnings)
}

/// What the server says about itself.
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

    fn check_version(&self) -> Result<()> {
        // Valkey tells the version of Redis that it is compatible with under the same name.
        let version = self.get("redis_version");
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
        if matches!(self.get("maxmemory"), "" | "0") || policy == "noeviction" {
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
        (!self.is("aof_enabled", "1")).then(|| {
            "the server keeps no append-only file, so jobs that it has acknowledged since its last snapshot are lost if \
             it ends without one; set appendonly to yes"
                .to_owned()
        })
    }

    fn cluster_warning(&self) -> Option<String> {
        self.is("cluster_enabled", "1").then(|| {
            "the server is a node of a cluster; this works for tenants whose slots are on this very node, and fails for \
             others"
                .to_owned()
        })
    }
}

/// How often the append-only file is written is no matter of INFO. Who may not ask for it isn't told.
async fn append_only_warning(link: &Link, info: &Info) -> Result<Option<String>> {
    if !info.is("aof_enabled", "1") {
        return Ok(None);
    }
    let command = redis::cmd("CONFIG").arg("GET").arg("appendfsync").to_owned();
    let Some(reply) = link.call_if_allowed("check", &command).await? else { return Ok(None) };
    let never = |value: &Value| matches!(value, Value::BulkString(bytes) if bytes == b"no");
    let found = match &reply {
        Value::Array(values) => values.iter().any(never),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| never(value)),
        _ => false,
    };
    Ok(found.then(|| {
        "the server leaves it to the system when its append-only file reaches the disk, so a power cut may lose half a \
         minute of jobs; set appendfsync to everysec or always"
            .to_owned()
    }))
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
        for old in ["redis_version:6.2.1\r\n", "", "redis_version:x"] {
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
    fn a_replica_is_unfit() {
        assert!(info("role:master\r\n").check_role().is_ok());
        assert!(info("role:slave\r\nmaster_host:10.0.0.1\r\n").check_role().is_err());
    }
}
