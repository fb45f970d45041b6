//! What can go wrong inside, and what the caller is told of it.

use rusqlite::{ErrorCode, ffi};

use crate::Error;

/// Why a step couldn't be done.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite refused.
    Sqlite(rusqlite::Error),
    /// A value in the file is none that this version writes.
    Unreadable { at: String, problem: String },
    /// It panicked, and what it had changed was taken back.
    Panicked,
}

impl Fault {
    pub(super) fn unreadable(at: impl Into<String>, problem: impl ToString) -> Self {
        Self::Unreadable { at: at.into(), problem: problem.to_string() }
    }

    /// The error of the operation that this ended.
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

    /// Whether there was no space for what it would have written.
    pub(super) fn lacks_space(&self) -> bool {
        matches!(self, Self::Sqlite(error) if lacks_space(error))
    }
}

fn lacks_space(error: &rusqlite::Error) -> bool {
    // The index of the log can't grow either where the disk is full, which has a code of its own.
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

/// What helps on a full disk.
const MORE_DISK: &str = "make room on the disk that broker.path is on, or let fewer jobs wait or be kept; it goes on by itself then";

/// Why a transaction was not committed.
#[derive(Debug, Clone)]
pub(super) struct Uncommitted {
    lacks_space: bool,
    cause: String,
}

impl Uncommitted {
    /// The space that is left is for what frees some.
    pub(super) fn reserved() -> Self {
        Self { lacks_space: true, cause: "what space is left is kept for what frees some".to_owned() }
    }

    /// SQLite gave it up, as it couldn't go on after a step had failed.
    pub(super) fn given_up(lacks_space: bool) -> Self {
        Self { lacks_space, cause: "the transaction was rolled back, as a step of it had failed".to_owned() }
    }

    pub(super) fn lacks_space(&self) -> bool {
        self.lacks_space
    }

    /// The error of an operation that was part of it.
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

/// What a step yields.
pub(super) type Result<T> = std::result::Result<T, Fault>;
