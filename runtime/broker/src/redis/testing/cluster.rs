//! A Redis Cluster of three primaries, with a replica each.

use std::sync::LazyLock;

use redis::cluster_routing::Slot;
use sandhog_core::id::TenantId;

use super::{Durability, Server, until};
use crate::redis::{Address, Config, Topology, keys};

const PRIMARIES: usize = 3;

/// Time that a node has to be silent before the others take it to be gone, in milliseconds.
const NODE_TIMEOUT_MS: &str = "1500";

/// The same time where no node is to be taken to be gone.
const PATIENT_MS: &str = "60000";

/// The nodes of a cluster. They end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes: the initial primaries first, then a replica of each.
    nodes: Vec<Server>,
    /// The ids by which the nodes know each other.
    ids: Vec<String>,
}

impl Cluster {
    /// Returns the cluster that the tests of one process share, and that no test breaks.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Cluster> =
            LazyLock::new(|| Cluster::start_with(Durability::None, PATIENT_MS));
        &SHARED
    }

    /// Starts a cluster, and waits until all nodes have joined and each replica has caught up.
    ///
    /// # Panics
    /// If there is no `redis-server`, or the cluster doesn't form.
    #[must_use]
    pub fn start(durability: Durability) -> Self {
        Self::start_with(durability, NODE_TIMEOUT_MS)
    }

    fn start_with(durability: Durability, node_timeout_ms: &str) -> Self {
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            node_timeout_ms,
            // Replication starts at once.
            "--repl-diskless-sync-delay",
            "0",
        ];
        let nodes: Vec<Server> = (0..2 * PRIMARIES).map(|_| Server::start(durability, &options)).collect();
        let id = |node: &Server| node.ask(&["CLUSTER", "MYID"]).expect("it is there");
        let ids = nodes.iter().map(id).collect();
        let cluster = Self { nodes, ids };
        cluster.come_together();
        cluster
    }

    fn come_together(&self) {
        for (n, node) in self.nodes.iter().enumerate() {
            // Nodes that meet need distinct epochs, or it takes them long to agree.
            self.tell(n, &["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            let port = node.port().to_string();
            self.tell(0, &["CLUSTER", "MEET", "127.0.0.1", &port]);
        }
        for n in 0..PRIMARIES {
            let slot = |n: usize| n * usize::from(SLOTS) / PRIMARIES;
            let (first, last) = (slot(n).to_string(), (slot(n + 1) - 1).to_string());
            self.tell(n, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        self.wait_until_all_say(&format!("cluster_known_nodes:{}", self.nodes.len()));
        for n in 0..PRIMARIES {
            self.tell_until_done(PRIMARIES + n, &["CLUSTER", "REPLICATE", &self.ids[n]]);
        }
        self.wait_until_all_say("cluster_state:ok");
        self.nodes[PRIMARIES..].iter().for_each(Server::wait_until_replicating);
        // All nodes have to know of the replicas, or none votes for them.
        until("the nodes know who replicates whom", || {
            let replicas = |node: &Server| {
                let known: String = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
                known.lines().filter(|line| line.contains("slave")).count()
            };
            self.nodes.iter().all(|node| replicas(node) == PRIMARIES)
        });
    }

    fn wait_until_all_say(&self, line: &str) {
        until(line, || {
            let says = |node: &Server| {
                node.ask::<String>(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains(line))
            };
            self.nodes.iter().all(says)
        });
    }

    /// Stops a node from answering, without the others taking it to be gone.
    ///
    /// # Panics
    /// If a node isn't running.
    pub fn silence(&self, nth: usize) {
        self.tell_all(&["CONFIG", "SET", "cluster-node-timeout", PATIENT_MS]);
        self.nodes[nth].pause();
    }

    /// Ends a [`Self::silence`], once no node waits for an answer from that time.
    ///
    /// # Panics
    /// If a node isn't running.
    pub fn end_silence(&self, nth: usize) {
        self.nodes[nth].resume();
        until("the nodes have heard of each other again", || {
            let waits = |node: &Server| {
                let known: String = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
                // After name, address, flags and primary comes the time of the latest unanswered ping, or 0 if it was
                // answered.
                known.is_empty() || known.lines().any(|line| line.split(' ').nth(4) != Some("0"))
            };
            !self.nodes.iter().any(waits)
        });
        self.tell_all(&["CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS]);
    }

    /// Sends a command to all nodes, for what they don't tell each other.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn tell_all(&self, words: &[&str]) {
        (0..self.nodes.len()).for_each(|nth| self.tell(nth, words));
    }

    fn tell(&self, nth: usize, words: &[&str]) {
        let () = self.nodes[nth].ask(words).expect("the node does as it is told");
    }

    fn tell_until_done(&self, nth: usize, words: &[&str]) {
        until(words[1], || self.nodes[nth].ask::<()>(words).is_ok());
    }

    /// Returns a configuration with which any node leads to the cluster.
    #[must_use]
    pub fn config(&self) -> Config {
        let address = |node: &Server| Address::new("127.0.0.1", node.port());
        let others = self.nodes[1..].iter().filter_map(address).collect();
        Config { topology: Topology::Cluster(others), ..Config::new(self.nodes[0].url()) }
    }

    /// Returns all nodes.
    #[must_use]
    pub fn nodes(&mut self) -> &mut [Server] {
        &mut self.nodes
    }

    /// Returns the slot of a tenant's keys.
    #[must_use]
    pub fn slot_of(tenant: &TenantId) -> u16 {
        let slot = Slot::for_key(keys::prefix(tenant));
        (0..SLOTS).find(|n| Slot::new(*n) == Some(slot)).expect("every key has a slot")
    }

    /// Returns the index of the node that holds a slot, as the running nodes say.
    ///
    /// # Panics
    /// If no node holds it.
    #[must_use]
    pub fn holder_of(&self, slot: u16) -> usize {
        let mut found = None;
        until("the slot has a holder", || {
            found = (0..self.nodes.len()).find(|n| self.holds(*n, slot));
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Whether a node is the primary of a slot, and says so itself.
    fn holds(&self, nth: usize, slot: u16) -> bool {
        type Range = (u16, u16, (String, u16));
        let reply: Vec<redis::Value> = self.nodes[nth].ask(&["CLUSTER", "SLOTS"]).unwrap_or_default();
        reply.into_iter().any(|range| {
            let redis::Value::Array(mut range) = range else { return false };
            range.truncate(3);
            if let Some(redis::Value::Array(node)) = range.get_mut(2) {
                node.truncate(2);
            }
            let range: Result<Range, _> = redis::from_redis_value(redis::Value::Array(range));
            range.is_ok_and(|(first, last, (_, port))| {
                (first..=last).contains(&slot) && port == self.nodes[nth].port()
            })
        })
    }

    /// Returns the index of a primary other than `holder`.
    ///
    /// # Panics
    /// If there is no other.
    #[must_use]
    pub fn other_than(&self, holder: usize) -> usize {
        let is_primary = |n: &usize| *n != holder && self.nodes[*n].role().as_deref() == Some("master");
        (0..self.nodes.len()).find(is_primary).expect("there are others")
    }

    /// Begins to move a slot: from now on both nodes know that its keys are being moved.
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn open(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]);
        self.tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]);
    }

    /// Moves up to `count` keys of a slot that was opened. Returns their number.
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn carry(&self, slot: u16, from: usize, to: usize, count: usize) -> usize {
        let (slot, count) = (slot.to_string(), count.to_string());
        let keys: Vec<Vec<u8>> =
            self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, &count]).expect("it is there");
        if keys.is_empty() {
            return 0;
        }
        let port = self.nodes[to].port().to_string();
        let keys_as_text = keys.iter().map(|key| std::str::from_utf8(key).expect("keys of tests are text"));
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys_as_text);
        let () = self.nodes[from].ask(&words).expect("the keys go over");
        keys.len()
    }

    /// Ends the move of a slot: from now on it belongs to the node `to`.
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn close(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        for nth in [to, from] {
            self.tell(nth, &["CLUSTER", "SETSLOT", &slot, "NODE", &self.ids[to]]);
        }
    }
}

const SLOTS: u16 = 16_384;
