//! Redis Sentinel: servers that watch a primary and its replicas, and know which one is the primary now.
//!
//! They are asked anew for each connection that is made, all at once. One that is down, or silent, or behind the times
//! (just after a failover some of them still name the old primary) delays nobody: the first answer counts whose server
//! says of itself that it is the primary.

use std::collections::HashMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Value};

use super::config::{Config, ConfigError};
use super::dial::{client, connect, with_address};
use super::failure::{Fault, fault_of};
use super::url::{Kind, parse, shown};

/// The sentinels, and the primary that they are asked for.
#[derive(Clone)]
pub(super) struct Sentinels {
    all: Vec<Sentinel>,
    /// The name by which they know it.
    primary: String,
}

#[derive(Clone)]
struct Sentinel {
    client: Client,
    /// As it may be shown.
    address: String,
}

impl Sentinels {
    pub(super) fn new(config: &Config, urls: &[String]) -> Result<Self, ConfigError> {
        if urls.is_empty() {
            return Err(ConfigError::NoSentinels);
        }
        let sentinel = |url: &String| {
            let client = client(url, config).map_err(ConfigError::Sentinel)?;
            Ok(Sentinel { client, address: shown(url) })
        };
        let all = urls.iter().map(sentinel).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { all, primary: name_in(&config.url)? })
    }

    /// What connects to the present primary, as `client` does to a server.
    pub(super) async fn primary(&self, client: &Client) -> Result<Client, Fault> {
        let mut answers: FuturesUnordered<_> =
            self.all.iter().map(|sentinel| sentinel.primary(&self.primary, client)).collect();
        let mut faults = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(primary) => return Ok(primary),
                Err(fault) => faults.push(fault),
            }
        }
        // Another try helps as long as one of them may have something else to say then.
        let hopeful = faults.iter().position(|fault| matches!(fault, Fault::Unavailable(_)));
        Err(faults.swap_remove(hopeful.unwrap_or_default()))
    }
}

impl Sentinel {
    async fn primary(&self, name: &str, client: &Client) -> Result<Client, Fault> {
        let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).to_owned();
        let answer: Option<(String, u16)> =
            ask_one(&self.client, &ask).await.map_err(|fault| fault.at(&self.address))?;
        let Some((host, port)) = answer else {
            let address = &self.address;
            return Err(Fault::Unfit(format!("the sentinel {address} knows no primary called `{name}`")));
        };
        let address = format!("{host}:{port}");
        let primary = with_address(client, host, port);
        // Unlike ROLE, every user may ask this.
        let mut hello: HashMap<String, Value> =
            ask_one(&primary, &redis::cmd("HELLO")).await.map_err(|fault| fault.at(&address))?;
        let role = hello.remove("role").and_then(|role| String::from_redis_value(role).ok());
        match role.as_deref() {
            Some("master") => Ok(primary),
            _ => Err(Fault::Unavailable(format!("{address} is not the primary, or not yet"))),
        }
    }
}

/// Asks one thing, over a connection that is made for it.
async fn ask_one<T: FromRedisValue>(client: &Client, ask: &Cmd) -> Result<T, Fault> {
    let mut connection = connect(client, AsyncConnectionConfig::new()).await?;
    ask.query_async(&mut connection).await.map_err(|error| fault_of(&error))
}

/// The name of the primary, which stands in the URL where a server's host would.
fn name_in(url: &str) -> Result<String, ConfigError> {
    if parse(url).map_err(ConfigError::Url)?.kind == Kind::Socket {
        return Err(ConfigError::Primary("it is that of a socket"));
    }
    let parsed = redis::parse_redis_url(url).ok_or(ConfigError::Primary("it is no URL of Redis"))?;
    if parsed.port().is_some() {
        return Err(ConfigError::Primary("it names a port, which they know"));
    }
    let name = parsed.host_str().filter(|name| !name.is_empty());
    Ok(name.ok_or(ConfigError::Primary("it doesn't name the primary"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primarys_name_stands_where_a_host_would() {
        for url in ["redis://my_Primary.1", "rediss://me:hunter2@my_Primary.1/3"] {
            assert_eq!(name_in(url).expect("it has a name"), "my_Primary.1");
        }
        for url in ["redis://:hunter2@mymaster:6379", "redis:///0", "unix:///tmp/hunter2", "hunter2@mymaster"]
        {
            let refused = name_in(url).expect_err("it has none").to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
