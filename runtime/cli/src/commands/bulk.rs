//! Bulk enqueue: one job for each line of a file.
//!
//! The file is read twice: first to check that every line is right, then to enqueue. So a malformed line in its middle
//! doesn't leave half of the jobs behind. If the broker fails half-way, the same file can be enqueued again: the ids of its
//! jobs are made from one id and the number of the line, so jobs that are stored aren't stored a second time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::str::FromStr;

use sandhog_api::{JobAsk, Slug};
use sandhog_broker::Enqueued;
use sandhog_core::budget::Bytes;
use sandhog_core::id::{InvalidName, JobId, TenantId};
use sandhog_core::quota::QueueBounds;
use sandhog_daemon::service::enqueue::{Route, nth_id};
use serde_json::value::RawValue;

use crate::commands::enqueue::{Call, JobKeys, JobMaker, Place, rejected};
use crate::commands::payload::{Check, NotJson};
use crate::commands::wait::{Deadline, wait_for_all};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::{
    self,
    job::{Answer, AnswerDocument},
};

/// Maximum number of jobs that go to the broker in one call.
const BATCH: usize = 1000;
/// Total size, in bytes, at which a call's payloads take no further job; the last of them may pass it.
const BATCH_BYTES: usize = 4 << 20;

/// The source of jobs, and how a line becomes a job.
pub(crate) struct Source<'s> {
    pub(crate) file: &'s Path,
    pub(crate) check: Check,
    /// The id that the jobs' ids are made from.
    pub(crate) seed: JobId,
    /// The place of the unique key in a payload; `None` if the jobs have none.
    pub(crate) key: Option<&'s Pointer>,
    /// The place of the group in a payload; `None` if the jobs have the one that the options name.
    pub(crate) group: Option<&'s Pointer>,
}

/// Enqueues a job for each line of a file.
pub(crate) async fn enqueue(mut call: Call<'_>, source: &Source<'_>) -> Result<Exit, Failure> {
    let mut lines = Lines::open(source)?;
    let count = lines.check(call.jobs, call.console)?;
    lines.rewind()?;
    let mut answers = Vec::new();
    let mut place = call
        .jobs
        .route
        .map(|Route { tenant, queue, .. }| Place { tenant: tenant.clone(), queue: queue.clone() });
    let sent = send(&mut call, &mut lines, count, &mut answers, &mut place).await;
    let Some(place) = place else {
        // Nothing has come of it, so the server has not said whose jobs they would be.
        sent?;
        return Err(Failure::new(format!("there are no jobs in {}", lines.name)));
    };
    let ids: Vec<JobId> =
        answers.iter().filter(|(.., answer)| answer.is_there()).map(|(_, id, _)| *id).collect();
    let duplicates = answers.iter().filter(|(.., answer)| *answer == Answer::Duplicate).count();
    let documents = answers.iter().map(|(line, id, answer)| AnswerDocument {
        line: Some(*line),
        id: id.to_string(),
        answer: *answer,
        problem: None,
    });
    if sent.is_ok() || call.console.format == Format::Json {
        let mut document = call.document(&place, documents.collect());
        document.ids_from = Some(source.seed.to_string());
        let Place { tenant, queue } = &place;
        let stored = output::of((ids.len() - duplicates) as u64, "job");
        let text = format!("{stored} enqueued for tenant {tenant}, on queue {queue}");
        call.console.show(&document, || text)?;
    }
    if duplicates > 0 {
        let lines = output::of(duplicates as u64, "line");
        call.console
            .complain(&format!("nothing was enqueued for {lines}: other jobs hold their unique keys"));
    }
    sent?;
    let first = answers.iter().find(|(.., answer)| *answer == Answer::Duplicate);
    if let Some((_, holder, _)) = first.filter(|_| call.jobs.options.unique.rejects()) {
        return Err(rejected(*holder));
    }
    match call.deadline {
        Some(deadline) => await_all(&call, &place.tenant, &ids, deadline).await,
        None => Ok(Exit::Ok),
    }
}

/// Sends the lines, and notes for each its number, its job or the one that holds its key, and the answer.
async fn send(
    call: &mut Call<'_>,
    lines: &mut Lines<'_>,
    count: u64,
    answers: &mut Vec<(u64, JobId, Answer)>,
    place: &mut Option<Place>,
) -> Result<(), Failure> {
    let seed = lines.source.seed;
    call.console
        .remark(&format!("if this is interrupted, repeat it with --ids {seed}; no job is stored twice"));
    let bar = call.console.bar(count, "enqueuing");
    let mut stored = 0u64;
    while let Some(batch) = lines.batch(call.jobs)? {
        let numbers: Vec<(u64, JobId)> = batch.iter().map(|(line, _)| (*line, nth_id(seed, *line))).collect();
        let jobs: Vec<JobAsk> = batch.into_iter().map(|(_, job)| job).collect();
        let told = match call.enqueue(jobs).await {
            Ok((at, told)) => {
                *place = Some(at);
                told
            }
            Err(error) => {
                let lost = error.slug == Slug::BrokerUnavailable;
                let answer = if lost { Answer::Unknown } else { Answer::Refused };
                answers.extend(numbers.iter().map(|(line, id)| (*line, *id, answer)));
                bar.finish_and_clear();
                let failure = Failure::from(error);
                let sent = output::of(numbers.len() as u64, "job");
                let unknown =
                    if lost { format!(", and of {sent} more it is unknown") } else { String::new() };
                let message = format!("{stored} of {count} jobs are stored{unknown}: {}", failure.message);
                return Err(failure.says(message).help(repeat(seed)));
            }
        };
        let mut refused = None;
        for ((line, id), said) in numbers.into_iter().zip(told) {
            let (id, answer) = match said {
                Ok(Enqueued::Stored) => (id, Answer::Stored),
                Ok(Enqueued::Duplicate(holder)) => (holder, Answer::Duplicate),
                Ok(Enqueued::Replaced(holder)) => (holder, Answer::Replaced),
                Ok(Enqueued::TooLarge | Enqueued::Full(_)) | Err(_) => {
                    refused = refused.or(Some((line, said)));
                    (id, Answer::Refused)
                }
            };
            stored += u64::from(answer == Answer::Stored);
            answers.push((line, id, answer));
        }
        bar.set_position(answers.len() as u64);
        if let Some((line, said)) = refused {
            bar.finish_and_clear();
            let failure = call.jobs.refused(said);
            let message = format!(
                "line {line} of {}: {}; {stored} of {count} jobs are stored",
                lines.name, failure.message
            );
            return Err(failure.says(message).help(repeat(seed)));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn repeat(seed: JobId) -> String {
    format!("repeat the command with --ids {seed}: it stores the rest, and nothing a second time")
}

async fn await_all(
    call: &Call<'_>,
    tenant: &TenantId,
    ids: &[JobId],
    deadline: Deadline,
) -> Result<Exit, Failure> {
    if ids.is_empty() {
        call.console.remark("there is no job to wait for");
        return Ok(Exit::Ok);
    }
    let (exit, unhappy) = (RefCell::new(Exit::Ok), RefCell::new(0));
    wait_for_all(call.client, tenant, ids, deadline, call.console, |job| {
        let of_job = Exit::of_state(job.state);
        *unhappy.borrow_mut() += u64::from(of_job != Exit::Ok);
        let worst = exit.borrow().and(of_job);
        *exit.borrow_mut() = worst;
    })
    .await?;
    let (exit, unhappy) = (exit.into_inner(), unhappy.into_inner());
    match unhappy {
        0 => call.console.remark("all succeeded"),
        n => {
            call.console.complain(&format!("{n} of {} did not succeed", output::of(ids.len() as u64, "job")))
        }
    }
    Ok(exit)
}

/// The lines of a file.
struct Lines<'s> {
    reader: BufReader<File>,
    source: &'s Source<'s>,
    name: String,
    /// Number of the line that was read last; 1 is the first.
    number: u64,
}

impl<'s> Lines<'s> {
    fn open(source: &'s Source<'s>) -> Result<Self, Failure> {
        let file = if source.file == Path::new("-") {
            spool(io::stdin().lock(), "standard input")?
        } else {
            let name = source.file.display().to_string();
            let unread = |cause| Failure::io(format!("read {name}"), &cause);
            let file = File::open(source.file).map_err(unread)?;
            let kind = file.metadata().map_err(unread)?.file_type();
            // A pipe can be read only once.
            if kind.is_file() || kind.is_dir() { file } else { spool(file, &name)? }
        };
        let name = match source.file.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => source.file.display().to_string(),
        };
        Ok(Self { reader: BufReader::new(file), source, name, number: 0 })
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        self.number = 0;
        self.reader.rewind().map_err(|cause| Failure::io(format!("read {} twice", self.name), &cause))
    }

    /// Reads the next line that isn't blank, without its line ending.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let most = QueueBounds::PAYLOAD_MAX;
        loop {
            let mut line = Vec::new();
            let read = self.reader.by_ref().take(most.0 + 2).read_until(b'\n', &mut line);
            if read.map_err(|cause| Failure::io(format!("read {}", self.name), &cause))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let end = line.trim_ascii_end().len();
            let blank = end == 0;
            let ended = line.iter().rev().take_while(|byte| b"\r\n".contains(byte)).count();
            line.truncate(line.len() - ended);
            if Bytes::of(line.len()) > most {
                return Err(
                    self.wrong(Failure::new(format!("it is larger than {most}, and no payload may be")))
                );
            }
            if !blank {
                return Ok(Some(line));
            }
        }
    }

    /// Reads the next line's job, with the line's number.
    fn job(&mut self, jobs: &JobMaker<'_>) -> Result<Option<(u64, JobAsk)>, Failure> {
        let Some(line) = self.line()? else { return Ok(None) };
        let payload = self.source.check.payload(line).map_err(|NotJson { problem, place }| {
            let place = place.map(|(_, column)| format!(" at column {column}")).unwrap_or_default();
            self.wrong(
                Failure::new(format!("not JSON: {problem}{place}")).help("to take lines as they are: --raw"),
            )
        })?;
        let wrong = |problem| self.wrong(Failure::new(problem));
        let unique_key =
            self.source.key.map(|at| at.key("unique key", &payload)).transpose().map_err(wrong)?;
        let group = self.source.group.map(|at| at.key("group", &payload)).transpose().map_err(wrong)?;
        let keys = JobKeys { unique_key: unique_key.flatten(), group: group.flatten() };
        let job = jobs.job(nth_id(self.source.seed, self.number), payload, keys);
        Ok(Some((self.number, job.map_err(|failure| self.wrong(failure))?)))
    }

    fn wrong(&self, failure: Failure) -> Failure {
        failure.at(format!("line {} of {}", self.number, self.name))
    }

    /// Checks every line. Returns the number of jobs.
    fn check(&mut self, jobs: &JobMaker<'_>, console: &Console) -> Result<u64, Failure> {
        let spinner = console.spinner("reading");
        let mut count = 0;
        while self.job(jobs).map_err(|failure| failure.help("nothing was enqueued"))?.is_some() {
            count += 1;
        }
        spinner.finish_and_clear();
        Ok(count)
    }

    /// Reads the next jobs; `None` if there are no more.
    fn batch(&mut self, jobs: &JobMaker<'_>) -> Result<Option<Vec<(u64, JobAsk)>>, Failure> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while batch.len() < BATCH && size < BATCH_BYTES {
            let Some((line, job)) = self.job(jobs)? else { break };
            size += job.text.as_ref().or(job.hex.as_ref()).map_or(0, String::len);
            batch.push((line, job));
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// Copies all of `from` to a temporary file without a name, so that it can be read twice.
fn spool(mut from: impl Read, name: &str) -> Result<File, Failure> {
    let unkept = |cause: io::Error| {
        let folder = std::env::temp_dir();
        let what = format!("keep {name} in a temporary file in {}", folder.display());
        Failure::io(what, &cause).help("TMPDIR names another folder")
    };
    let mut file = tempfile::tempfile().map_err(unkept)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => file.write_all(&piece[..length]).map_err(unkept)?,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(Failure::io(format!("read {name}"), &cause)),
        }
    }
    file.rewind().map_err(unkept)?;
    Ok(file)
}

/// A JSON pointer (RFC 6901), such as `/order/id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl FromStr for Pointer {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let steps = text.strip_prefix('/').ok_or("a JSON pointer begins with a slash: /order/id")?;
        let steps = steps.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text: text.to_owned(), steps })
    }
}

impl Pointer {
    /// Returns the key at this place of a payload: a text, or a number to the digit; `None` if it is null. `what` names the key
    /// in errors.
    pub(crate) fn key<K: FromStr<Err = InvalidName>>(
        &self,
        what: &str,
        payload: &[u8],
    ) -> Result<Option<K>, String> {
        let Self { text, steps } = self;
        let nothing = || format!("there is nothing at {text} for a {what}");
        let mut value: &RawValue = serde_json::from_slice(payload).map_err(|_| nothing())?;
        for step in steps {
            value = inside(value, step).ok_or_else(nothing)?;
        }
        let key = match value.get().as_bytes().first() {
            Some(b'n') => return Ok(None),
            Some(b'"') => serde_json::from_str::<String>(value.get()).map_err(|_| nothing())?,
            Some(b'-' | b'0'..=b'9') => value.get().to_owned(),
            _ => return Err(format!("what is at {text} is neither a text nor a number, so no {what}")),
        };
        // The error must not show the payload.
        let refuse = |error: InvalidName| format!("what is at {text} is no {what}: {}", error.rule);
        key.parse().map(Some).map_err(refuse)
    }
}

fn inside<'v>(value: &'v RawValue, step: &str) -> Option<&'v RawValue> {
    match value.get().as_bytes().first()? {
        b'{' => serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()).ok()?.remove(step),
        b'[' => {
            let place = step.parse::<usize>().ok().filter(|place| place.to_string() == step)?;
            serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(place).copied()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::id::UniqueKey;

    use sandhog_core::time::Timestamp;

    use super::*;

    #[test]
    fn ids_depend_on_the_seed_and_the_line_alone() {
        let seed = |random| JobId::from_parts(Timestamp::from_millis(1_795_543_200_000), random);
        assert_eq!(nth_id(seed(1), 7), nth_id(seed(1), 7));
        let ids = [nth_id(seed(1), 7), nth_id(seed(1), 8), nth_id(seed(2), 7), seed(1)];
        assert!(ids.iter().enumerate().all(|(n, id)| !ids[..n].contains(id)), "{ids:?}");
        assert!(ids.iter().all(|id| id.to_string()[..10] == seed(1).to_string()[..10]), "one time: {ids:?}");
    }

    #[test]
    fn a_unique_key_is_found_by_its_pointer() {
        let key = |pointer: &str, payload: &str| {
            let pointer: Pointer = pointer.parse().expect("a pointer");
            let key = pointer.key::<UniqueKey>("unique key", payload.as_bytes());
            key.map(|key| key.map(|key| key.to_string()))
        };
        let payload = r#"{"a": {"b/c": ["x", 18446744073709551617]}, "n": null, "t": true, "e": ""}"#;
        assert_eq!(key("/a/b~1c/0", payload), Ok(Some("x".into())));
        assert_eq!(key("/a/b~1c/1", payload), Ok(Some("18446744073709551617".into())));
        assert_eq!(key("/n", payload), Ok(None));
        for wrong in ["/t", "/e", "/a/b", "/a/b~1c/2", "/a/b~1c/00", "/a"] {
            assert!(key(wrong, payload).is_err_and(|told| told.contains(wrong)), "{wrong}");
        }
        assert!("order".parse::<Pointer>().is_err());
    }
}
