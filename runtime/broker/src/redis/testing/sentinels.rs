//! A primary with two replicas, and three sentinels that put one of them in its place when it is gone.

use std::sync::LazyLock;

use super::{Durability, Server, until};
use crate::redis::{Config, Topology};

/// The name by which the sentinels know the primary.
const NAME: &str = "mymaster";

/// How long a server is silent before a sentinel takes it for gone.
const DOWN_AFTER_MS: u32 = 1_000;

/// The same where nothing is to be taken for gone.
const PATIENT_MS: u32 = 60_000;

/// The servers and the sentinels. They end when this is dropped.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// The set that the tests of one process share, which nobody breaks.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Sentinels> =
            LazyLock::new(|| Sentinels::start_with(Durability::None, PATIENT_MS));
        &SHARED
    }

    /// Starts them, and waits until they all know of each other.
    ///
    /// # Panics
    /// If there is no `redis-server`, or they don't start.
    #[must_use]
    pub fn start(durability: Durability) -> Self {
        Self::start_with(durability, DOWN_AFTER_MS)
    }

    fn start_with(durability: Durability, down_after_ms: u32) -> Self {
        let primary = Server::start(durability, &Self::SERVER);
        let port = primary.port().to_string();
        let mut servers = vec![primary];
        for _ in 0..2 {
            let options = [&Self::SERVER[..], &["--replicaof", "127.0.0.1", &port]].concat();
            servers.push(Server::start(durability, &options));
        }
        // A sentinel looks for replicas as soon as it starts, and then not before long.
        servers[1..].iter().for_each(Server::wait_until_replicating);
        let sentinels = (0..3).map(|_| Self::sentinel_of(&servers[0], down_after_ms)).collect();
        let set = Self { servers, sentinels };
        until("the sentinels know of each other", || {
            set.sentinels.iter().all(|sentinel| {
                let others = Self::known(sentinel, "SENTINELS");
                (others, Self::known(sentinel, "REPLICAS")) == (2, 2)
            })
        });
        set
    }

    fn sentinel_of(primary: &Server, down_after_ms: u32) -> Server {
        let port = primary.port();
        Server::start_sentinel(&format!(
            "bind 127.0.0.1\n\
             sentinel monitor {NAME} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {NAME} {down_after_ms}\n\
             sentinel failover-timeout {NAME} 2000\n\
             sentinel parallel-syncs {NAME} 2\n"
        ))
    }

    /// A sentinel that takes this replica for the primary.
    ///
    /// # Panics
    /// If it doesn't start.
    #[must_use]
    pub fn misled(replica: &Server) -> Server {
        Self::sentinel_of(replica, DOWN_AFTER_MS)
    }

    /// Replication starts at once, and the loss of a link is noticed soon.
    const SERVER: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];

    fn known(sentinel: &Server, what: &str) -> usize {
        let known: Result<Vec<redis::Value>, _> = sentinel.ask(&["SENTINEL", what, NAME]);
        known.map_or(0, |known| known.len())
    }

    /// The way to whichever server is the primary.
    #[must_use]
    pub fn config(&self) -> Config {
        let urls = self.sentinels.iter().map(Server::url).collect();
        Config { topology: Topology::Sentinels(urls), ..Config::new(format!("redis://{NAME}")) }
    }

    /// Tells all servers something that they don't tell each other.
    ///
    /// # Panics
    /// If one refuses.
    pub fn tell_all(&self, words: &[&str]) {
        for server in &self.servers {
            let () = server.ask(words).expect("the server does as it is told");
        }
    }

    /// The servers, the primary of the start first.
    #[must_use]
    pub fn servers(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// The sentinels themselves.
    #[must_use]
    pub fn sentinels(&mut self) -> &mut [Server] {
        &mut self.sentinels
    }

    /// Which of the servers the sentinels say is the primary, once most of them agree and it agrees too.
    ///
    /// # Panics
    /// If they don't.
    #[must_use]
    pub fn primary(&self) -> usize {
        let mut found = None;
        until("the sentinels agree on a primary", || {
            found = (0..self.servers.len()).find(|n| self.is_primary(*n));
            found.is_some()
        });
        found.expect("it was found")
    }

    fn is_primary(&self, nth: usize) -> bool {
        let server = &self.servers[nth];
        let names_it = |sentinel: &&Server| {
            let named: Option<(String, u16)> =
                sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).unwrap_or_default();
            named.is_some_and(|(_, port)| port == server.port())
        };
        self.sentinels.iter().filter(names_it).count() >= 2 && server.role().as_deref() == Some("master")
    }

    /// Ends the primary as a power cut would, and says which one it was.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_primary(&mut self) -> usize {
        let primary = self.primary();
        self.servers[primary].kill();
        primary
    }
}
