//! Connecting to the broker that a configuration names.
//!
//! ```text
//! keys by tenant ──> login by tenant ──> server or file
//! sealed             routed              redis, embedded
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_broker::embedded::Embedded;
use sandhog_broker::redis::Redis;
use sandhog_broker::routed::{Routed, Routes};
use sandhog_broker::sealed::{Keyring, Plain, Sealed};
use sandhog_broker::{Broker, Error, Result, SystemClock};
use sandhog_config::{self as config, Config, OwnBroker};
use sandhog_core::id::TenantId;

use crate::off_thread::off_thread;

/// Connection to a broker, and its file if it is in one.
pub struct Connection {
    /// The broker, as the tenants of a configuration have it.
    pub broker: Arc<dyn Broker>,
    file: Option<Arc<Embedded>>,
}

impl Connection {
    /// Closes the file, even if the broker is still held elsewhere, so that it is whole when the process ends. A server needs
    /// no farewell.
    pub async fn close(self) {
        if let Some(file) = self.file {
            off_thread(move || file.close()).await;
        }
    }
}

/// Kind of access that a broker is wanted for. With a server it makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Jobs are stored or run; the file is created if there is none.
    Serve,
    /// Jobs that were stored before are changed.
    Change,
    /// Jobs are looked at. Nothing is created, and no writer is waited for.
    Look,
}

/// Connects to the broker that a configuration names, as its tenants have it: each by its own login, and sealed by its own
/// keys. A server is not spoken to before the first call; a file is opened.
///
/// # Errors
/// The file can't be used.
pub async fn connect(config: &Config, access: Access) -> Result<Connection> {
    let (common, store) = common(&config.broker, access).await?;
    let (file, operator) = match store {
        Store::File(file) => (Some(file), None),
        Store::Redis(operator) => (None, Some(operator)),
    };
    let broker: Arc<dyn Broker> = if config.tenants.values().any(|tenant| tenant.broker.is_some()) {
        Arc::new(Routed::new(ByTenant::new(config, common, operator.as_deref())?))
    } else {
        common
    };
    let with_keys =
        |(id, tenant): (&TenantId, &config::Tenant)| Some((id.clone(), tenant.encryption.clone()?));
    let keys: BTreeMap<TenantId, Keyring> = config.tenants.iter().filter_map(with_keys).collect();
    let broker = if keys.is_empty() { broker } else { Arc::new(Sealed::new(broker, keys)) };
    Ok(Connection { broker, file })
}

/// Kind of the broker of the tenants without a login of their own.
enum Store {
    File(Arc<Embedded>),
    /// The server, with the operator's login.
    Redis(Arc<Redis>),
}

/// Opens the broker of the tenants without a login of their own. Returns it, and its kind.
async fn common(config: &config::Broker, access: Access) -> Result<(Arc<dyn Broker>, Store)> {
    match config {
        config::Broker::Embedded { path } => {
            let path = path.clone();
            let open = match access {
                Access::Serve => Embedded::open,
                Access::Change => Embedded::open_existing,
                Access::Look => Embedded::open_to_look,
            };
            let file = Arc::new(off_thread(move || open(&path, Arc::new(SystemClock))).await?);
            Ok((Arc::clone(&file) as _, Store::File(file)))
        }
        config::Broker::Redis(server) => {
            let operator = Arc::new(Redis::new(server)?);
            Ok((Arc::clone(&operator) as _, Store::Redis(operator)))
        }
    }
}

/// Returns warnings of what works, and yet should be looked at: tenants whose plain data is still taken.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let reads_plain =
        |tenant: &config::Tenant| tenant.encryption.as_ref().is_some_and(|keys| keys.plain() == Plain::Read);
    let reading = config.tenants.iter().filter(|(_, tenant)| reads_plain(tenant));
    reading
        .map(|(id, _)| {
            format!(
                "tenant {id} still reads plain text, so whoever can write to the broker can slip it some; remove \
                 tenants.{id}.encryption.plain once its data from before its keys is gone"
            )
        })
        .collect()
}

/// Routes to a connection for each tenant with a login of its own, and to one for the others.
struct ByTenant {
    own: BTreeMap<TenantId, Own>,
    common: Arc<dyn Broker>,
    /// Connections that serve any tenant.
    all: Vec<Arc<dyn Broker>>,
}

enum Own {
    Broker(Arc<dyn Broker>),
    /// Login that isn't at hand: what is missing.
    NotAtHand(String),
}

impl ByTenant {
    fn new(config: &Config, common: Arc<dyn Broker>, operator: Option<&Redis>) -> Result<Self> {
        let (mut own, mut all) = (BTreeMap::new(), Vec::new());
        if config.tenants.values().any(|tenant| tenant.broker.is_none()) {
            all.push(Arc::clone(&common));
        }
        for (id, tenant) in &config.tenants {
            let route = match &tenant.broker {
                None => continue,
                Some(OwnBroker::Known(server)) => {
                    let broker: Arc<dyn Broker> = Arc::new(Redis::of_tenant(server, id.clone(), operator)?);
                    all.push(Arc::clone(&broker));
                    Own::Broker(broker)
                }
                Some(OwnBroker::NotAtHand(missing)) => Own::NotAtHand(missing.clone()),
            };
            own.insert(id.clone(), route);
        }
        Ok(Self { own, common, all })
    }
}

impl Routes for ByTenant {
    fn route(&self, tenant: &TenantId) -> Result<Arc<dyn Broker>> {
        match self.own.get(tenant) {
            None => Ok(Arc::clone(&self.common)),
            Some(Own::Broker(broker)) => Ok(Arc::clone(broker)),
            Some(Own::NotAtHand(missing)) => Err(Error::Unfit {
                problem: format!("tenant {tenant} has a login of its own, which is not at hand: {missing}"),
            }),
        }
    }

    fn all(&self) -> Vec<Arc<dyn Broker>> {
        self.all.clone()
    }

    fn of_fleet(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.common)
    }
}
