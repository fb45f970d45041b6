//! One thread that writes, one that reads. SQLite blocks, and lets only one write at a time; so calls queue up for the
//! writer, and whatever has queued up while it was busy shares one commit.
//!
//! ```text
//! call ─┐
//! call ─┼─> BEGIN ─> step, step, step (a savepoint each) ─> COMMIT, on the disk ─> wakes ─> reply, reply, reply
//! call ─┘
//! ```
//!
//! Not every step has to be on the disk before it is answered: see [`Flush`]. A group with none that has isn't flushed,
//! and the flush of a later one takes it along.
//!
//! A step that fails, or panics, takes back its own changes and nobody else's. If the commit fails, or SQLite had to give up the
//! whole transaction for want of space, none of the steps has happened, and each caller is told so.
//!
//! Between groups, the thread that writes does a step of the file's [`Upkeep`] when one is due.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::{Fault, Result as Step};
use super::upkeep::Upkeep;
use crate::{Error, Result, Wake};

/// Steps that share a commit at most, so that none waits long for those behind it, and other processes get their turn.
const GROUP_MAX: usize = 256;

/// A look of the reader.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Whether a step has to be on the disk before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// It outlives a power cut.
    Now,
    /// It outlives the process, as the operating system has it. Enough for leases: whoever holds one is on this
    /// machine, and falls with it.
    Later,
}

/// A step of the writer, and somebody who waits for it.
pub(super) trait Write: Send {
    fn flush(&self) -> Flush;

    /// Does the step, within a transaction that isn't committed yet. Yields the news that it makes.
    fn run(&mut self, connection: &Connection) -> Option<Wake>;

    /// Answers, now that it is known whether the transaction was committed.
    fn answer(self: Box<Self>, committed: std::result::Result<(), String>);
}

struct Pending<T, F> {
    what: &'static str,
    flush: Flush,
    step: Option<F>,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// What a thread is told.
enum Order<C> {
    Do(C),
    /// Nothing that comes after this is done.
    End,
}

/// A thread with a connection of its own, and the way to it. It ends when this is closed or dropped, after what was
/// asked before.
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
        // A thread that has ended hears nothing, and needn't.
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

/// The last connection to be closed merges the log into the file, so whoever copies the file then has all of it.
fn close(connection: Connection) {
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed in good order; its log stays beside it, and is read with it");
    }
}

impl Worker<Read> {
    /// A thread that only looks.
    pub(super) fn reader(connection: Connection) -> Result<Self> {
        Self::start("sandhog-read", move |orders| {
            while let Ok(Order::Do(read)) = orders.recv() {
                let read: Read = read;
                read(&connection);
            }
            close(connection);
        })
    }

    /// Looks at what is committed, all of it at the same point in time.
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
                // Whoever asked may have gone; a look changes nothing.
                let _unheard = reply.send(found.map_err(|fault| fault.during(what)));
            })
        })
        .await
    }
}

impl Worker<Box<dyn Write>> {
    /// A thread that writes, and tells of news when they are committed.
    pub(super) fn writer(
        connection: Connection,
        mut upkeep: Upkeep,
        tell: impl Fn(&BTreeSet<Wake>) + Send + 'static,
    ) -> Result<Self> {
        Self::start("sandhog-write", move |orders| {
            let mut writer = Writer { connection, flush: None, tell };
            let mut queue = Queue { orders, ended: false };
            while let Some(mut group) = queue.next(upkeep.due()) {
                if !group.is_empty() {
                    upkeep.committed();
                }
                while !group.is_empty() {
                    if catch_unwind(AssertUnwindSafe(|| writer.commit(&mut group))).is_err() {
                        // Not in a step, so it is open whose it was. None of the group gets an answer.
                        group.clear();
                        writer.abandon();
                    }
                }
                upkeep.step(&mut writer.connection);
            }
            close(writer.connection);
        })
    }

    /// Does a step, whole or not at all. The step yields its answer, and its news.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        flush: Flush,
        step: impl FnOnce(&Connection) -> Step<(T, Option<Wake>)> + Send + 'static,
    ) -> Result<T> {
        self.call(what, |reply| Box::new(Pending { what, flush, step: Some(step), done: None, reply })).await
    }
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Step<(T, Option<Wake>)> + Send,
{
    fn flush(&self) -> Flush {
        self.flush
    }

    fn run(&mut self, connection: &Connection) -> Option<Wake> {
        let step = self.step.take()?;
        let (done, news) = match in_savepoint(connection, step) {
            Ok((answer, news)) => (Ok(answer), news),
            Err(fault) => (Err(fault.during(self.what)), None),
        };
        self.done = Some(done);
        news
    }

    fn answer(self: Box<Self>, committed: std::result::Result<(), String>) {
        let unavailable = |cause| Err(Error::Unavailable { what: self.what, cause });
        let answer = match (self.done, committed) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(answer)), Ok(())) => Ok(answer),
            (_, Err(cause)) => unavailable(cause),
            (None, Ok(())) => unavailable("it was not run".to_owned()),
        };
        // Whoever asked may have gone; what was asked for is done all the same.
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

/// A panic is the end of the step that it is in alone: the thread goes on, as all others need it. The process's panic
/// hook has said where it was.
fn caught<T>(step: impl FnOnce() -> Step<T>) -> Step<T> {
    // What a step has changed outside of the database goes with it.
    catch_unwind(AssertUnwindSafe(step)).unwrap_or(Err(Fault::Panicked))
}

/// What the thread that writes is asked for.
struct Queue<C> {
    orders: Receiver<Order<C>>,
    ended: bool,
}

impl<C> Queue<C> {
    /// Waits for a call, and takes those that have queued up behind it along. Without any, if none comes until then;
    /// `None` at the end.
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

/// What the thread that writes has.
struct Writer<F> {
    connection: Connection,
    /// What the connection is set to.
    flush: Option<Flush>,
    tell: F,
}

impl<F: Fn(&BTreeSet<Wake>)> Writer<F> {
    /// Runs steps in one transaction, until there are no more or SQLite has given it up.
    fn commit(&mut self, steps: &mut VecDeque<Box<dyn Write>>) {
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
        let committed = begun.and_then(|()| self.finish());
        if committed.is_ok() {
            (self.tell)(&news);
        }
        taken.into_iter().for_each(|step| step.answer(committed.clone()));
    }

    fn begin(&mut self, steps: &VecDeque<Box<dyn Write>>) -> std::result::Result<(), String> {
        let flush =
            if steps.iter().any(|step| step.flush() == Flush::Now) { Flush::Now } else { Flush::Later };
        if self.flush != Some(flush) {
            let level = match flush {
                Flush::Now => "full",
                Flush::Later => "normal",
            };
            self.connection.pragma_update(None, "synchronous", level).map_err(|error| error.to_string())?;
            self.flush = Some(flush);
        }
        self.execute("BEGIN IMMEDIATE")
    }

    fn finish(&self) -> std::result::Result<(), String> {
        if self.connection.is_autocommit() {
            return Err("the transaction was rolled back, as a step of it had failed".to_owned());
        }
        let committed = self.execute("COMMIT");
        if committed.is_err() {
            self.abandon();
        }
        committed
    }

    /// Rolls back what is open.
    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    fn execute(&self, sql: &str) -> std::result::Result<(), String> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        done.map(drop).map_err(|error| error.to_string())
    }
}
