//! Listening for wakes: a connection that only listens to the tenants' channels.
//!
//! When it was silent for a while, it is pinged, and dropped if no answer comes, so that a connection of which only this end
//! is left is found out. [`Wake::All`], sent as soon as there is a new one, makes up for what may have been missed meanwhile.
//!
//! In a cluster, messages published on one node reach all, so one connection is enough there too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use sandhog_core::id::{DaemonId, JobId, TenantId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::codes;
use super::dial::Dialer;
use super::failure::{Fault, fault_of};
use super::keys;
use super::link::backoff;
use super::nodes::Nodes;
use crate::wake::Waker;
use crate::{Wake, Wakes};

const REST_MIN: Duration = Duration::from_millis(50);
const REST_MAX: Duration = Duration::from_secs(2);

/// Starts to listen for wakes, until the listener is gone or the broker is closed.
pub(super) fn start(
    nodes: Arc<Nodes>,
    ping_interval: Duration,
    tenants: Vec<TenantId>,
    mut open: watch::Receiver<()>,
) -> Wakes {
    let (waker, wakes) = Wakes::channel();
    let channels = tenants.into_iter().map(|tenant| (keys::wake(&tenant), tenant)).collect();
    tokio::spawn(async move {
        let listener = Listener { nodes, ping_interval, channels, waker };
        tokio::select! {
            () = listener.waker.closed() => {}
            // The value never changes; the channel closes with the broker.
            _ = open.changed() => {}
            () = listener.listen_on() => {}
        }
    });
    wakes
}

struct Listener {
    nodes: Arc<Nodes>,
    ping_interval: Duration,
    channels: HashMap<String, TenantId>,
    waker: Waker,
}

impl Listener {
    /// Listens, on one connection after the other. Never returns.
    async fn listen_on(&self) {
        let mut failures = 0;
        loop {
            let node = self.nodes.first();
            let dialer = node.dialer().for_pushes();
            let fault = match self.subscribe(&dialer).await {
                Ok((connection, pushes)) => {
                    failures = 0;
                    self.waker.wake(Wake::All);
                    self.listen(connection, pushes, dialer.connect_timeout).await
                }
                Err(fault) => fault,
            };
            self.nodes.pass_over(&node);
            failures += 1;
            let rest = backoff(REST_MIN, REST_MAX, failures);
            // A warning once for each outage.
            match failures {
                1 => tracing::warn!(?fault, "can't listen for wakes; trying again until it can"),
                _ => tracing::debug!(?fault, ?rest, "still can't listen for wakes"),
            }
            sleep(rest).await;
        }
    }

    async fn subscribe(
        &self,
        dialer: &Dialer,
    ) -> Result<(MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>), Fault> {
        // This channel doesn't fill up: passing a wake on never waits.
        let (sender, pushes) = mpsc::unbounded_channel();
        let deadline = Instant::now() + dialer.connect_timeout;
        let config = AsyncConnectionConfig::new().set_push_sender(sender);
        let mut connection = dialer.dial(config, deadline).await?;
        if !self.channels.is_empty() {
            let channels: Vec<&String> = self.channels.keys().collect();
            let subscribed = timeout_at(deadline, connection.subscribe(channels)).await;
            let subscribed = subscribed.map_err(|_| silence(dialer.connect_timeout))?;
            subscribed.map_err(|error| fault_of(&error))?;
        }
        Ok((connection, pushes))
    }

    /// Passes on messages, until the connection fails.
    async fn listen(
        &self,
        mut connection: MultiplexedConnection,
        mut pushes: mpsc::UnboundedReceiver<PushInfo>,
        patience: Duration,
    ) -> Fault {
        loop {
            match timeout(self.ping_interval, pushes.recv()).await {
                Ok(Some(PushInfo { kind: PushKind::Disconnection, .. }) | None) => {
                    return Fault::Unavailable("the connection was closed".to_owned());
                }
                Ok(Some(push)) => self.pass_on(&push),
                Err(_) => {
                    if let Err(fault) = ping(&mut connection, patience).await {
                        return fault;
                    }
                }
            }
        }
    }

    fn pass_on(&self, push: &PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let text = |nth: usize| match push.data.get(nth) {
            Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let Some(tenant) = text(0).and_then(|channel| self.channels.get(channel)).cloned() else { return };
        self.waker.wake(wake(tenant, text(1).unwrap_or_default()));
    }
}

/// Returns the wake that a message stands for. One that can't be read comes from another version, and is taken for
/// [`Wake::Ready`].
fn wake(tenant: TenantId, message: &str) -> Wake {
    match JobId::parse(message) {
        Ok(job) => Wake::Cancel(tenant, job),
        Err(_) if message == codes::DUE => Wake::Due(tenant),
        Err(_) if message == codes::RECORDED => Wake::Events(tenant),
        Err(_) => {
            let named = message.strip_prefix(codes::NAMED).and_then(|text| DaemonId::parse(text).ok());
            Wake::Ready { tenant, named }
        }
    }
}

async fn ping(connection: &mut MultiplexedConnection, patience: Duration) -> Result<(), Fault> {
    let ping = redis::cmd("PING");
    let answer = timeout(patience, connection.send_packed_command(&ping)).await;
    let answer = answer.map_err(|_| silence(patience))?;
    answer.and_then(Value::extract_error).map(drop).map_err(|error| fault_of(&error))
}

fn silence(patience: Duration) -> Fault {
    Fault::Unavailable(format!("no answer within {patience:?}"))
}

#[cfg(test)]
mod tests {
    use sandhog_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_message_names_a_daemon_or_a_job_or_nobody() {
        let tenant = TenantId::parse("acme").expect("a valid name");
        let (daemon, job) = (
            DaemonId::from_parts(Timestamp::from_millis(1), 7),
            JobId::from_parts(Timestamp::from_millis(2), 7),
        );
        let ready = |named| Wake::Ready { tenant: tenant.clone(), named };
        for (message, told) in [
            (String::new(), ready(None)),
            (format!("ready {daemon}"), ready(Some(daemon))),
            ("ready who knows".to_owned(), ready(None)),
            ("due".to_owned(), Wake::Due(tenant.clone())),
            ("events".to_owned(), Wake::Events(tenant.clone())),
            (job.to_string(), Wake::Cancel(tenant.clone(), job)),
        ] {
            assert_eq!(wake(tenant.clone(), &message), told, "{message}");
        }
        assert!(
            JobId::parse(&format!("ready {daemon}")).is_err(),
            "earlier versions would take it for a job's id"
        );
    }
}
