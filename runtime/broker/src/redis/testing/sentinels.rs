//! A primary with two replicas, and three sentinels that promote one of them when the primary is gone.

use std::sync::LazyLock;

use super::{Durability, Server, until};
use crate::redis::{Config, Topology};

/// The name by which the sentinels know the primary.
const NAME: &str = "mymaster";

/// Time that a server has to be silent before a sentinel takes it to be gone, in milliseconds.
const DOWN_AFTER_MS: u32 = 1_000;

/// The same time where no server is to be taken to be gone.
const PATIENT_MS: u32 = 60_000;

/// The servers and the sentinels. They end when this is dropped.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// Returns the set that the tests of one process share, and that no test breaks.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Sentinels> =
            LazyLock::new(|| Sentinels::start_with(Durability::None, PATIENT_MS));
        &SHARED
    }

    /// Starts the servers and sentinels, and waits until they all know of each other.
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
        // A sentinel looks for replicas as soon as it starts, and then only after a long time.
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

    /// Starts a sentinel that takes this replica for the primary.
    ///
    /// # Panics
    /// If the sentinel doesn't start.
    #[must_use]
    pub fn misled(replica: &Server) -> Server {
        Self::sentinel_of(replica, DOWN_AFTER_MS)
    }

    /// Options of a server: replication starts at once, and the loss of a link is noticed soon.
    const SERVER: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];

    fn known(sentinel: &Server, what: &str) -> usize {
        let known: Result<Vec<redis::Value>, _> = sentinel.ask(&["SENTINEL", what, NAME]);
        known.map_or(0, |known| known.len())
    }

    /// Returns a configuration that leads to the current primary.
    #[must_use]
    pub fn config(&self) -> Config {
        let urls = self.sentinels.iter().map(Server::url).collect();
        Config { topology: Topology::Sentinels(urls), ..Config::new(format!("redis://{NAME}")) }
    }

    /// Sends a command to all servers, for what they don't tell each other.
    ///
    /// # Panics
    /// If a server refuses.
    pub fn tell_all(&self, words: &[&str]) {
        for server in &self.servers {
            let () = server.ask(words).expect("the server does as it is told");
        }
    }

    /// Returns the servers, the initial primary first.
    #[must_use]
    pub fn servers(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    /// Returns the sentinels.
    #[must_use]
    pub fn sentinels(&mut self) -> &mut [Server] {
        &mut self.sentinels
    }

    /// Returns the index of the server that the sentinels say is the primary, once most of them agree and so does the server.
    ///
    /// # Panics
    /// If they don't agree.
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

    /// Ends the primary as a power cut would. Returns its index.
    ///
    /// # Panics
    /// If there is no primary.
    pub fn kill_primary(&mut self) -> usize {
        let primary = self.primary();
        self.servers[primary].kill();
        primary
    }
}
