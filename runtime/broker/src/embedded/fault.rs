//! Internal errors of a step, and the public errors that callers get for them.

use rusqlite::{ErrorCode, ffi};

use crate::Error;

/// Reason why a step failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite refused.
    Sqlite(rusqlite::Error),
    /// A value in the file is not one that this version writes.
    Unreadable { at: String, problem: String },
    /// The step panicked, and its changes were rolled back.
    Panicked,
}

impl Fault {
    pub(super) fn unreadable(at: impl Into<String>, problem: impl ToString) -> Self {
        Self::Unreadable { at: at.into(), problem: problem.to_string() }
    }

    /// Converts the fault to the error of the operation that it ended.
    pub(super) fn during(self, what: &'static str) -> Error {
        let error = match self {
            Self::Unreadable { at, problem } => return Error::Corrupt { at, problem },
            Self::Panicked => return Error::Bug { what },
            Self::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => {
                Error::Corrupt { at: "the database file".to_owned(), problem: error.to_string() }
            }
            Some(_) => Uncommitted::from(error).during(what),
        }
    }

    /// Whether there was no disk space for what the step would have written.
    pub(super) fn lacks_space(&self) -> bool {
        matches!(self, Self::Sqlite(error) if lacks_space(error))
    }
}

fn lacks_space(error: &rusqlite::Error) -> bool {
    // If the disk is full, the index of the log can't grow either, which has an error code of its own.
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

/// Remedy for a full disk.
const MORE_DISK: &str = "make room on the disk that broker.path is on, or let fewer jobs wait or be kept; it goes on by itself then";

/// Reason why a transaction was not committed.
#[derive(Debug, Clone)]
pub(super) struct Uncommitted {
    lacks_space: bool,
    cause: String,
}

impl Uncommitted {
    /// Creates the refusal of a step while the remaining space is kept for steps that free some.
    pub(super) fn reserved() -> Self {
        Self { lacks_space: true, cause: "what space is left is kept for what frees some".to_owned() }
    }

    /// Creates the error of a transaction that SQLite gave up, as it couldn't go on after a step had failed.
    pub(super) fn given_up(lacks_space: bool) -> Self {
        Self { lacks_space, cause: "the transaction was rolled back, as a step of it had failed".to_owned() }
    }

    pub(super) fn lacks_space(&self) -> bool {
        self.lacks_space
    }

    /// Converts it to the error of an operation that was part of the transaction.
    pub(super) fn during(&self, what: &'static str) -> Error {
        if self.lacks_space {
            let cause = format!("no space is left on the disk: {}", self.cause);
            return Error::Full { what, cause, remedy: MORE_DISK };
        }
        Error::Unavailable { what, cause: self.cause.clone() }
    }
}

impl From<rusqlite::Error> for Uncommitted {
    fn from(error: rusqlite::Error) -> Self {
        Self { lacks_space: lacks_space(&error), cause: error.to_string() }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::InvalidColumnType(_, column, found) => {
                Self::unreadable(column, format!("it is of type {found}"))
            }
            rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::Utf8Error(..) => Self::unreadable("a column", error),
            error => Self::Sqlite(error),
        }
    }
}

/// The result of a step.
pub(super) type Result<T> = std::result::Result<T, Fault>;
