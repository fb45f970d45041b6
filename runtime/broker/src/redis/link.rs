//! A connection on which no call waits for ever.
//!
//! Any number of calls share one connection and don't wait for each other's answers. Each has a deadline. After a failure the
//! connection is dropped, even if it is half-open, and the next call makes a new one. When that fails, calls are refused at
//! once for a while that grows with each failure, so that an outage costs callers no time, and the server isn't flooded with
//! connections.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use sandhog_core::id::TenantId;
use sandhog_core::redis::{Address, Config};
use tokio::time::{Instant, timeout, timeout_at};

use super::batch::{Calling, Request};
use super::dial::Dialer;
use super::failure::{Fault, fault_of};
use super::library::{Function, Scripts};
use super::loading;

/// One call of a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) scripts: &'a Scripts,
    pub(super) function: &'a Function,
    pub(super) request: &'a Request,
}

/// A connection that is made anew after a failure.
pub(super) struct Link {
    dialer: Dialer,
    command_timeout: Duration,
    /// The current connection; its number tells it from earlier ones.
    live: Mutex<Live>,
    /// Held by the one caller that connects; the others wait for it.
    connecting: tokio::sync::Mutex<Rest>,
    /// Held by the one caller that loads functions; the others wait for it.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Live {
    number: u64,
    connection: Option<MultiplexedConnection>,
    /// Whether functions are called as scripts, as the user may not call functions or the server has none.
    by_scripts: bool,
    /// Tenants for which the user may call all commands that functions call.
    permitted: HashSet<TenantId>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.dialer, f)
    }
}

/// The pause after failed attempts to connect: their number, and until when there is no other, with the latest fault.
#[derive(Debug, Default)]
struct Rest {
    failures: u32,
    until: Option<(Instant, Fault)>,
}

impl Link {
    const REST_MIN: Duration = Duration::from_millis(50);
    const REST_MAX: Duration = Duration::from_secs(2);

    pub(super) fn new(dialer: Dialer, config: &Config) -> Self {
        Self {
            dialer,
            command_timeout: config.command_timeout,
            live: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the dialer of the server.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Returns the server's address, or `None` if it can change or is not on a network.
    pub(super) fn address(&self) -> Option<Address> {
        self.dialer.server()
    }

    /// Calls a function. If the server doesn't know it, it is loaded first: by the operator, if the user of this link is a
    /// tenant's.
    pub(super) async fn call(
        &self,
        call: Call<'_>,
        operator: Option<&Self>,
    ) -> std::result::Result<Value, Failure> {
        if self.live().by_scripts {
            return self.call_script(call).await;
        }
        let command = call.request.command(call.function, Calling::Functions);
        let failure = match self.send(&command).await {
            Err(failure) if failure.is_unknown_function() => match self.load(call.scripts, operator).await {
                Ok(()) => match self.send(&command).await {
                    Err(failure) if failure.is_unknown_function() => Failure::NotLoaded,
                    reply => return reply,
                },
                Err(failure) if failure.is_denied() => Failure::NotLoaded,
                Err(failure) => return Err(failure),
            },
            Err(failure) if failure.is_denied() => failure,
            reply => return reply,
        };
        match self.call_script(call).await {
            Ok(reply) => {
                self.live().by_scripts = true;
                let cause = failure.fault();
                tracing::warn!(server = ?self, ?cause, "{BY_SCRIPTS}");
                Ok(reply)
            }
            Err(denied) if denied.is_denied() => Err(failure),
            Err(other) => Err(other),
        }
    }

    async fn call_script(&self, call: Call<'_>) -> std::result::Result<Value, Failure> {
        let command = call.request.command(call.function, Calling::Scripts);
        match self.send(&command).await {
            Err(failure) if failure.is_unknown_script() => {
                match self.send(redis::cmd("SCRIPT").arg("LOAD").arg(&call.function.script)).await {
                    // SCRIPT is renamed or disabled, so the source goes with the call.
                    Err(Failure::Refused(error)) if is_withheld(&error) => {
                        self.send(&call.request.command(call.function, Calling::Sources)).await
                    }
                    loaded => {
                        loaded?;
                        self.send(&command).await
                    }
                }
            }
            reply => reply,
        }
    }

    async fn load(&self, scripts: &Scripts, operator: Option<&Self>) -> std::result::Result<(), Failure> {
        if let Some(operator) = operator {
            let _alone = operator.loading.lock().await;
            match loading::load(operator, scripts).await {
                // The operator may not, or perhaps can't log in; then the user of this link may be able to.
                Err(failure) if failure.is_denied() || failure.is_final() => {}
                loaded => return loaded,
            }
        }
        let _alone = self.loading.lock().await;
        loading::load(self, scripts).await
    }

    /// Whether functions are called as scripts here, as the server or the user allows no other way.
    pub(super) fn calls_scripts(&self) -> bool {
        self.live().by_scripts
    }

    /// Whether the user is known to be allowed all that functions do for a tenant.
    pub(super) fn has_permitted(&self, tenant: &TenantId) -> bool {
        self.live().permitted.contains(tenant)
    }

    /// Notes, for as long as the connection lasts, that the user may do all that functions do for a tenant.
    pub(super) fn permit(&self, tenant: &TenantId) {
        self.live().permitted.insert(tenant.clone());
    }

    /// Sends a command whose answer isn't needed to work. If the server withholds the answer, as the user may not ask or the
    /// command is renamed or disabled, that is no failure.
    pub(super) async fn ask(&self, command: &Cmd) -> std::result::Result<Answer, Failure> {
        match self.send(command).await {
            Err(Failure::Refused(error)) if is_withheld(&error) => Ok(Answer::Withheld(error.to_string())),
            reply => reply.map(Answer::Given),
        }
    }

    pub(super) async fn send(&self, command: &Cmd) -> std::result::Result<Value, Failure> {
        let (number, mut connection) = self.connection().await.map_err(Failure::Connect)?;
        let sending = before_the_write(connection.send_packed_command(command));
        let answer = timeout(self.command_timeout, sending).await;
        let error = match answer {
            Ok(Ok(value)) => match value.extract_error() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
            Ok(Err(error)) => error,
            Err(_) => {
                self.throw_away(number);
                return Err(Failure::TookTooLong(self.command_timeout));
            }
        };
        if breaks_connection(&error) {
            self.throw_away(number);
            return Err(Failure::Broke(error));
        }
        Err(Failure::Refused(error))
    }

    async fn connection(&self) -> std::result::Result<(u64, MultiplexedConnection), Fault> {
        if let Some(present) = self.present() {
            return Ok(present);
        }
        let deadline = Instant::now() + self.dialer.connect_timeout;
        let Ok(mut rest) = timeout_at(deadline, self.connecting.lock()).await else {
            return Err(self.dialer.took_too_long());
        };
        if let Some(present) = self.present() {
            return Ok(present);
        }
        if let Some((_, fault)) = rest.until.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(fault.clone());
        }
        match self.dialer.dial(AsyncConnectionConfig::new(), deadline).await {
            Ok(connection) => {
                *rest = Rest::default();
                Ok(self.put(connection))
            }
            Err(fault) => {
                rest.failures = rest.failures.saturating_add(1);
                let wait = backoff(Self::REST_MIN, Self::REST_MAX, rest.failures);
                rest.until = Some((Instant::now() + wait, fault.clone()));
                Err(fault)
            }
        }
    }

    fn present(&self) -> Option<(u64, MultiplexedConnection)> {
        let live = self.live();
        live.connection.clone().map(|connection| (live.number, connection))
    }

    fn put(&self, connection: MultiplexedConnection) -> (u64, MultiplexedConnection) {
        let mut live = self.live();
        let number = live.number + 1;
        // The user's rules may have changed meanwhile, and so may the server.
        *live = Live { number, connection: Some(connection.clone()), ..Live::default() };
        (number, connection)
    }

    fn throw_away(&self, number: u64) {
        let mut live = self.live();
        if live.number == number {
            live.connection = None;
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warning about a connection on which functions are called as scripts.
pub(super) const BY_SCRIPTS: &str = "functions of the broker are run as scripts, which takes the server longer, as this user \
    can't call or load functions there; a tenant's user gets the right to by the rules that `sandhog tenant acl` prints";

/// Sends a command so that commands of other tasks that are ready to run go out in the same write.
///
/// A command is handed to the task that writes to the connection. Tokio runs the task next that was woken last, and so would
/// write each command by itself. A task that is spawned after it takes that place, and the writing task comes after those
/// that are ready.
async fn before_the_write<T>(sending: impl Future<Output = T>) -> T {
    let mut sending = std::pin::pin!(sending);
    let at_once = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(answer) => answer,
        Poll::Pending => {
            tokio::spawn(std::future::ready(()));
            sending.await
        }
    }
}

/// Returns the pause after `failures` failures: `min` after the first, twice as long after each further one, at most `max`.
pub(super) fn backoff(min: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    min.saturating_mul(1 << doublings).min(max)
}

/// A server's answer to an optional question.
#[derive(Debug)]
pub(super) enum Answer {
    Given(Value),
    /// The server doesn't answer, for this reason.
    Withheld(String),
}

/// Whether a refusal says that this command is not available, to this user or at all.
fn is_withheld(error: &RedisError) -> bool {
    matches!(fault_of(error), Fault::Forbidden(_) | Fault::Unfit(_))
}

/// Reason why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect(Fault),
    /// No answer came within this time.
    TookTooLong(Duration),
    /// The connection was lost, or can't be used any more.
    Broke(RedisError),
    /// The server refused the command.
    Refused(RedisError),
    /// The server doesn't know this version's functions, and the user may not load them.
    NotLoaded,
}

impl Failure {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Connect(fault) => fault.clone(),
            Self::TookTooLong(wait) => Fault::Unavailable(format!("no answer within {wait:?}")),
            Self::Broke(error) | Self::Refused(error) => fault_of(error),
            Self::NotLoaded => Fault::Unfit(
                "the server doesn't have this version's functions, and the user may not load them; let the user in `[broker]` \
                 do so, by starting this version of the daemon or calling `sandhog check` with it once"
                    .to_owned(),
            ),
        }
    }

    /// Whether the server itself seems to be gone, as opposed to refusing this command.
    pub(super) fn is_the_nodes(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TookTooLong(_) | Self::Broke(_) => true,
            // The node has lost sight of the other nodes of its cluster.
            Self::Refused(error) => error.kind() == ErrorKind::Server(ServerErrorKind::ClusterDown),
            Self::NotLoaded => false,
        }
    }

    /// Returns the address of the node that the asked one redirects to, or `None` if it doesn't.
    pub(super) fn moved_to(&self, asked: &Link) -> Option<Address> {
        let Self::Refused(error) = self else { return None };
        if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
            return None;
        }
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        match host {
            // A node that doesn't know its own name means the one at which it was asked.
            "" | "?" => Address::new(asked.address()?.host(), port.parse().ok()?),
            host => Address::new(host, port.parse().ok()?),
        }
    }

    /// Whether the user may not call this, or the server has no such command.
    pub(super) fn is_denied(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        error.code() == Some("NOPERM") || error.to_string().contains("unknown command")
    }

    /// Whether no connection can be made, however often it is tried.
    fn is_final(&self) -> bool {
        matches!(self, Self::Connect(Fault::Unfit(_)))
    }

    /// Whether the library was refused because it is loaded already.
    pub(super) fn is_known_library(&self) -> bool {
        matches!(self, Self::Refused(error) if error.to_string().contains("already exists"))
    }

    fn is_unknown_function(&self) -> bool {
        matches!(self, Self::Refused(error) if error.to_string().contains("Function not found"))
    }

    fn is_unknown_script(&self) -> bool {
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        matches!(self, Self::Refused(error) if error.kind() == unknown)
    }
}

/// Whether the connection can't be used any more. One to a server that has become a replica can't either: the next one may
/// lead to the new primary.
fn breaks_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::ReadOnly))
        || error.code() == Some("NOAUTH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_a_bound() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        let rests: Vec<u128> = (1..=8).map(|n| backoff(min, max, n).as_millis()).collect();
        assert_eq!(rests, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff(min, max, u32::MAX), max);
    }
}
