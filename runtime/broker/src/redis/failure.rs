//! Errors of Redis, and what they mean for a caller: try again, or change something first.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::Error;

/// A failure, before it is known which operation it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Trying again may help.
    Unavailable(String),
    /// The server runs and takes no writes. Trying again helps once somebody has done what the second text says.
    Full(String, &'static str),
    /// Trying again can't help.
    Unfit(String),
    /// The user may not do this. To a caller who only wants to know whether it may, it is no failure.
    Forbidden(String),
    /// Something is stored that this version can't read: its place, and what is wrong with it.
    Corrupt(String, String),
}

impl Fault {
    pub(super) fn of(self, what: &'static str) -> Error {
        match self {
            Self::Unavailable(cause) => Error::Unavailable { what, cause },
            Self::Full(cause, remedy) => Error::Full { what, cause, remedy },
            Self::Unfit(problem) => Error::Unfit { problem: format!("{what} failed: {problem}") },
            Self::Forbidden(problem) => {
                Error::Unfit { problem: format!("{what} failed: the user may not do this: {problem}") }
            }
            Self::Corrupt(at, problem) => Error::Corrupt { at, problem },
        }
    }

    /// Adds the server's address to the text.
    pub(super) fn at(self, address: &str) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(format!("no connection to {address}: {cause}")),
            Self::Unfit(problem) => Self::Unfit(format!("no connection to {address}: {problem}")),
            other @ (Self::Full(..) | Self::Forbidden(_) | Self::Corrupt(..)) => other,
        }
    }
}

const MORE_MEMORY: &str =
    "the server runs, and its memory is full: raise its maxmemory, or let fewer jobs wait or be kept";
const MORE_DISK: &str =
    "the server runs, and can't write to its disk: make room there, and see the server's own log";

const LOGIN_REFUSED: &str = "the login was refused; check user and password in `[broker]`, or in the tenant's own `[tenants.NAME.broker]`; in a URL, a % in a password is written as %25";

pub(super) fn fault_of(error: &RedisError) -> Fault {
    match error.kind() {
        ErrorKind::AuthenticationFailed => Fault::Unfit(LOGIN_REFUSED.to_owned()),
        ErrorKind::RESP3NotSupported => Fault::Unfit("it is older than Redis 7".to_owned()),
        ErrorKind::InvalidClientConfig | ErrorKind::Client => Fault::Unfit(error.to_string()),
        ErrorKind::Server(ServerErrorKind::Ask | ServerErrorKind::TryAgain) => {
            Fault::Unavailable("the cluster moves the tenant to another node, and isn't done yet".to_owned())
        }
        _ => fault_of_code(error),
    }
}

fn fault_of_code(error: &RedisError) -> Fault {
    let text = error.to_string();
    match error.code() {
        // An error without a code is no answer of the server: the connection has failed.
        None => Fault::Unavailable(text),
        Some(
            "LOADING" | "MOVED" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "NOREPLICAS" | "BUSY"
            | "UNKILLABLE",
        ) => Fault::Unavailable(text),
        Some("OOM") => Fault::Full(text, MORE_MEMORY),
        Some("MISCONF") => Fault::Full(text, MORE_DISK),
        Some("NOAUTH" | "WRONGPASS") => Fault::Unfit(LOGIN_REFUSED.to_owned()),
        Some("NOPERM") => Fault::Forbidden(text),
        Some("WRONGTYPE") => Fault::Corrupt("sandhog:*".to_owned(), text),
        Some("UNREADABLE") => {
            let key = error.detail().and_then(|detail| detail.split(' ').next()).unwrap_or_default();
            Fault::Corrupt(key.to_owned(), "it is not what this version writes".to_owned())
        }
        // Some versions report a refused command of a function without a code of its own.
        Some(_) if text.contains("The user executing the script can't") => Fault::Forbidden(text),
        Some(_) if text.contains("max number of clients reached") => Fault::Unavailable(text),
        Some(_) => Fault::Unfit(text),
    }
}
