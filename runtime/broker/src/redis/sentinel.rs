//! Redis Sentinel: servers that watch a primary and its replicas, and know which one is the primary now.
//!
//! All of them are asked anew for each connection. A sentinel that is down, silent or out of date (just after a failover some
//! still name the old primary) delays nobody: the first answer counts that names a server which calls itself the primary.

use std::collections::HashMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Value};
use sandhog_core::redis::{Config, ConfigError, shown_url};

use super::dial::{client, connect, with_address};
use super::failure::{Fault, fault_of};

/// The sentinels, and the name of the primary that they watch.
#[derive(Clone)]
pub(super) struct Sentinels {
    all: Vec<Sentinel>,
    /// The name by which the sentinels know the primary.
    primary: String,
}

#[derive(Clone)]
struct Sentinel {
    client: Client,
    /// The address without secrets, for errors.
    address: String,
}

impl Sentinels {
    pub(super) fn new(config: &Config, urls: &[String]) -> Result<Self, ConfigError> {
        let sentinel = |url: &String| {
            let client = client(url, config).map_err(ConfigError::Sentinel)?;
            Ok(Sentinel { client, address: shown_url(url) })
        };
        let all = urls.iter().map(sentinel).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { all, primary: config.primary()? })
    }

    /// Returns a client of the current primary, with the settings of `client`.
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
        // Trying again helps as long as one of the sentinels may answer otherwise then.
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
        // Unlike ROLE, HELLO is allowed to every user.
        let mut hello: HashMap<String, Value> =
            ask_one(&primary, &redis::cmd("HELLO")).await.map_err(|fault| fault.at(&address))?;
        let role = hello.remove("role").and_then(|role| String::from_redis_value(role).ok());
        match role.as_deref() {
            Some("master") => Ok(primary),
            _ => Err(Fault::Unavailable(format!("{address} is not the primary, or not yet"))),
        }
    }
}

/// Sends one command over a connection of its own.
async fn ask_one<T: FromRedisValue>(client: &Client, ask: &Cmd) -> Result<T, Fault> {
    let mut connection = connect(client, AsyncConnectionConfig::new()).await?;
    ask.query_async(&mut connection).await.map_err(|error| fault_of(&error))
}
