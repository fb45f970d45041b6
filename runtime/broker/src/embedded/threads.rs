//! One thread that writes, one that reads. SQLite blocks, and lets only one write at a time; so calls queue up for the
//! writer, and whatever has queued up while it was busy shares one commit.
//!
//! ```text
//! call ─┐
//! call ─┼─> BEGIN ─> step, step, step (a savepoint each) ─> COMMIT, on the disk ─> wakes ─> reply, reply, reply
//! call ─┘
//! ```
//!
//! A step that fails takes back its own changes and nobody else's. If the commit fails, or SQLite had to give up the
//! whole transaction for want of space, none of the steps has happened, and each caller is told so.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use sandhog_core::id::TenantId;
use tokio::sync::oneshot;

use super::fault::{Fault, Result as Step};
use crate::{Error, Result};

/// Steps that share a commit at most, so that none waits long for those behind it, and other processes get their turn.
const GROUP_MAX: usize = 256;

/// A look of the reader.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A step of the writer, and somebody who waits for it.
pub(super) trait Write: Send {
    /// Does the step, within a transaction that isn't committed yet. Yields the tenant that has news.
    fn run(&mut self, connection: &Connection) -> Option<TenantId>;

    /// Answers, now that it is known whether the transaction was committed.
    fn answer(self: Box<Self>, committed: std::result::Result<(), String>);
}

struct Pending<T, F> {
    what: &'static str,
    step: Option<F>,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// A thread with a connection of its own, and the way to it. It ends when this is dropped, after what was asked before.
pub(super) struct Worker<C> {
    calls: Option<Sender<C>>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Worker<C> {
    fn start(name: &str, run: impl FnOnce(Receiver<C>) + Send + 'static) -> Result<Self> {
        let (calls, received) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(received))
            .map_err(|error| Error::Unavailable { what: "starting a thread", cause: error.to_string() })?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    async fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce(oneshot::Sender<Result<T>>) -> C,
    ) -> Result<T> {
        let gone = || Error::Unavailable { what, cause: "the thread of the database has ended".to_owned() };
        let (reply, replied) = oneshot::channel();
        let calls = self.calls.as_ref().ok_or_else(gone)?;
        calls.send(call(reply)).map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }
}

impl<C> Drop for Worker<C> {
    fn drop(&mut self) {
        drop(self.calls.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the database has panicked, which is a bug");
        }
    }
}

impl Worker<Read> {
    /// A thread that only looks.
    pub(super) fn reader(connection: Connection) -> Result<Self> {
        Self::start("sandhog-read", move |calls| calls.into_iter().for_each(|read: Read| read(&connection)))
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
                    .and_then(|_open| look(connection));
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
        tell: impl Fn(&BTreeSet<TenantId>) + Send + 'static,
    ) -> Result<Self> {
        Self::start("sandhog-write", move |calls| {
            while let Ok(first) = calls.recv() {
                let mut group = std::iter::once(first).chain(calls.try_iter()).take(GROUP_MAX);
                while let Some(write) = group.next() {
                    commit(&connection, std::iter::once(write).chain(group.by_ref()), &tell);
                }
            }
        })
    }

    /// Does a step, whole or not at all; it is on the disk when this returns. The step yields its answer, and the
    /// tenant that has news.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        step: impl FnOnce(&Connection) -> Step<(T, Option<TenantId>)> + Send + 'static,
    ) -> Result<T> {
        self.call(what, |reply| Box::new(Pending { what, step: Some(step), done: None, reply })).await
    }
}

impl<T, F> Write for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Step<(T, Option<TenantId>)> + Send,
{
    fn run(&mut self, connection: &Connection) -> Option<TenantId> {
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
    let done = step(connection);
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

/// Runs steps in one transaction, until there are no more or SQLite has given it up.
fn commit(
    connection: &Connection,
    steps: impl Iterator<Item = Box<dyn Write>>,
    tell: impl Fn(&BTreeSet<TenantId>),
) {
    let mut taken = Vec::new();
    let mut news = BTreeSet::new();
    let begun = execute(connection, "BEGIN IMMEDIATE");
    for mut step in steps {
        if begun.is_ok() {
            news.extend(step.run(connection));
        }
        taken.push(step);
        if begun.is_ok() && connection.is_autocommit() {
            break;
        }
    }
    let committed = begun.and_then(|()| finish(connection));
    if committed.is_ok() {
        tell(&news);
    }
    taken.into_iter().for_each(|step| step.answer(committed.clone()));
}

fn finish(connection: &Connection) -> std::result::Result<(), String> {
    if connection.is_autocommit() {
        return Err("the transaction was rolled back, as a step of it had failed".to_owned());
    }
    let committed = execute(connection, "COMMIT");
    if committed.is_err()
        && !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::error!(%error, "a transaction could neither be committed nor rolled back");
    }
    committed
}

fn execute(connection: &Connection, sql: &str) -> std::result::Result<(), String> {
    let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|error| error.to_string())
}
