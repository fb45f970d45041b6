//! A connection that never makes anybody wait for ever.
//!
//! Any number of calls share one connection and don't wait for each other's answers. Each has a deadline. After a
//! failure the connection is thrown away, half-open ones too, and the next call makes a new one; when that fails, calls
//! are refused at once for a while that grows with each failure, so that an outage costs callers no time and the
//! server no storm.

use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::{Address, Config};
use super::dial::Dialer;
use super::failure::{Fault, fault_of};
use super::scripts::Script;

/// The connection, and the way to a new one.
#[derive(Debug)]
pub(super) struct Link {
    dialer: Dialer,
    command_timeout: Duration,
    /// The present connection; its number tells it from earlier ones.
    live: Mutex<Live>,
    /// Held by the one caller that connects.
    connecting: tokio::sync::Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Live {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// After failed attempts to connect: how many, how the last one failed, and until when there is no other.
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
        }
    }

    /// The way to the server.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Where the server is; none if that isn't always the same place.
    pub(super) fn address(&self) -> Option<Address> {
        self.dialer.server()
    }

    /// Runs a script, which is loaded first if the server doesn't know it. Where scripts can't be loaded, as the command
    /// is renamed or disabled, its source goes with the call.
    pub(super) async fn run(&self, script: &Script, command: &Cmd) -> std::result::Result<Value, Failure> {
        match self.send(command).await {
            Err(failure) if failure.is_unknown_script() => {
                match self.send(redis::cmd("SCRIPT").arg("LOAD").arg(script.source)).await {
                    Err(Failure::Refused(error)) if is_withheld(&error) => {
                        self.send(&script.with_source(command)).await
                    }
                    loaded => {
                        loaded?;
                        self.send(command).await
                    }
                }
            }
            reply => reply,
        }
    }

    /// Asks what isn't needed to work. That the server doesn't answer, as the user may not ask, or the command is renamed or
    /// disabled, is an answer.
    pub(super) async fn ask(&self, command: &Cmd) -> std::result::Result<Answer, Failure> {
        match self.send(command).await {
            Err(Failure::Refused(error)) if is_withheld(&error) => Ok(Answer::Withheld(error.to_string())),
            reply => reply.map(Answer::Given),
        }
    }

    async fn send(&self, command: &Cmd) -> std::result::Result<Value, Failure> {
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
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.connection.clone().map(|connection| (live.number, connection))
    }

    fn put(&self, connection: MultiplexedConnection) -> (u64, MultiplexedConnection) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.number += 1;
        live.connection = Some(connection.clone());
        (live.number, connection)
    }

    fn throw_away(&self, number: u64) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.number == number {
            live.connection = None;
        }
    }
}

/// Sends a command so that those of other tasks, if they are ready to run, go out in the same write.
///
/// A command is handed to the task that writes to the connection. Tokio runs the task next that was woken last, and so
/// would write each command by itself. One that is spawned after it takes that place, and the writing task comes after
/// those that are ready.
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

/// Twice as long after each failure, up to a bound.
pub(super) fn backoff(min: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    min.saturating_mul(1 << doublings).min(max)
}

/// What a server has to say on a question.
#[derive(Debug)]
pub(super) enum Answer {
    Given(Value),
    /// Nothing, and why.
    Withheld(String),
}

/// Whether a refusal says that this command is not to be had here, by this user or at all.
fn is_withheld(error: &RedisError) -> bool {
    matches!(fault_of(error), Fault::Forbidden(_) | Fault::Unfit(_))
}

/// How a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection.
    Connect(Fault),
    /// There was no answer.
    TookTooLong(Duration),
    /// The connection was lost, or is of no use any more.
    Broke(RedisError),
    /// The server has refused it.
    Refused(RedisError),
}

impl Failure {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Connect(fault) => fault.clone(),
            Self::TookTooLong(wait) => Fault::Unavailable(format!("no answer within {wait:?}")),
            Self::Broke(error) | Self::Refused(error) => fault_of(error),
        }
    }

    /// Whether the server itself seems to be gone, rather than to refuse this command.
    pub(super) fn is_the_nodes(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TookTooLong(_) | Self::Broke(_) => true,
            // It has lost sight of the other nodes of its cluster.
            Self::Refused(error) => error.kind() == ErrorKind::Server(ServerErrorKind::ClusterDown),
        }
    }

    /// Where what was asked for is, if the node that was asked has named another one.
    pub(super) fn moved_to(&self, asked: &Link) -> Option<Address> {
        let Self::Refused(error) = self else { return None };
        if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
            return None;
        }
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        match host {
            // A node that doesn't know its own name means the one by which it was found.
            "" | "?" => Address::new(asked.address()?.host(), port.parse().ok()?),
            host => Address::new(host, port.parse().ok()?),
        }
    }

    fn is_unknown_script(&self) -> bool {
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        matches!(self, Self::Refused(error) if error.kind() == unknown)
    }
}

/// Whether the connection is of no use any more. One to a server that has become a replica isn't either: the next one
/// may lead to the new primary.
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
