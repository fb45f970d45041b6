//! A connection that never makes anybody wait for ever.
//!
//! Any number of calls share one connection and don't wait for each other's answers. Each has a deadline. After a
//! failure the connection is thrown away, half-open ones too, and the next call makes a new one; when that fails, calls
//! are refused at once for a while that grows with each failure, so that an outage costs callers no time and the
//! server no storm.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Config;
use super::dial::Dialer;
use super::failure::{Fault, fault_of, unavailable};
use super::scripts::Script;
use crate::{Error, Result};

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

    pub(super) fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            dialer: Dialer::new(config)?,
            command_timeout: config.command_timeout,
            live: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Runs a script, which is loaded first if the server doesn't know it.
    pub(super) async fn run(&self, what: &'static str, script: &Script, command: &Cmd) -> Result<Value> {
        let reply = self.send(command).await;
        let is_unknown = matches!(&reply, Err(Failure::Refused(error)) if is_unknown_script(error));
        let reply = if is_unknown { self.load_and_send(script, command).await } else { reply };
        reply.map_err(|failure| failure.of(what))
    }

    async fn load_and_send(&self, script: &Script, command: &Cmd) -> std::result::Result<Value, Failure> {
        self.send(redis::cmd("SCRIPT").arg("LOAD").arg(script.source)).await?;
        self.send(command).await
    }

    /// Runs a plain command.
    pub(super) async fn call(&self, what: &'static str, command: &Cmd) -> Result<Value> {
        self.send(command).await.map_err(|failure| failure.of(what))
    }

    /// Runs a plain command, if the user may.
    pub(super) async fn call_if_allowed(&self, what: &'static str, command: &Cmd) -> Result<Option<Value>> {
        match self.send(command).await {
            Err(Failure::Refused(error)) if matches!(fault_of(&error), Fault::Forbidden(_)) => Ok(None),
            reply => reply.map(Some).map_err(|failure| failure.of(what)),
        }
    }

    async fn send(&self, command: &Cmd) -> std::result::Result<Value, Failure> {
        let (number, mut connection) = self.connection().await.map_err(Failure::Connect)?;
        let answer = timeout(self.command_timeout, connection.send_packed_command(command)).await;
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

/// Twice as long after each failure, up to a bound.
pub(super) fn backoff(min: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    min.saturating_mul(1 << doublings).min(max)
}

/// How a command failed.
enum Failure {
    Connect(Fault),
    TookTooLong(Duration),
    Refused(RedisError),
}

impl Failure {
    fn of(self, what: &'static str) -> Error {
        match self {
            Self::Connect(fault) => fault.of(what),
            Self::TookTooLong(wait) => unavailable(what, format!("no answer within {wait:?}")),
            Self::Refused(error) => fault_of(&error).of(what),
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
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

    #[test]
    fn a_refused_url_is_not_shown_with_its_password() {
        let error = Link::new(&Config::new("redis://me:hunter2@host:port")).expect_err("no port").to_string();
        assert!(error.contains("host:port") && !error.contains("hunter2"), "{error}");
    }
}
