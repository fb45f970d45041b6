//! The two threads of a database: one writes, one reads. SQLite blocks, and allows only one write at a time; so calls queue
//! up for the writer, and those that have queued up while it was busy share one commit.
//!
//! ```text
//! call ─┐
//! call ─┼─> BEGIN ─> step, step, step (a savepoint each) ─> COMMIT, on the disk ─> wakes ─> reply, reply, reply
//! call ─┘
//! ```
//!
//! Not every step has to be on the disk before it is answered: see [`Flush`]. A group without one that has to be isn't
//! flushed, and the flush of a later group takes it along.
//!
//! A step that fails, or panics, rolls back its own changes only. If the commit fails, or SQLite had to give up the whole
//! transaction for want of space, none of the steps has happened, and each caller is told so.
//!
//! Between groups, the thread that writes does a step of the file's [`Upkeep`] when one is due.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::{Fault, Result as Step, Uncommitted};
use super::reserve::Reserve;
use super::upkeep::Upkeep;
use crate::{Error, Result, Wake};

/// Maximum number of steps that share a commit, so that none waits long for those behind it, and other processes get their
/// turn.
const GROUP_MAX: usize = 256;

/// A read by the reader.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Whether a step has to be on the disk before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Yes: it survives a power cut.
    Now,
    /// No: it survives the process, as the operating system has it. Enough for leases: their holder is on this machine, and
    /// fails with it.
    Later,
}

/// The effect of a step on the space that is left on the disk, in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// The step stores more.
    Takes,
    /// The step stores no more than there was, or leads to something being removed: it may use the [`Reserve`].
    Frees,
}

/// The requirements of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    pub(super) flush: Flush,
    pub(super) space: Space,
}

/// A step of the writer, and the caller that waits for it.
pub(super) trait Write: Send {
    fn needs(&self) -> Needs;

    /// Does the step, within a transaction that isn't committed yet. Returns the wakes to send. If the transaction is not
    /// committed, the step may be done again in another.
    fn run(&mut self, connection: &Connection) -> Vec<Wake>;

    /// Whether the step failed for want of space.
    fn lacked_space(&self) -> bool;

    /// Answers the caller, now that it is known whether the transaction was committed.
    fn answer(self: Box<Self>, committed: Committed);
}

/// Whether a transaction was committed.
type Committed = std::result::Result<(), Uncommitted>;

struct Pending<T, F> {
    what: &'static str,
    needs: Needs,
    step: F,
    done: Option<Step<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// A message to a thread.
enum Order<C> {
    Do(C),
    /// Ends the thread: nothing that comes after this is done.
    End,
}

/// A handle to a thread with a connection of its own. The thread ends when this is closed or dropped, after what was asked
/// before.
pub(super) struct Worker<C> {
    orders: Sender<Order<C>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<C: Send + 'static> Worker<C> {
    fn start(name: &str, run: impl FnOnce(Receiver<Order<C>>) + Send + 'static) -> Result<Self> {
        let (orders, received) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(received))
            .map_err(|error| Error::Unavailable { what: "starting a thread", cause: error.to_string() })?;
        Ok(Self { orders, thread: Mutex::new(Some(thread)) })
    }

    async fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce(oneshot::Sender<Result<T>>) -> C,
    ) -> Result<T> {
        let unavailable = |cause: &str| Error::Unavailable { what, cause: cause.to_owned() };
        let (reply, replied) = oneshot::channel();
        let sent = self.orders.send(Order::Do(call(reply)));
        sent.map_err(|_| unavailable("the database is closed"))?;
        replied
            .await
            .map_err(|_| unavailable("it was closed meanwhile, or has a bug, of which the log tells"))?
    }
}

impl<C> Worker<C> {
    /// Waits until what was asked before is done, and the connection is closed.
    pub(super) fn close(&self) {
        // A thread that has ended receives nothing, and doesn't need to.
        let _ended = self.orders.send(Order::End);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the database has panicked, which is a bug");
        }
    }
}

impl<C> Drop for Worker<C> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes a connection. The last one to be closed merges the log into the file, so that a copy of the file has all of it.
fn close(connection: Connection) {
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed in good order; its log stays beside it, and is read with it");
    }
}

impl Worker<Read> {
    /// Starts a thread that only reads.
    pub(super) fn reader(connection: Connection) -> Result<Self> {
        Self::start("sandhog-read", move |orders| {
            while let Ok(Order::Do(read)) = orders.recv() {
                let read: Read = read;
                read(&connection);
            }
            close(connection);
        })
    }

    /// Reads what is committed, all of it at the same point in time.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        look: impl FnOnce(&Connection) -> Step<T> + Send + 'static,
    ) -> Result<T> {
        self.call(what, |reply| {
            Box::new(move |connection| {
                let found = connection
                    .unchecked_transaction()
                    .map_err(Fault::from)
                    .and_then(|_open| caught(|| look(connection)));
                // The caller may have gone; a read changes nothing.
                let _unheard = reply.send(found.map_err(|fault| fault.during(what)));
            })
        })
        .await
    }
}

impl Worker<Box<dyn Write>> {
    /// Starts a thread that writes, and calls `tell` with the wakes of each commit.
    pub(super) fn writer(
        connection: Connection,
        database: &Path,
        tell: impl Fn(&BTreeSet<Wake>) + Send + 'static,
    ) -> Result<Self> {
        let (mut upkeep, reserve) = (Upkeep::of(database), Reserve::beside(database));
        Self::start("sandhog-write", move |orders| {
            let mut writer = Writer { connection, reserve, flush: None, tell };
            let mut queue = Queue { orders, ended: false };
            while let Some(mut group) = queue.next(upkeep.due()) {
                if !group.is_empty() {
                    upkeep.committed();
                }
                if writer.reserve.is_used() {
                    writer.refuse(&mut group);
                }
                while !group.is_empty() {
                    if catch_unwind(AssertUnwindSafe(|| writer.commit(&mut group))).is_err() {
                        // The panic wasn't in a step, so it is open whose fault it was. None of the group gets an answer.
                        group.clear();
                        writer.abandon();
                    }
                }
                upkeep.step(&mut writer.connection, &writer.reserve);
            }
            close(writer.connection);
        })
    }

    /// Does a step, whole or not at all. The step returns its answer, and the wakes to send.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        needs: Needs,
        step: impl FnMut(&Connection) -> Step<(T, Vec<Wake>)> + Send + 'static,
    ) -> Result<T> {
        self.call(what, |reply| Box::new(Pending { what, needs, step, done: None, reply })).await
    }
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Step<(T, Vec<Wake>)> + Send,
{
    fn needs(&self) -> Needs {
        self.needs
    }

    fn run(&mut self, connection: &Connection) -> Vec<Wake> {
        let (done, news) = match in_savepoint(connection, &mut self.step) {
            Ok((answer, news)) => (Ok(answer), news),
            Err(fault) => (Err(fault), Vec::new()),
        };
        self.done = Some(done);
        news
    }

    fn lacked_space(&self) -> bool {
        matches!(&self.done, Some(Err(fault)) if fault.lacks_space())
    }

    fn answer(self: Box<Self>, committed: Committed) {
        let answer = match (self.done, committed) {
            (Some(Err(fault)), _) => Err(fault.during(self.what)),
            (Some(Ok(answer)), Ok(())) => Ok(answer),
            (_, Err(uncommitted)) => Err(uncommitted.during(self.what)),
            (None, Ok(())) => Err(Error::Bug { what: self.what }),
        };
        // The caller may have gone; the step is done all the same.
        let _unheard = self.reply.send(answer);
    }
}

fn in_savepoint<T>(connection: &Connection, step: impl FnOnce(&Connection) -> Step<T>) -> Step<T> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]);
    run("SAVEPOINT step")?;
    let done = caught(|| step(connection));
    if connection.is_autocommit() {
        // After some errors SQLite has rolled back the whole transaction by itself, and the savepoint with it.
        return done;
    }
    if done.is_err() {
        run("ROLLBACK TO step")?;
    }
    run("RELEASE step")?;
    done
}

/// Runs a step and catches its panic, which ends only this step: the thread goes on, as all others need it. The process's
/// panic hook has said where it was.
fn caught<T>(step: impl FnOnce() -> Step<T>) -> Step<T> {
    // What a step has changed outside of the database is dropped with it.
    catch_unwind(AssertUnwindSafe(step)).unwrap_or(Err(Fault::Panicked))
}

/// The queue of the thread that writes.
struct Queue<C> {
    orders: Receiver<Order<C>>,
    ended: bool,
}

impl<C> Queue<C> {
    /// Waits for a call, and returns it with those that have queued up behind it. Returns no calls if none comes before
    /// `until`, and `None` at the end.
    fn next(&mut self, until: Option<Instant>) -> Option<VecDeque<C>> {
        if self.ended {
            return None;
        }
        let first = match until {
            None => self.orders.recv().ok(),
            Some(until) => match self.orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => return Some(VecDeque::new()),
                first => first.ok(),
            },
        };
        let Some(Order::Do(first)) = first else { return None };
        let mut group = VecDeque::from([first]);
        while group.len() < GROUP_MAX
            && let Ok(order) = self.orders.try_recv()
        {
            match order {
                Order::Do(call) => group.push_back(call),
                Order::End => {
                    self.ended = true;
                    break;
                }
            }
        }
        Some(group)
    }
}

/// The state of the thread that writes.
struct Writer<F> {
    connection: Connection,
    reserve: Reserve,
    /// The current setting of the connection; `None` before the first transaction.
    flush: Option<Flush>,
    tell: F,
}

impl<F: Fn(&BTreeSet<Wake>)> Writer<F> {
    /// Refuses steps that would store more.
    fn refuse(&self, steps: &mut VecDeque<Box<dyn Write>>) {
        let (refused, others): (VecDeque<_>, VecDeque<_>) =
            steps.drain(..).partition(|step| step.needs().space == Space::Takes);
        *steps = others;
        refused.into_iter().for_each(|step| step.answer(Err(Uncommitted::reserved())));
    }

    /// Commits steps together, until there are no more or SQLite has given up the transaction. Steps that there was no space
    /// for are done again one by one, so that none is refused for what another wanted to store.
    fn commit(&mut self, steps: &mut VecDeque<Box<dyn Write>>) {
        let (taken, committed) = self.transact(steps);
        let lacks_space = matches!(&committed, Err(uncommitted) if uncommitted.lacks_space());
        for step in taken {
            if lacks_space || step.lacked_space() {
                self.commit_alone(step);
            } else {
                step.answer(committed.clone());
            }
        }
    }

    /// Commits a step by itself, as there was no space for it with others.
    fn commit_alone(&mut self, step: Box<dyn Write>) {
        let frees = step.needs().space == Space::Frees;
        if !frees && self.reserve.is_used() {
            return step.answer(Err(Uncommitted::reserved()));
        }
        let mut alone = VecDeque::from([step]);
        loop {
            let (taken, committed) = self.transact(&mut alone);
            let lacks_space = matches!(&committed, Err(uncommitted) if uncommitted.lacks_space());
            for step in taken {
                if frees && (lacks_space || step.lacked_space()) && self.reserve.release() {
                    alone.push_back(step);
                } else {
                    step.answer(committed.clone());
                }
            }
            if alone.is_empty() {
                return;
            }
        }
    }

    /// Runs steps in one transaction, until there are no more or SQLite has given it up. Returns those that it took.
    fn transact(&mut self, steps: &mut VecDeque<Box<dyn Write>>) -> (Vec<Box<dyn Write>>, Committed) {
        let mut taken = Vec::new();
        let mut news = BTreeSet::new();
        let begun = self.begin(steps);
        while let Some(mut step) = steps.pop_front() {
            if begun.is_ok() {
                news.extend(step.run(&self.connection));
            }
            taken.push(step);
            if begun.is_ok() && self.connection.is_autocommit() {
                break;
            }
        }
        let committed = begun.and_then(|()| self.finish(&taken));
        if committed.is_ok() {
            (self.tell)(&news);
        }
        (taken, committed)
    }

    fn begin(&mut self, steps: &VecDeque<Box<dyn Write>>) -> Committed {
        let now = steps.iter().any(|step| step.needs().flush == Flush::Now);
        let flush = if now { Flush::Now } else { Flush::Later };
        if self.flush != Some(flush) {
            let level = match flush {
                Flush::Now => "full",
                Flush::Later => "normal",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.flush = Some(flush);
        }
        self.execute("BEGIN IMMEDIATE")
    }

    fn finish(&self, steps: &[Box<dyn Write>]) -> Committed {
        if self.connection.is_autocommit() {
            return Err(Uncommitted::given_up(steps.iter().any(|step| step.lacked_space())));
        }
        let committed = self.execute("COMMIT");
        if committed.is_err() {
            self.abandon();
        }
        committed
    }

    /// Rolls back the open transaction, if there is one.
    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn execute(&self, sql: &str) -> Committed {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}
