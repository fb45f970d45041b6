//! What can go wrong inside, and what the caller is told of it.

use rusqlite::ErrorCode;

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
            Some(_) => Error::Unavailable { what, cause: error.to_string() },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What a step yields.
pub(super) type Result<T> = std::result::Result<T, Fault>;
