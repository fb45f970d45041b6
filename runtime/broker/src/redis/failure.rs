//! What an error of Redis means for a caller: try again, or change something first.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::Error;

/// A failure, before it is known what it kept from being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Trying again may help.
    Unavailable(String),
    /// Trying again can't help.
    Unfit(String),
    /// The user may not do this. To whoever asked only to be sure, it is no failure.
    Forbidden(String),
    /// A key holds something else than it should.
    Corrupt(String),
}

impl Fault {
    pub(super) fn of(self, what: &'static str) -> Error {
        match self {
            Self::Unavailable(cause) => Error::Unavailable { what, cause },
            Self::Unfit(problem) => Error::Unfit { problem: format!("{what} failed: {problem}") },
            Self::Forbidden(problem) => {
                Error::Unfit { problem: format!("{what} failed: the user may not do this: {problem}") }
            }
            Self::Corrupt(problem) => Error::Corrupt { at: "sandhog:*".to_owned(), problem },
        }
    }

    /// The same, with the server's address in its text.
    pub(super) fn at(self, address: &str) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(format!("no connection to {address}: {cause}")),
            Self::Unfit(problem) => Self::Unfit(format!("no connection to {address}: {problem}")),
            other @ (Self::Forbidden(_) | Self::Corrupt(_)) => other,
        }
    }
}

const LOGIN_REFUSED: &str = "the login was refused; check user and password in `[broker]`, or in the tenant's own `[tenants.NAME.broker]`";

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
        // Without a code it is no answer of the server: the connection has failed.
        None => Fault::Unavailable(text),
        Some(
            "LOADING" | "MOVED" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "MISCONF" | "NOREPLICAS"
            | "BUSY" | "UNKILLABLE" | "OOM",
        ) => Fault::Unavailable(text),
        Some("NOAUTH" | "WRONGPASS") => Fault::Unfit(LOGIN_REFUSED.to_owned()),
        Some("NOPERM") => Fault::Forbidden(text),
        Some("WRONGTYPE") => Fault::Corrupt(text),
        Some(_) if text.contains("max number of clients reached") => Fault::Unavailable(text),
        Some(_) => Fault::Unfit(text),
    }
}
