//! The process' log writer: a line that is logged goes into a bounded queue, and a thread of its own writes it.
//!
//! Logging never waits, never fails and never panics. A line that can't be written (the reader is gone, the disk is full),
//! or for which the queue has no room (the reader doesn't keep up), is dropped and counted. The next lines that can be
//! written again are followed by one that tells how many were lost.
//!
//! Log text may be a guest's words. None of them ends a line or commands a terminal: each character that could is shown by its
//! escape, as `sandhog_core::text` has it.
//!
//! ```text
//! tracing ──> LogWriter ──> queue, QUEUE_MAX bytes ──> thread `log` ──> standard error
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sandhog_core::text::{self, OneLine};
use tracing::field::Field;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;

/// Maximum memory of lines that wait to be written, in bytes; further lines are dropped.
const QUEUE_MAX: usize = 1 << 20;

/// Memory that a line takes in the queue besides its text, in bytes, so that many short ones are bounded, too.
const LINE_OVERHEAD: usize = 64;

/// The log. When it is dropped, the lines that wait in the queue are written, unless that takes too long.
#[derive(Debug)]
pub struct Log {
    queue: Arc<Queue>,
    flush_limit: FlushLimit,
}

/// Maximum time that the end of the process waits for lines that can't be written just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushLimit {
    /// No limit: until they are written, as somebody at a terminal expects of a command.
    Unlimited,
    /// This long at most. A daemon has to end, whether anybody reads its log or not.
    Limited(Duration),
}

impl FlushLimit {
    /// The limit for a daemon: one second.
    pub const DAEMON: Self = Self::Limited(Duration::from_secs(1));
}

/// Writer for `tracing`. Each write is one line, and always succeeds.
#[derive(Debug, Clone)]
pub struct LogWriter {
    queue: Arc<Queue>,
    form: Form,
}

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Text whose fields are written by [`write_field`].
    Text,
    /// A JSON document.
    Json,
}

/// Writes a field of a line of text, or its message, so that its value can't end the line or pass for anything else.
///
/// # Errors
/// The writer failed.
pub fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        name => write!(writer, "{name}=")?,
    }
    fmt::Write::write_fmt(&mut OneLine(writer), format_args!("{value:?}"))
}

#[derive(Debug, Default)]
struct Queue {
    lines: Mutex<Lines>,
    /// Notified when there are lines to write.
    filled: Condvar,
    /// Notified when all lines are written, or dropped.
    drained: Condvar,
    /// Id of the thread that writes; it alone sets it.
    writer: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Memory of the waiting lines and those being written, in bytes; see [`LINE_OVERHEAD`].
    bytes: usize,
    /// Whether the thread has taken lines that it hasn't written yet.
    writing: bool,
    /// Number of lines that were dropped since that was last told.
    lost: u64,
}

impl Log {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// The thread couldn't be started, or there could be no further handle of standard error.
    pub fn to_stderr(flush_limit: FlushLimit) -> io::Result<Self> {
        // Not the handle of the standard library, whose lock would be held while a write takes its time.
        Self::start(io::stderr().as_fd().try_clone_to_owned()?, flush_limit)
    }

    fn start(out: OwnedFd, flush_limit: FlushLimit) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let sink = Sink { out: File::from(out), torn: false };
        let of_thread = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write_to(sink))?;
        Ok(Self { queue, flush_limit })
    }

    /// Returns a writer for `tracing`'s lines of text, with [`write_field`] for their fields.
    #[must_use]
    pub fn writer(&self) -> LogWriter {
        LogWriter { queue: Arc::clone(&self.queue), form: Form::Text }
    }

    /// Returns a writer for `tracing`'s JSON documents.
    #[must_use]
    pub fn json_writer(&self) -> LogWriter {
        LogWriter { queue: Arc::clone(&self.queue), form: Form::Json }
    }

    /// Writes text that is no log line, after all that was logged. It isn't dropped for want of room.
    pub fn say(&self, text: &str) {
        self.queue.push(format!("{text}\n").into_bytes(), Room::Made);
    }

    /// Logs panics of any thread. Otherwise they are written to standard error, which may make that thread wait for ever.
    pub fn report_panics(&self) {
        panic::set_hook(Box::new(log_panic));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.wait_until_drained(self.flush_limit);
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(thread, place, message, "a thread has panicked, which is a bug");
}

/// Whether a line is taken even if there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Needed,
    Made,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Each change of the lines was made whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>, room: Room) {
        let size = size_of_line(&line);
        let mut lines = self.lines();
        if room == Room::Needed && lines.bytes.saturating_add(size) > QUEUE_MAX {
            lines.lost = lines.lost.saturating_add(1);
            return;
        }
        lines.bytes = lines.bytes.saturating_add(size);
        lines.waiting.push_back(line);
        drop(lines);
        self.filled.notify_one();
    }

    /// Writes lines to the sink, for ever.
    fn write_to(&self, mut sink: Sink) {
        // Nobody else sets it.
        let _ = self.writer.set(thread::current().id());
        loop {
            let batch = self.take();
            let bytes: usize = batch.iter().map(|line| size_of_line(line)).sum();
            let written = batch.iter().filter(|line| sink.write(line).is_ok()).count();
            let failed = batch.len() - written;
            let told = self.written(bytes, written, failed);
            if told > 0 {
                tracing::warn!(
                    lost = told,
                    "log lines were lost, as standard error could not be written, or not fast enough"
                );
            }
        }
    }

    /// Waits for lines, and takes all of them.
    fn take(&self) -> VecDeque<Vec<u8>> {
        let mut lines = self.lines();
        loop {
            if !lines.waiting.is_empty() {
                lines.writing = true;
                return std::mem::take(&mut lines.waiting);
            }
            lines.writing = false;
            self.drained.notify_all();
            lines = self.filled.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Releases the memory of lines that are done with. Returns how many lost ones are to be told of now: 0 while nothing can
    /// be written.
    fn written(&self, bytes: usize, written: usize, failed: usize) -> u64 {
        let mut lines = self.lines();
        lines.bytes = lines.bytes.saturating_sub(bytes);
        lines.lost = lines.lost.saturating_add(u64::try_from(failed).unwrap_or(u64::MAX));
        if written == 0 { 0 } else { std::mem::take(&mut lines.lost) }
    }

    fn wait_until_drained(&self, flush_limit: FlushLimit) {
        let until = match flush_limit {
            FlushLimit::Unlimited => None,
            FlushLimit::Limited(flush_limit) => Instant::now().checked_add(flush_limit),
        };
        let mut lines = self.lines();
        while lines.writing || !lines.waiting.is_empty() {
            lines = match until {
                None => self.drained.wait(lines).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    self.drained.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

fn size_of_line(line: &[u8]) -> usize {
    line.len().saturating_add(LINE_OVERHEAD)
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The writer's own lines, about those that were lost, come one at a time, so they need no bound.
        let by_writer = self.queue.writer.get() == Some(&thread::current().id());
        let shown = match self.form {
            Form::Text => line.to_vec(),
            Form::Json => text::json(&String::from_utf8_lossy(line)).into_owned().into_bytes(),
        };
        self.queue.push(shown, if by_writer { Room::Made } else { Room::Needed });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Destination of log lines.
struct Sink {
    out: File,
    /// Whether the last line was written in part only.
    torn: bool,
}

impl Sink {
    /// Writes a line, however long that takes.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n").map_err(|(cause, _)| cause)?;
        }
        let written = self.write_all(line);
        self.torn = matches!(written, Err((_, 1..)));
        written.map_err(|(cause, _)| cause)
    }

    /// Writes all of it, or returns the error and how many bytes were written.
    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), (io::Error, usize)> {
        let all = bytes.len();
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err((ErrorKind::WriteZero.into(), all - bytes.len())),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the pipe or terminal with us has told it not to let writers wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(&self.out, PollFlags::OUT)];
                    match poll(&mut ready, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(cause) => return Err((cause.into(), all - bytes.len())),
                    }
                }
                Err(error) => return Err((error, all - bytes.len())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader};

    use super::*;

    fn on_pipe(flush_limit: FlushLimit) -> (PipeReader, Log) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (reader, Log::start(writer.into(), flush_limit).expect("a thread"))
    }

    fn log_lines(log: &Log, lines: impl Iterator<Item = String>) {
        let mut writer = log.writer();
        lines.for_each(|line| writer.write_all(line.as_bytes()).expect("it never fails"));
    }

    #[test]
    fn lines_come_out_in_their_order_and_what_is_said_comes_last() {
        let (reader, log) = on_pipe(FlushLimit::Unlimited);
        log_lines(&log, (0..1000).map(|n| format!("{n}\n")));
        log.say("error: no");
        let expected = (0..1000).map(|n| n.to_string()).chain(["error: no".to_owned()]);
        let lines = BufReader::new(reader).lines().map(|line| line.expect("text"));
        assert!(lines.take(1001).eq(expected));
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_counted_and_keeps_nobody() {
        let (_reader, log) = on_pipe(FlushLimit::Limited(Duration::from_millis(1)));
        // Far more than the pipe and the queue hold.
        log_lines(&log, (0..100_000).map(|n| format!("{n:0>99}\n")));
        let Lines { bytes, lost, .. } = *log.queue.lines();
        assert!(bytes <= QUEUE_MAX && lost > 80_000, "{bytes} bytes, {lost} lost");
    }

    #[test]
    fn what_a_full_disk_refuses_is_counted() {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let log = Log::start(full.into(), FlushLimit::Unlimited).expect("a thread");
        log_lines(&log, (0..100).map(|n| format!("{n}\n")));
        log.queue.wait_until_drained(FlushLimit::Unlimited);
        let Lines { bytes, lost, .. } = *log.queue.lines();
        assert_eq!((bytes, lost), (0, 100));
    }

    #[test]
    fn a_line_after_a_torn_one_begins_a_line_of_its_own() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut sink = Sink { out: File::from(OwnedFd::from(writer)), torn: true };
        sink.write(b"next\n").expect("there is room");
        drop(sink);
        assert_eq!(io::read_to_string(reader).expect("text"), "\nnext\n");
    }
}
