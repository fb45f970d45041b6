//! Keeps the file, and the log beside it, no larger than what is in them needs, a bounded step at a time, between the
//! steps that somebody waits for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::reserve::Reserve;
use super::rights;

/// How long after a commit there is a look at whether there is something to do.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long one step is from the next, so that others get their turn in between.
const STEP_EVERY: Duration = Duration::from_millis(20);

/// Free pages that one step gives back at most: half a mebibyte, in a few milliseconds.
const PAGES_A_STEP: i64 = 128;

/// Free pages that are left in the file for what comes next: 4 MiB.
const PAGES_SPARED: i64 = 1024;

/// A file made before space was given back is written anew, once, if what is in it is no more than this: 8,192 pages or
/// 32 MiB take well under a second. A larger one stays as it is; see [`warning`].
const PAGES_REWRITTEN_MAX: i64 = 8192;

/// The log is cut back when it is longer than this. It is so only after a large transaction, or where somebody has read
/// for long.
pub(super) const LOG_MAX: u64 = 16 << 20;

/// How long the cutting waits for those who read.
const READERS_WAIT: Duration = Duration::from_millis(50);

/// What `PRAGMA auto_vacuum` says of a file that gives space back when it is told to.
const INCREMENTAL: i64 = 2;

/// When there is something to do.
pub(super) struct Upkeep {
    log: PathBuf,
    due: Option<Instant>,
    rewritten: bool,
    /// Whether pages were given back that are the disk's only once the log is merged.
    gave: bool,
}

/// Whether a step left something undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    More,
}

/// Lets an empty file give space back, which has to be settled before it has tables.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    if pragma(connection, "page_count")? == 0 {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    Ok(())
}

/// What the operator should know of a file that can't give space back.
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
    /// That of this file. There is a look at it soon.
    pub(super) fn of(database: &Path) -> Self {
        let due = Some(Instant::now() + LOOK_AFTER);
        Self { log: rights::beside(database, "-wal"), due, rewritten: false, gave: false }
    }

    /// When the next step is due, if nothing is committed before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something was committed.
    pub(super) fn committed(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + LOOK_AFTER);
    }

    /// Does a step, if one is due. What can't be done now is tried again after the next commit: nothing depends on it.
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

    /// Sees to the reserve, once all that can be given back was; says when it is due again.
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

    /// Writes a small file of an earlier version anew, so that it can give space back from now on. Tried once.
    fn rewrite(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if std::mem::replace(&mut self.rewritten, true) || used(connection)? > PAGES_REWRITTEN_MAX {
            return Ok(());
        }
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        connection.execute_batch("VACUUM")
    }
}

/// Gives free pages back; says how many.
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

/// Merges the log into the file and empties it, if those who read let it.
fn cut_log(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(READERS_WAIT)?;
    let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    super::open::wait_for_others(connection)?;
    cut
}

/// Pages that hold something.
fn used(connection: &Connection) -> rusqlite::Result<i64> {
    Ok(pragma(connection, "page_count")? - pragma(connection, "freelist_count")?)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
