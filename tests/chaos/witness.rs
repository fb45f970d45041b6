//! Sees guests begin and end: each asks for something, and is under way for as long as the answer takes.
//!
//! That a daemon has too many runs under way is only noted if it stays so: a run that was stopped is seen to have ended
//! when its connection closes, which may be later than the beginning of the run that follows it. So while there seem to be
//! too many, no answer ends; if they are as many as it seems, they stay so.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::check::Limits;
use crate::history::{Event, History, Run};

/// Within this time a run that was stopped is seen to have ended, also on a busy machine, and of a daemon that is held for
/// a while.
const PATIENCE: Duration = Duration::from_secs(8);

/// The server. It ends with its value.
#[derive(Debug)]
pub(crate) struct Witness {
    port: u16,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Watch {
    history: Arc<History>,
    limits: Limits,
    numbers: AtomicU64,
    under_way: Mutex<Vec<Open>>,
    changed: Notify,
    /// So many have been under way at the same time.
    together: AtomicUsize,
}

/// A run whose answer isn't over.
#[derive(Debug)]
struct Open {
    run: Run,
    /// Whether it waits until so many do.
    until: Option<usize>,
}

impl Witness {
    /// Starts to watch.
    ///
    /// # Panics
    /// If there is no port.
    pub(crate) async fn start(history: Arc<History>, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let watch = Arc::new(Watch {
            history,
            limits,
            numbers: AtomicU64::default(),
            under_way: Mutex::default(),
            changed: Notify::new(),
            together: AtomicUsize::default(),
        });
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever asked may be gone before the answer is out.
                let watch = Arc::clone(&watch);
                tokio::spawn(async move { watch.serve(stream).await.ok() });
            }
        });
        Self { port, serving }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Watch {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let Some((run, hold)) = self.asked(&mut stream).await? else { return Ok(()) };
        let until = hold.strip_prefix("until-").and_then(|runs| runs.parse().ok());
        self.open().push(Open { run: run.clone(), until });
        self.changed.notify_waiters();
        // The end of the connection, at any time, is the end of the run.
        let mut rest = [0; 16];
        let (mut input, output) = tokio::io::split(stream);
        tokio::select! {
            answered = self.answer(&run, &hold, output) => answered?,
            _ = input.read(&mut rest) => {}
        }
        self.ended(&run);
        Ok(())
    }

    /// Which run it is, and how long its answer is to take.
    async fn asked(&self, stream: &mut BufReader<TcpStream>) -> io::Result<Option<(Run, String)>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(None);
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let [_, daemon, tenant, job, attempt, hold] = path.split('/').collect::<Vec<_>>()[..] else {
            return Ok(None);
        };
        let run = Run {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            daemon: daemon.to_owned(),
            tenant: tenant.to_owned(),
            job: job.to_owned(),
            attempt: attempt.parse().unwrap_or_default(),
        };
        Ok(Some((run, hold.to_owned())))
    }

    async fn answer(&self, run: &Run, hold: &str, mut stream: impl AsyncWriteExt + Unpin) -> io::Result<()> {
        // Too many for longer than that are too many.
        timeout(PATIENCE, self.until(|open| self.fits(open, &run.daemon))).await.ok();
        self.history.note(Event::Began(run.clone()));
        let name = format!("run-{}\n", run.number);
        stream.write_all(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{name}").as_bytes()).await?;
        match hold.strip_prefix("until-").and_then(|runs| runs.parse::<usize>().ok()) {
            Some(runs) => {
                // Who looks late finds some of them gone, so the most there were is what counts.
                let met = |open: &[Open]| {
                    let waiting = open.iter().filter(|other| other.until == Some(runs)).count();
                    self.together.fetch_max(waiting, Ordering::SeqCst).max(waiting) >= runs
                };
                self.until(met).await;
            }
            None if hold == "hang" && run.attempt == 1 => std::future::pending().await,
            None => sleep(Duration::from_millis(hold.parse().unwrap_or_default())).await,
        }
        timeout(PATIENCE, self.until(|open| self.fits(open, &run.daemon))).await.ok();
        self.ended(run);
        stream.write_all(b"over\n").await?;
        stream.shutdown().await
    }

    /// Whether the runs of a daemon are within its limits.
    fn fits(&self, open: &[Open], daemon: &str) -> bool {
        let of_daemon = || open.iter().filter(|other| other.run.daemon == daemon);
        let fits = |(tenant, limit): &(&str, usize)| {
            of_daemon().filter(|other| other.run.tenant == *tenant).count() <= *limit
        };
        of_daemon().count() <= self.limits.daemon && self.limits.tenants.iter().all(fits)
    }

    /// Notes the end of a run, once.
    fn ended(&self, run: &Run) {
        let mut open = self.open();
        if let Some(nth) = open.iter().position(|other| other.run.number == run.number) {
            open.remove(nth);
            self.history.note(Event::Ended { run: run.number });
            drop(open);
            self.changed.notify_waiters();
        }
    }

    async fn until(&self, holds: impl Fn(&[Open]) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(&self.open()) {
                return;
            }
            changed.await;
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
