//! Creation, recognition and opening of the database file.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::fault::Fault;
use super::{rights, upkeep};
use crate::{Error, Result};

/// SQLite's `application_id` of our files: `SAND`.
const APPLICATION_ID: i32 = 0x5341_4e44;
/// Migrations of the tables: the first creates them, each later one changes the result of the one before. A file's version
/// is the number of migrations that it has gone through.
pub(super) const SCHEMA: [&str; 29] = [
    include_str!("schema/1-jobs.sql"),
    include_str!("schema/2-pinned.sql"),
    include_str!("schema/3-usage.sql"),
    include_str!("schema/4-minute.sql"),
    include_str!("schema/5-state-size.sql"),
    include_str!("schema/6-faults.sql"),
    include_str!("schema/7-states.sql"),
    include_str!("schema/8-parked.sql"),
    include_str!("schema/9-waiting.sql"),
    include_str!("schema/10-asked.sql"),
    include_str!("schema/11-lanes.sql"),
    include_str!("schema/12-trials.sql"),
    include_str!("schema/13-options.sql"),
    include_str!("schema/14-holds.sql"),
    include_str!("schema/15-history.sql"),
    include_str!("schema/16-start-by.sql"),
    include_str!("schema/17-groups.sql"),
    include_str!("schema/18-rates.sql"),
    include_str!("schema/19-flows.sql"),
    include_str!("schema/20-schedules.sql"),
    include_str!("schema/21-unique.sql"),
    include_str!("schema/22-events.sql"),
    include_str!("schema/23-kept.sql"),
    include_str!("schema/24-breakers.sql"),
    include_str!("schema/25-fair.sql"),
    include_str!("schema/26-rests.sql"),
    include_str!("schema/27-daemons.sql"),
    include_str!("schema/28-queues.sql"),
    include_str!("schema/29-group-limits.sql"),
];

const LATEST: i32 = SCHEMA.len() as i32;

/// Maximum time to wait for another process that writes. It holds the file for one group of operations at a time.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// Interval between two tries to get a lock that another process holds. SQLite's own handler waits up to 100 ms, many times
/// as long as a commit takes, so the second process would mostly wait for nothing.
const BUSY_STEP: Duration = Duration::from_micros(500);
/// Capacity of a connection's statement cache: room for every statement that there is.
const STATEMENTS_MAX: usize = 256;

/// Purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    Read,
}

/// Opens an existing file, and brings its tables up to date if it is of an earlier version.
pub(super) fn open(path: &Path, purpose: Use) -> Result<Connection> {
    let unfit = |problem: &str| Error::Unfit { problem: format!("`{}`: {problem}", path.display()) };
    let explain = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => unfit("this is no database; name another file as broker.path"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            rights::barred(path).unwrap_or_else(|| unfit(&error.to_string()))
        }
        _ => Fault::from(error).during("opening the database"),
    };
    let until = Instant::now() + BUSY_MAX;
    loop {
        match connect_as(path, purpose) {
            // If two connections switch to a write-ahead log at once, SQLite lets neither wait for the other.
            Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(BUSY_STEP),
            opened => return opened.map_err(explain)?.map_err(|problem| unfit(&problem)),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Connects to the file. The inner error is the reason why it isn't one of ours.
fn connect_as(path: &Path, purpose: Use) -> rusqlite::Result<std::result::Result<Connection, String>> {
    let mut connection = connect(path)?;
    // Only a file that is out of date needs a lock that others may hold.
    if version(&connection)? != Ok(LATEST) {
        match purpose {
            Use::Write => {
                upkeep::prepare(&connection)?;
                if let Err(problem) = recognise(&mut connection)? {
                    return Ok(Err(problem));
                }
            }
            // A reader can't rely on a writer to come and do it.
            Use::Read => match connect_as(path, Use::Write)? {
                Ok(_up_to_date) => {}
                Err(problem) => return Ok(Err(problem)),
            },
        }
    }
    match purpose {
        Use::Write => connection.pragma_update(None, "journal_mode", "wal")?,
        Use::Read => connection.pragma_update(None, "query_only", true)?,
    }
    Ok(Ok(connection))
}

/// Creates an empty file if there is none. Only its owner can read it, as payloads are private. SQLite gives the same rights
/// to the files that it puts beside it.
pub(super) fn make(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => rights::give_to_owner_of_folder(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Unfit {
            problem: format!(
                "making `{}`: {error}; broker.path has to be in a folder to write to",
                path.display()
            ),
        }),
    }
}

/// Checks that the file exists and that something was stored in it before.
pub(super) fn expect(path: &Path) -> Result<()> {
    let problem = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > 0 => return Ok(()),
        Ok(_) => "is empty",
        Err(error) if error.kind() == ErrorKind::NotFound => "isn't there",
        Err(error) => return Err(Error::Unfit { problem: format!("`{}`: {error}", path.display()) }),
    };
    let path = path.display();
    let problem =
        format!("`{path}` {problem}: the first job, or the first daemon, makes it; is broker.path right?");
    Err(Error::Unfit { problem })
}

/// SQLite's busy handler: sleeps while another process holds the lock, as no event tells of its release. `tries` is the
/// number of earlier calls in a row.
fn wait_for_the_other(tries: i32) -> bool {
    std::thread::sleep(BUSY_STEP);
    BUSY_STEP.saturating_mul(tries.unsigned_abs()) < BUSY_MAX
}

/// Makes the connection wait for other processes that hold the lock.
pub(super) fn wait_for_others(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_the_other))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    wait_for_others(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Otherwise SQLite prepares statements on tables with partial indexes anew whenever a bound value changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // `fullfsync`: a flush goes all the way to the disk. The rest is for speed.
    connection.execute_batch(
        "PRAGMA fullfsync = on;
         PRAGMA checkpoint_fullfsync = on;
         PRAGMA temp_store = memory;
         PRAGMA cache_size = -32768;",
    )?;
    connection.pragma_update(None, "journal_size_limit", upkeep::LOG_MAX.cast_signed())?;
    Ok(connection)
}

/// Returns the version of the tables. The inner error is the reason why the file isn't one of ours.
fn version(connection: &Connection) -> rusqlite::Result<std::result::Result<i32, String>> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, version) if (1..=LATEST).contains(&version) => Ok(version),
        (APPLICATION_ID, version) if version > LATEST => Err(format!(
            "its tables are of version {version}, and this program knows no later one than {LATEST}; \
             use the newer program that wrote it"
        )),
        (APPLICATION_ID, version) => Err(format!("its tables are of version {version}, which never was")),
        _ => Err("this is a database of another program; name another file as broker.path".to_owned()),
    })
}

/// Creates the tables in an empty file, and brings those of an older version up to date. The inner error is the reason why
/// the file isn't one of ours.
fn recognise(connection: &mut Connection) -> rusqlite::Result<std::result::Result<(), String>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = version(&transaction)?;
    if let Ok(version) = known
        && version < LATEST
    {
        for step in &SCHEMA[version.unsigned_abs() as usize..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", LATEST)?;
    }
    transaction.commit()?;
    Ok(known.map(drop))
}
