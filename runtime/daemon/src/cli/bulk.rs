//! Many jobs from one file: a line each.
//!
//! The file is read twice: first to see that every line is right, then to enqueue. So a malformed line in its middle
//! doesn't leave half of the jobs behind.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::Path;
use std::time::Duration;

use sandhog_broker::{Broker, Enqueued, Error};
use sandhog_core::id::{JobId, TenantId};
use sandhog_core::job::NewJob;

use super::client::{Client, Route};
use super::console::Console;
use super::enqueue::{Check, JobMaker, check_json};
use super::exit::{Exit, Failure};
use super::render::{self, job::EnqueuedDocument};
use super::wait::{Patience, wait_for_all};

/// Jobs that go to the broker in one call at most.
const BATCH: usize = 1000;
/// Payloads that go to the broker in one call, unless one alone is larger.
const BATCH_BYTES: usize = 8 << 20;
/// A broker that can't be reached is tried again after this, and twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const TRIES: u32 = 5;

/// Enqueues a job for each line of a file.
pub(super) async fn enqueue(
    client: &Client,
    jobs: &JobMaker<'_>,
    file: &Path,
    check: Check,
    patience: Option<Patience>,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut lines = Lines::open(file)?;
    let count = lines.check(check, jobs, console)?;
    lines.rewind()?;
    let Route { tenant, queue, .. } = jobs.route;
    let bar = console.bar(count, "enqueuing");
    let mut enqueued = EnqueuedDocument {
        tenant: tenant.to_string(),
        queue: queue.to_string(),
        ids: Vec::new(),
        duplicates: 0,
    };
    let mut ids: Vec<JobId> = Vec::new();
    while let Some(batch) = lines.batch(jobs)? {
        for (job, answer) in batch.iter().zip(store(&*client.broker, tenant, &batch).await?) {
            let (id, duplicate) = match answer {
                Enqueued::Stored => (job.id, 0),
                Enqueued::Duplicate(holder) => (holder, 1),
                refused @ (Enqueued::TooLarge | Enqueued::Full(_)) => {
                    return Err(super::enqueue::refused(refused));
                }
            };
            enqueued.duplicates += duplicate;
            ids.push(id);
        }
        bar.set_position(ids.len() as u64);
    }
    bar.finish_and_clear();
    enqueued.ids = ids.iter().map(ToString::to_string).collect();
    let stored = render::of(ids.len() as u64, "job");
    console.show(&enqueued, || format!("{stored} enqueued for tenant {tenant}, on queue {queue}"))?;
    match patience {
        Some(patience) => await_all(client, tenant, &ids, patience, console).await,
        None => Ok(Exit::Ok),
    }
}

/// Stores jobs. Where the answer is lost, it is asked for again: the ids are ours, so no job is stored twice.
pub(super) async fn store(
    broker: &dyn Broker,
    tenant: &TenantId,
    jobs: &[NewJob],
) -> Result<Vec<Enqueued>, Failure> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match broker.enqueue(tenant, jobs).await {
            Err(Error::Unavailable { .. }) => tokio::time::sleep(wait).await,
            answer => return Ok(answer?),
        }
        wait *= 2;
    }
    Ok(broker.enqueue(tenant, jobs).await?)
}

async fn await_all(
    client: &Client,
    tenant: &TenantId,
    ids: &[JobId],
    patience: Patience,
    console: &Console,
) -> Result<Exit, Failure> {
    let bar = console.bar(ids.len() as u64, "waiting");
    let (exit, unhappy) = (RefCell::new(Exit::Ok), RefCell::new(0));
    let waited = wait_for_all(&*client.broker, tenant, ids, patience, |job| {
        bar.inc(1);
        let of_job = Exit::of_state(job.state);
        *unhappy.borrow_mut() += u64::from(of_job != Exit::Ok);
        let worst = exit.borrow().and(of_job);
        *exit.borrow_mut() = worst;
    })
    .await;
    bar.finish_and_clear();
    waited?;
    let (exit, unhappy) = (exit.into_inner(), unhappy.into_inner());
    match unhappy {
        0 => console.remark("all succeeded"),
        n => console.complain(&format!("{n} of {} did not succeed", render::of(ids.len() as u64, "job"))),
    }
    Ok(exit)
}

/// The lines of a file.
struct Lines {
    reader: BufReader<File>,
    name: String,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let (file, name) = if path == Path::new("-") {
            (spool(), "standard input".to_owned())
        } else {
            (File::open(path), path.display().to_string())
        };
        let file = file.map_err(|cause| Failure::io(format!("read {name}"), &cause))?;
        Ok(Self { reader: BufReader::new(file), name, number: 0 })
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        self.number = 0;
        self.reader.rewind().map_err(|cause| Failure::io(format!("read {} twice", self.name), &cause))
    }

    /// The next line that isn't blank.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line);
            if read.map_err(|cause| Failure::io(format!("read {}", self.name), &cause))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line.trim_ascii().to_vec()));
            }
        }
    }

    /// Checks every line, and says how many there are.
    fn check(&mut self, check: Check, jobs: &JobMaker<'_>, console: &Console) -> Result<u64, Failure> {
        let spinner = console.spinner("reading");
        let mut count = 0;
        while let Some(line) = self.next()? {
            let of_line = |failure: Failure| {
                failure.at(format!("line {} of {}", self.number, self.name)).help("nothing was enqueued")
            };
            if check == Check::Json {
                check_json(&line).map_err(|problem| {
                    let failure = Failure::new(format!("not JSON: {problem}"));
                    of_line(failure.help("to take lines as they are: --raw"))
                })?;
            }
            jobs.job(line).map_err(of_line)?;
            count += 1;
        }
        spinner.finish_and_clear();
        Ok(count)
    }

    /// The next jobs; none if there are no more.
    fn batch(&mut self, jobs: &JobMaker<'_>) -> Result<Option<Vec<NewJob>>, Failure> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while batch.len() < BATCH && size < BATCH_BYTES {
            let Some(line) = self.next()? else { break };
            size += line.len();
            batch.push(jobs.job(line)?);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// Standard input, kept in a file that has no name, so that it can be read twice.
fn spool() -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    file.rewind()?;
    Ok(file)
}
