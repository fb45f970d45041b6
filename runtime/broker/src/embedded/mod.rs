//! Broker on a SQLite file, in the daemon's process: for one machine, with the same guarantees as any other broker.
//!
//! ```text
//! open.rs     creation and recognition of the file      schema/  its tables      place.rs  whether it is still there
//! rights.rs   rights of the files                       upkeep.rs  return of unused space to the disk
//! reserve.rs  space for when the disk is full
//! threads.rs  the writing thread and the reading thread; group commit
//! step.rs     shared by the steps: enqueue.rs  lease.rs  lanes.rs  groups.rs  holds.rs  unique.rs  asked.rs  settle.rs  state.rs  sweep.rs  control.rs  edit.rs  purge.rs
//! account.rs  usage of runs by day      row.rs  values in the file    queries.rs  why.rs  look-ups
//! trials.rs   trials of canaries        flows.rs  jobs that wait for others
//! schedules.rs  records of schedules    events.rs  events of jobs    daemons.rs  what daemons tell of themselves
//! socket_notifier.rs  news to and from other processes on the same file
//! ```
//!
//! Each operation is a step of the writing thread. Steps that queue up while it is busy share one transaction, with a
//! savepoint each, and their callers are answered when it is on the disk: durable before it is acknowledged, at a fraction
//! of a disk flush each. Leases and renewals don't wait for the flush: a power cut that undoes them ends their holders too.
//! Look-ups have a connection of their own and never wait for a write.
//!
//! Several processes may open the same file: the `sandhog` command enqueues while a daemon runs, and two daemons share
//! the work. They take turns by SQLite's lock, one group at a time.
//!
//! # Failure paths
//! - The disk fails, or another process holds the file too long: [`Error::Unavailable`] with the cause, and nothing of
//!   the step has happened.
//! - The disk is full: no job is enqueued or leased ([`Error::Full`]); leased jobs are settled and old ones removed, in the
//!   space that was reserved for that (`.reserve`).
//! - The file belongs to another program, or to a newer version: [`Error::Unfit`] when it is opened.
//! - It is removed or replaced while it is open: [`Error::Unfit`] within a second, for as long as that is so. Data stored
//!   within that second is in the file that was removed.
//! - A job can't be read, as a newer version wrote it: it stays as it is, is reported where it is asked for, and blocks no
//!   other; a ready one is parked, and looked at again by sweeps. Anything else that can't be read is [`Error::Corrupt`],
//!   with the table and column.
//! - The process is killed: acknowledged operations are kept; its leases expire. Some of the data may be in the log beside
//!   the file (`-wal`), which belongs to it, until a process opens the two and closes them in good order.
//!
//! # Assumptions
//! - The file is on a local disk that keeps what it has flushed. Network file systems don't keep SQLite's locks.
//! - All processes have the same clock, as they are on one machine. A jump of it moves due times and expiries, no more: who
//!   holds a job is decided by numbers that only rise.

mod account;
mod asked;
mod breakers;
mod census;
mod control;
mod daemons;
mod edit;
mod enqueue;
mod events;
mod fair;
mod fault;
mod flows;
mod group_limits;
mod groups;
mod holds;
mod lanes;
mod lease;
mod open;
mod place;
mod purge;
mod queries;
mod reserve;
mod rights;
mod row;
mod schedules;
mod settle;
mod socket_notifier;
mod state;
mod step;
mod stored;
mod sweep;
#[cfg(test)]
mod tests;
mod threads;
mod trials;
mod unique;
mod upkeep;
mod why;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use sandhog_core::account::Day;
use sandhog_core::attempt::SettleReply;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::NewJob;
use sandhog_core::quota::QueueBounds;

use self::fault::Fault;
use self::open::Use;
use self::place::Place;
use self::socket_notifier::SocketNotifier;
use self::step::Step;
use self::threads::{Flush, Needs, Read, Space, Worker, Write};
use crate::wake::Listeners;
use crate::{
    Broker, Command, DaemonReport, Enqueued, Error, Fleet, LeaseAsk, Leased, Look, Outcome, Renew, Renewal,
    Result, Seen, Settle, USAGE_DAYS_KEPT, Wakes, WallClock,
};

/// Broker on a SQLite file. Dropping it finishes all pending operations and closes the file, as [`Embedded::close`] does.
pub struct Embedded {
    // In the order in which they are dropped: the writer is the last to close the file, and still sends the news of its
    // last commit.
    reader: Worker<Read>,
    writing: Option<Writing>,
    listeners: Arc<Listeners>,
    clock: Arc<dyn WallClock>,
    place: Place,
}

/// The parts that change the file, and that hear of changes by other processes. Absent if the file was opened only to look.
struct Writing {
    writer: Worker<Box<dyn Write>>,
    notifier: Arc<SocketNotifier>,
}

impl Embedded {
    /// Opens the file, and creates it if there is none. Other processes may have it open.
    ///
    /// # Errors
    /// [`Error::Unfit`] if it can't be opened or created, is another program's, or of a newer version;
    /// [`Error::Corrupt`] if it is damaged; [`Error::Unavailable`] if the disk fails.
    pub fn open(path: &Path, clock: Arc<dyn WallClock>) -> Result<Self> {
        open::make(path)?;
        Self::open_to_write(path, clock)
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::Unfit`] if the file doesn't exist, or nothing was ever stored in it.
    pub fn open_existing(path: &Path, clock: Arc<dyn WallClock>) -> Result<Self> {
        open::expect(path)?;
        Self::open_to_write(path, clock)
    }

    /// Opens an existing file for look-ups only. Leaves no file beside it, and waits for no writer; only a file of an earlier
    /// version is brought up to date. Every operation that would change something is [`Error::Unfit`].
    ///
    /// # Errors
    /// As [`Self::open_existing`].
    pub fn open_to_look(path: &Path, clock: Arc<dyn WallClock>) -> Result<Self> {
        open::expect(path)?;
        let reader = Worker::reader(open::open(path, Use::Read)?)?;
        let place = Place::of(path.to_owned()).map_err(|error| rights::unfit(path, "opening it", &error))?;
        Ok(Self { reader, writing: None, listeners: Arc::default(), clock, place })
    }

    fn open_to_write(path: &Path, clock: Arc<dyn WallClock>) -> Result<Self> {
        let unfit = |error: std::io::Error| rights::unfit(path, "opening it", &error);
        let writing = open::open(path, Use::Write)?;
        // All processes have to look for the sockets in the same place, whatever path they opened.
        let path = fs::canonicalize(path).map_err(unfit)?;
        let reading = open::open(&path, Use::Read)?;
        let place = Place::of(path).map_err(unfit)?;
        let notifier = Arc::new(SocketNotifier::beside(place.path())?);
        let listeners = Arc::new(Listeners::default());
        let (told, others) = (Arc::clone(&listeners), Arc::clone(&notifier));
        let writer = Worker::writer(writing, place.path(), move |news| {
            news.iter().for_each(|wake| told.wake(wake));
            others.notify(news);
        })?;
        let writing = Some(Writing { writer, notifier });
        Ok(Self { reader: Worker::reader(reading)?, writing, listeners, clock, place })
    }

    /// Finishes all pending operations and closes the file, even if others still hold this broker: all their later calls are
    /// [`Error::Unavailable`]. The last process to close a file leaves all its data in that one file, with no log beside it.
    /// Blocks for as long as the disk takes.
    pub fn close(&self) {
        self.reader.close();
        if let Some(Writing { writer, .. }) = &self.writing {
            writer.close();
        }
    }

    /// Returns the writing part, or [`Error::Unfit`] if the file was opened only to look.
    fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(|| Error::Unfit {
            problem: format!("`{}` was opened to be looked at alone", self.place.path().display()),
        })
    }

    /// Runs a step of a tenant on the writing thread.
    async fn step<T: Send + 'static>(
        &self,
        what: &'static str,
        needs: Needs,
        tenant: &TenantId,
        mut run: impl FnMut(&mut Step<'_>) -> fault::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.place.check()?;
        let (tenant, clock) = (tenant.clone(), Arc::clone(&self.clock));
        let step = move |connection: &Connection| {
            let mut step = Step::new(connection, &tenant, clock.now());
            let answer = run(&mut step)?;
            Ok((answer, step.finish()?))
        };
        self.writing()?.writer.write(what, needs, step).await
    }

    /// Runs a look-up of a tenant on the reading thread.
    async fn look_at<T: Send + 'static>(
        &self,
        what: &'static str,
        tenant: &TenantId,
        look: impl FnOnce(&Connection, &TenantId) -> fault::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.place.check()?;
        let tenant = tenant.clone();
        self.reader.read(what, move |connection| look(connection, &tenant)).await
    }
}

/// Needs of a step that is answered once it is on the disk, and of one that isn't waited for. Neither takes space.
const FLUSHED: Needs = Needs { flush: Flush::Now, space: Space::Frees };
const UNFLUSHED: Needs = Needs { flush: Flush::Later, space: Space::Frees };

impl Needs {
    /// Returns the same needs for a step that takes up space.
    const fn taking_space(self) -> Self {
        Self { space: Space::Takes, ..self }
    }
}

#[async_trait]
impl Broker for Embedded {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        let (jobs, bounds) = (jobs.to_vec(), *bounds);
        self.step("enqueue", FLUSHED.taking_space(), tenant, move |step| {
            jobs.iter().map(|job| step.enqueue(job, &bounds)).collect()
        })
        .await
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        let LeaseAsk { tenant, queues, lanes, suspects, bytes, ttl, fuel, asker } = ask;
        let (queues, lanes) = (queues.to_vec(), lanes.to_vec());
        self.step("lease", UNFLUSHED.taking_space(), tenant, move |step| {
            let (tenant, queues, lanes) = (step.tenant, &queues[..], &lanes[..]);
            step.lease(&LeaseAsk { tenant, queues, lanes, suspects, bytes, ttl, fuel, asker })
        })
        .await
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        let leases = leases.to_vec();
        self.step("renew", UNFLUSHED, tenant, move |step| {
            leases.iter().map(|renew| step.renew(renew, ttl)).collect()
        })
        .await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        let settlements = settlements.to_vec();
        self.step("settle", FLUSHED, tenant, move |step| {
            settlements.iter().map(|settle| step.settle(settle)).collect()
        })
        .await
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        match command {
            Command::Jobs { action, ids, still } => self
                .step("control", FLUSHED, tenant, move |step| step.act(action, &ids, still))
                .await
                .map(Outcome::Jobs),
            Command::Edit { job, edit, bounds } => self
                .step("edit", FLUSHED.taking_space(), tenant, move |step| step.edit(job, &edit, &bounds))
                .await
                .map(Outcome::Edited),
            // A sweep that a power cut undoes is repeated.
            Command::Sweep(sweep) => self
                .step("sweep", UNFLUSHED, tenant, move |step| step.sweep(&sweep))
                .await
                .map(Outcome::Swept),
            Command::Purge { most } => {
                self.step("purge", FLUSHED, tenant, move |step| step.purge(most)).await.map(Outcome::Left)
            }
            Command::SetGroupRules(rules) => self
                .step("setting of rules for groups", FLUSHED.taking_space(), tenant, move |step| {
                    step.set_group_rules(&rules)
                })
                .await
                .map(|()| Outcome::Done),
            Command::ReleaseGroup { queue, group } => self
                .step("release of a group", FLUSHED, tenant, move |step| step.release_group(&queue, &group))
                .await
                .map(Outcome::Released),
            Command::LimitGroup { queue, group, change } => self
                .step("limit of a group", FLUSHED, tenant, move |step| {
                    step.limit_group(&queue, &group, &change)
                })
                .await
                .map(Outcome::Limited),
            Command::Flow { flow, bounds } => self
                .step("store a flow", FLUSHED.taking_space(), tenant, move |step| {
                    step.store_flow(&flow, &bounds)
                })
                .await
                .map(Outcome::Flow),
            // A report that a power cut undoes is repeated, or was a decision that another daemon comes to as well.
            Command::Trial(report) => self
                .step("trial", UNFLUSHED.taking_space(), tenant, move |step| step.report_trial(&report))
                .await
                .map(Outcome::Trial),
            Command::Hold(hold) => self
                .step("hold", FLUSHED, tenant, move |step| step.hold((*hold).clone()))
                .await
                .map(Outcome::Hold),
            Command::Lift(scope) => {
                self.step("lift", FLUSHED, tenant, move |step| step.lift(&scope)).await.map(Outcome::Hold)
            }
            Command::Breaker(write) => self
                .step("breaker", FLUSHED, tenant, move |step| step.write_breaker(&write))
                .await
                .map(Outcome::Breaker),
            Command::Schedule(write) => self
                .step("schedule", FLUSHED.taking_space(), tenant, move |step| step.write_schedule(&write))
                .await
                .map(Outcome::Schedule),
            // A reader says so again and again.
            Command::RecordEvents(keep) => self
                .step("recording of events", UNFLUSHED.taking_space(), tenant, move |step| {
                    step.record_events(keep)
                })
                .await
                .map(Outcome::Recording),
        }
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        let now = self.clock.now();
        self.look_at("look", tenant, move |connection, tenant| {
            Ok(match look {
                Look::Job(job) => Seen::Job(queries::job(connection, tenant, job)?.map(Box::new)),
                Look::Log(job) => Seen::Log(queries::log(connection, tenant, job)?),
                Look::Jobs(query) => Seen::Jobs(queries::jobs(connection, tenant, &query, now)?),
                Look::Counts => Seen::Counts(queries::counts(connection, tenant)?),
                Look::State { plugin, key } => {
                    Seen::State(queries::stored(connection, tenant, &plugin, &key, now)?)
                }
                Look::Lanes => Seen::Lanes(lanes::lanes(connection, tenant)?),
                Look::Holds => Seen::Holds(holds::holds(connection, tenant, now)?),
                Look::Why(job) => Seen::Why(Step::new(connection, tenant, now).why(job)?.map(Box::new)),
                Look::Limits => Seen::Limits(Box::new(Step::new(connection, tenant, now).limits_use()?)),
                Look::HeldGroups => Seen::HeldGroups(groups::held_groups(connection, tenant)?),
                Look::Flow(flow) => Seen::Flow(flows::flow(connection, tenant, flow)?),
                Look::Parents { job, bytes } => {
                    Seen::Parents(flows::parents(connection, tenant, job, bytes)?)
                }
                Look::Breakers(name) => {
                    Seen::Breakers(breakers::breakers(connection, tenant, name.as_ref(), now)?)
                }
                Look::Schedules(query) => {
                    Seen::Schedules(schedules::schedules(connection, tenant, &query, now)?)
                }
                Look::Events { after, max } => {
                    Seen::Events(events::events(connection, tenant, after, max, now)?)
                }
                Look::Queues { after, max } => {
                    Seen::Queues(census::queues(connection, tenant, after.as_ref(), max, now)?)
                }
                Look::Usage(days) => {
                    let first = Day::of(now).before(USAGE_DAYS_KEPT).max(*days.start());
                    Seen::Usage(account::usage(connection, tenant, &(first..=*days.end()))?)
                }
            })
        })
        .await
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.writing()?.notifier.listen(&self.listeners)?;
        Ok(self.listeners.listen(tenants))
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.place.check()?;
        self.reader.read("look", queries::tenants).await
    }

    /// A report that a power cut undoes is followed by the next one.
    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.place.check()?;
        let (clock, report) = (Arc::clone(&self.clock), report.cloned());
        let step = move |connection: &Connection| {
            daemons::report(connection, id, report.as_ref(), clock.now())?;
            Ok(((), Vec::new()))
        };
        self.writing()?.writer.write("report of a daemon", UNFLUSHED, step).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.place.check()?;
        let now = self.clock.now();
        self.reader.read("look-up of the daemons", move |connection| daemons::fleet(connection, now)).await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.place.check_now()?;
        let mode = self.writing()?.writer.write("check", FLUSHED, |connection| {
            // Proves that the file can be written, all the way to the disk.
            connection.execute("UPDATE arrivals SET n = n", [])?;
            let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?;
            Ok((mode, Vec::new()))
        });
        if mode.await? != "wal" {
            let path = self.place.path().display();
            let problem = format!("`{path}` can't keep a write-ahead log; it has to be on a local disk");
            return Err(Error::Unfit { problem });
        }
        let path = self.place.path().to_owned();
        let look = move |connection: &Connection| {
            sound(connection)?;
            Ok(upkeep::warning(connection, &path)?)
        };
        Ok(self.reader.read("check", look).await?.into_iter().collect())
    }
}

/// Maximum size, in bytes, of a file that is checked for damage at a start; larger ones take too long.
const LOOKED_THROUGH_MAX: i64 = 64 << 20;

/// Checks the file for damage, if it isn't larger than [`LOOKED_THROUGH_MAX`].
fn sound(connection: &Connection) -> fault::Result<()> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("page_count")?.saturating_mul(pragma("page_size")?) > LOOKED_THROUGH_MAX {
        return Ok(());
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Fault::unreadable("the database file", verdict)) }
}
