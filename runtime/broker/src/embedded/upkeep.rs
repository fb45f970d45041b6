//! Upkeep of the file: keeps it and the log beside it no larger than what is in them needs, a bounded step at a time, between
//! the steps that callers wait for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::reserve::Reserve;
use super::rights;

/// Delay between a commit and the check whether there is something to do.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Time between two steps, so that others get their turn in between.
const STEP_EVERY: Duration = Duration::from_millis(20);

/// Maximum number of free pages that one step gives back: half a mebibyte, in a few milliseconds.
const PAGES_A_STEP: i64 = 128;

/// Number of free pages that are left in the file for what comes next: 4 MiB.
const PAGES_SPARED: i64 = 1024;

/// Maximum number of used pages with which a file of a version that didn't give space back is rewritten, once: 8,192 pages,
/// or 32 MiB, take well under a second. A larger file stays as it is; see [`warning`].
const PAGES_REWRITTEN_MAX: i64 = 8192;

/// Length of the log, in bytes, past which it is truncated. It gets that long only after a large transaction, or if somebody
/// has read for long.
pub(super) const LOG_MAX: u64 = 16 << 20;

/// Maximum time that truncating the log waits for readers.
const READERS_WAIT: Duration = Duration::from_millis(50);

/// The value of `PRAGMA auto_vacuum` of a file that gives space back on demand.
const INCREMENTAL: i64 = 2;

/// The schedule and state of the upkeep.
pub(super) struct Upkeep {
    log: PathBuf,
    due: Option<Instant>,
    rewritten: bool,
    /// Whether pages were given back that the disk gets only once the log is merged.
    gave: bool,
}

/// Whether a step has left something undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    More,
}

/// Lets an empty file give space back, which has to be set before it has tables.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    if pragma(connection, "page_count")? == 0 {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    Ok(())
}

/// Returns a warning for the operator about a file that can't give space back.
pub(super) fn warning(connection: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    if pragma(connection, "auto_vacuum")? == INCREMENTAL || used(connection)? <= PAGES_REWRITTEN_MAX {
        return Ok(None);
    }
    let path = path.display();
    Ok(Some(format!(
        "`{path}` was made by an earlier version and never gets smaller, and is too large to be written anew while it \
         is in use; to change that, stop all daemons and run: sqlite3 {path} 'PRAGMA auto_vacuum = incremental; VACUUM'"
    )))
}

impl Upkeep {
    /// Creates the upkeep of this file. Its first step is due [`LOOK_AFTER`] from now.
    pub(super) fn of(database: &Path) -> Self {
        let due = Some(Instant::now() + LOOK_AFTER);
        Self { log: rights::beside(database, "-wal"), due, rewritten: false, gave: false }
    }

    /// Returns when the next step is due, if nothing is committed before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Schedules a step after a commit.
    pub(super) fn committed(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + LOOK_AFTER);
    }

    /// Does a step, if one is due. A step that fails is tried again after the next commit: nothing depends on it.
    pub(super) fn step(&mut self, connection: &mut Connection, reserve: &Reserve) {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = match self.try_step(connection) {
            Ok(Step::Done) => self.fill(connection, reserve),
            Ok(Step::More) => Some(Instant::now() + STEP_EVERY),
            Err(error) => {
                tracing::debug!(%error, "the upkeep of the database has to wait");
                None
            }
        };
    }

    /// Fills the reserve, once all pages that can be were given back. Returns when to try again.
    fn fill(&self, connection: &mut Connection, reserve: &Reserve) -> Option<Instant> {
        let again = reserve.is_used().then(|| Instant::now() + LOOK_AFTER);
        if again.is_some()
            && let Err(error) = cut_log(connection)
        {
            tracing::debug!(%error, "the log of the database can't be merged now");
        }
        match reserve.fill() {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(%error, "there is no space for the reserve");
                again
            }
        }
    }

    fn try_step(&mut self, connection: &mut Connection) -> rusqlite::Result<Step> {
        if pragma(connection, "auto_vacuum")? != INCREMENTAL {
            self.rewrite(connection)?;
        }
        let given = give_back(connection)?;
        self.gave |= given > 0;
        let step = if given == PAGES_A_STEP { Step::More } else { Step::Done };
        let ends = step == Step::Done && std::mem::take(&mut self.gave);
        if ends || fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_MAX) {
            cut_log(connection)?;
        }
        Ok(step)
    }

    /// Rewrites a small file of an earlier version, so that it can give space back from now on. Tried once.
    fn rewrite(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if std::mem::replace(&mut self.rewritten, true) || used(connection)? > PAGES_REWRITTEN_MAX {
            return Ok(());
        }
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        connection.execute_batch("VACUUM")
    }
}

/// Gives free pages back to the disk. Returns their number.
fn give_back(connection: &Connection) -> rusqlite::Result<i64> {
    let free = pragma(connection, "freelist_count")?;
    let count = (free - PAGES_SPARED).min(PAGES_A_STEP);
    if count <= 0 || pragma(connection, "auto_vacuum")? != INCREMENTAL {
        return Ok(0);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({count})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(count)
}

/// Merges the log into the file and truncates it, if readers let it.
fn cut_log(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(READERS_WAIT)?;
    let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    super::open::wait_for_others(connection)?;
    cut
}

/// Returns the number of pages that hold something.
fn used(connection: &Connection) -> rusqlite::Result<i64> {
    Ok(pragma(connection, "page_count")? - pragma(connection, "freelist_count")?)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
