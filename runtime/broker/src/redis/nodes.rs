//! The servers that hold tenants: the one that the configuration names or, in a Redis Cluster, one of its nodes for each
//! tenant.
//!
//! All keys of a tenant are in one hash slot, so on one node. The nodes tell which one: a node that is asked for what it
//! doesn't hold names the node that does. That is remembered until that node is gone, or names another. So no map of the
//! cluster has to be kept, and a server that isn't part of one simply stays the only one.
//!
//! While a slot is moved, its keys go over one by one. No script may see only some of them, so none is run: see
//! [`super::keys::Keys::of`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use sandhog_core::id::TenantId;
use sandhog_core::redis::{Address, Config, Topology};

use super::acl::{self, Allowed};
use super::dial::Dialer;
use super::failure::Fault;
use super::link::{Answer, Call, Failure, Link};
use super::{batch, keys, reply};
use crate::{Error, Result};

/// The known servers, and which of them holds which tenant.
pub(super) struct Nodes {
    config: Config,
    /// The dialer of the server at the URL, from which those of other servers are made.
    dialer: Dialer,
    /// The servers that the configuration names.
    configured: Vec<Arc<Link>>,
    /// The same servers with the operator's user, which loads functions there.
    operator: Option<Arc<Nodes>>,
    known: Mutex<Known>,
}

struct Known {
    /// All known nodes. The first is asked about a tenant of which nothing is known. Nodes that others have named are kept as
    /// long as they can be reached.
    nodes: VecDeque<Arc<Link>>,
    /// The node of each tenant, as a node has told.
    homes: HashMap<TenantId, Arc<Link>>,
    /// The node that holds the list of tenants.
    registry: Option<Arc<Link>>,
}

/// Maximum number of redirects that a call follows, as nodes that don't agree may send it from one to another.
const MOVES_MAX: usize = 3;

/// Number of keys that a server looks at in one step of SCAN.
const SCAN_COUNT: usize = 1000;

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.dialer, f)
    }
}

impl Nodes {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let dialer = Dialer::new(config).map_err(|error| Error::Unfit { problem: error.to_string() })?;
        let mut configured = vec![Arc::new(Link::new(dialer.clone(), config))];
        if let Topology::Cluster(nodes) = &config.topology {
            configured.extend(nodes.iter().map(|node| Arc::new(Link::new(dialer.at(node), config))));
        }
        let known =
            Known { nodes: configured.iter().cloned().collect(), homes: HashMap::new(), registry: None };
        Ok(Self { config: config.clone(), dialer, configured, operator: None, known: Mutex::new(known) })
    }

    /// Lets the operator's user load functions, if it reaches the same servers.
    pub(super) fn loaded_by(self, operator: &Arc<Self>) -> Self {
        let is_same =
            self.dialer.leads_where(&operator.dialer) && operator.config.topology == self.config.topology;
        Self { operator: is_same.then(|| Arc::clone(operator)), ..self }
    }

    /// Calls a function for a tenant on the node with its keys. Before the first function that takes jobs, it checks that the
    /// user may do what comes next for them.
    pub(super) async fn run(&self, what: &'static str, tenant: &TenantId, call: Call<'_>) -> Result<Value> {
        if call.function.takes_work && !self.home_of(tenant).has_permitted(tenant) {
            self.make_sure_of_permissions(what, tenant, call).await?;
        }
        self.follow(what, tenant, call).await
    }

    /// Checks that the user may call every command that functions call for the tenant.
    pub(super) async fn make_sure_of_permissions(
        &self,
        what: &'static str,
        tenant: &TenantId,
        call: Call<'_>,
    ) -> Result<()> {
        let request = batch::permissions(tenant);
        let asking = Call { function: &call.scripts.permissions, request: &request, ..call };
        let refused = reply::refused(self.follow(what, tenant, asking).await?)?;
        let problem = match acl::allowed(&refused) {
            Allowed::All => {
                self.home_of(tenant).permit(tenant);
                return Ok(());
            }
            Allowed::Enqueueing => format!(
                "{what} failed: the user is a producer's of tenant {tenant}, who may enqueue jobs and look at them and no more; \
                 a daemon needs the worker's, which `sandhog tenant acl {tenant} --role worker` prints"
            ),
            Allowed::AllBut(commands) => format!(
                "{what} failed: the user may not call `{}` for tenant {tenant}, and with a part of what the broker does jobs \
                 would be lost; give it the rules that `sandhog tenant acl {tenant} --role worker` prints",
                commands.join("`, `")
            ),
        };
        Err(Error::Unfit { problem })
    }

    /// Calls a function on the node with the tenant's keys, following redirects.
    async fn follow(&self, what: &'static str, tenant: &TenantId, call: Call<'_>) -> Result<Value> {
        let mut node = self.home_of(tenant);
        for _ in 0..=MOVES_MAX {
            let operator = self.operator_of(&node);
            let failure = match node.call(call, operator.as_deref()).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match failure.moved_to(&node) {
                Some(address) => node = self.moved(tenant, &address),
                None => return Err(told_who_may(self.learn(&node, failure), tenant, call).of(what)),
            }
        }
        Err(sent_around().of(what))
    }

    /// Returns the node that holds the list of tenants, as the failure of a call to another one says.
    fn registry_after(&self, what: &'static str, asked: &Arc<Link>, failure: Failure) -> Result<Arc<Link>> {
        let Some(address) = failure.moved_to(asked) else {
            return Err(self.learn(asked, failure).of(what));
        };
        let node = self.at(&address);
        self.known().registry = Some(Arc::clone(&node));
        Ok(node)
    }

    /// Asks the node that holds the list of tenants. The answer is withheld if the user may not ask.
    pub(super) async fn ask_registry(&self, what: &'static str, command: &Cmd) -> Result<Answer> {
        let known = self.known().registry.clone();
        let mut node = known.unwrap_or_else(|| self.first());
        for _ in 0..=MOVES_MAX {
            match node.ask(command).await {
                Ok(value) => return Ok(value),
                Err(failure) => node = self.registry_after(what, &node, failure)?,
            }
        }
        Err(sent_around().of(what))
    }

    /// Calls a function on the node that holds the list of tenants, and with it that of daemons.
    pub(super) async fn run_at_registry(&self, what: &'static str, call: Call<'_>) -> Result<Value> {
        let known = self.known().registry.clone();
        let mut node = known.unwrap_or_else(|| self.first());
        for _ in 0..=MOVES_MAX {
            match node.call(call, None).await {
                Ok(value) => return Ok(value),
                Err(failure) => node = self.registry_after(what, &node, failure)?,
            }
        }
        Err(sent_around().of(what))
    }

    /// Whether the server holds anything of a tenant except its usage and its trials.
    pub(super) async fn has_any(&self, what: &'static str, tenant: &TenantId) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        for name in ["queues", "schedule", "leases", "finals", "sizes", "parked"] {
            command.arg(format!("{}{name}", keys::prefix(tenant)));
        }
        let mut node = self.home_of(tenant);
        for _ in 0..=MOVES_MAX {
            let failure = match node.send(&command).await {
                Ok(reply) => return Ok(reply != Value::Int(0)),
                Err(failure) => failure,
            };
            match failure.moved_to(&node) {
                Some(address) => node = self.moved(tenant, &address),
                None => return Err(self.learn(&node, failure).of(what)),
            }
        }
        Err(sent_around().of(what))
    }

    /// Returns up to `most` keys of a tenant, from the node where the last call for it found it.
    pub(super) async fn find_keys(
        &self,
        what: &'static str,
        tenant: &TenantId,
        pattern: &str,
        most: usize,
    ) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = self.scan(what, tenant, pattern, &cursor).await?;
            found.extend(keys);
            if next == "0" || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// Removes all keys of a tenant except `kept`, which is set to expire after `kept_for`.
    pub(super) async fn remove_keys(
        &self,
        what: &'static str,
        tenant: &TenantId,
        (kept, kept_for): (&str, Duration),
    ) -> Result<()> {
        let pattern = keys::pattern(tenant, "");
        let mut cursor = "0".to_owned();
        loop {
            let (next, mut found) = self.scan(what, tenant, &pattern, &cursor).await?;
            found.retain(|key| key != kept);
            if !found.is_empty() {
                let command = redis::cmd("UNLINK").arg(found).to_owned();
                self.send_home(what, tenant, &command).await?;
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        let command = redis::cmd("EXPIRE").arg(kept).arg(kept_for.as_secs()).to_owned();
        self.send_home(what, tenant, &command).await.map(drop)
    }

    /// Does one step of SCAN through the keys of the server that holds a tenant.
    async fn scan(
        &self,
        what: &'static str,
        tenant: &TenantId,
        pattern: &str,
        cursor: &str,
    ) -> Result<(String, Vec<String>)> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
        let reply = self.send_home(what, tenant, &command).await?;
        redis::from_redis_value(reply).map_err(|_| Error::Corrupt {
            at: "an answer of the server".to_owned(),
            problem: "a step through its keys is none".to_owned(),
        })
    }

    /// Sends a plain command to the tenant's node, by the operator's user if there is one.
    async fn send_home(&self, what: &'static str, tenant: &TenantId, command: &Cmd) -> Result<Value> {
        let home = self.home_of(tenant);
        let node = self.operator_of(&home).unwrap_or(home);
        node.send(command).await.map_err(|failure| self.learn(&node, failure).of(what))
    }

    /// Returns the operator's link to this node, or `None` if there is no operator's user.
    fn operator_of(&self, node: &Link) -> Option<Arc<Link>> {
        let operator = self.operator.as_ref()?;
        Some(match node.address() {
            Some(address) => operator.at(&address),
            None => operator.first(),
        })
    }

    /// Asks any node that can be reached something that it may withhold. Returns the node that answered.
    pub(super) async fn ask_any(&self, what: &'static str, command: &Cmd) -> Result<(Arc<Link>, Answer)> {
        let mut tries_left = self.configured.len();
        loop {
            let node = self.first();
            tries_left -= 1;
            match node.ask(command).await {
                Ok(answer) => return Ok((node, answer)),
                Err(failure) if tries_left > 0 && failure.is_the_nodes() => self.pass_over(&node),
                Err(failure) => return Err(self.learn(&node, failure).of(what)),
            }
        }
    }

    /// Returns the node to ask when it doesn't matter which one.
    pub(super) fn first(&self) -> Arc<Link> {
        Arc::clone(self.known().nodes.front().expect("those of the configuration stay"))
    }

    /// Returns the node at this address.
    pub(super) fn at(&self, address: &Address) -> Arc<Link> {
        self.known().at(address, || Link::new(self.dialer.at(address), &self.config))
    }

    /// Notes that a node seems to be gone: it is taken for no tenant's node any more, and others are asked first.
    pub(super) fn pass_over(&self, node: &Arc<Link>) {
        let mut known = self.known();
        known.homes.retain(|_, home| !Arc::ptr_eq(home, node));
        known.registry.take_if(|home| Arc::ptr_eq(home, node));
        known.nodes.retain(|known| !Arc::ptr_eq(known, node));
        if self.configured.iter().any(|configured| Arc::ptr_eq(configured, node)) {
            known.nodes.push_back(Arc::clone(node));
        }
    }

    fn learn(&self, node: &Arc<Link>, failure: Failure) -> Fault {
        if failure.is_the_nodes() {
            self.pass_over(node);
        }
        failure.fault()
    }

    /// Returns the node that holds a tenant, as far as is known; else the first.
    pub(super) fn home_of(&self, tenant: &TenantId) -> Arc<Link> {
        let home = self.known().homes.get(tenant).cloned();
        home.unwrap_or_else(|| self.first())
    }

    fn moved(&self, tenant: &TenantId, address: &Address) -> Arc<Link> {
        let home = self.at(address);
        self.known().homes.insert(tenant.clone(), Arc::clone(&home));
        home
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A change left half done costs no more than a question to the wrong node.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a refusal, if the call needs a worker's user, that it does.
fn told_who_may(fault: Fault, tenant: &TenantId, call: Call<'_>) -> Fault {
    match fault {
        Fault::Forbidden(problem) if !call.function.is_for_producers => Fault::Forbidden(format!(
            "{problem}; it takes the worker's user of tenant {tenant}, which `sandhog tenant acl {tenant} --role worker` prints"
        )),
        other => other,
    }
}

fn sent_around() -> Fault {
    Fault::Unavailable("the nodes of the cluster send the call from one to another".to_owned())
}

impl Known {
    fn at(&mut self, address: &Address, make: impl FnOnce() -> Link) -> Arc<Link> {
        if let Some(known) = self.nodes.iter().find(|node| node.address().as_ref() == Some(address)) {
            return Arc::clone(known);
        }
        let node = Arc::new(make());
        self.nodes.push_back(Arc::clone(&node));
        node
    }
}
