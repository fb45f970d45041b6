//! Log of one run: its handler's log lines, and what it writes to stdout and stderr, within the log limit.
//!
//! Lines past the limit are dropped and counted; a last line says how many. A run that goes on and on, far past the limit, is
//! ended for it: even a line that is dropped costs the host something. Secrets that the plugin is granted are redacted in all
//! of it.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::budget::Bytes;
use sandhog_core::job::Level;

use crate::host::Host;
use crate::redactor::Redactor;

/// Bytes that a line counts beside its text, and a field beside its name and value, so that empty ones aren't endless.
const LINE: u64 = 32;
const FIELD: u64 = 16;

/// Number of times its log limit that a run may try to write before it is ended.
pub(crate) const PATIENCE: u64 = 16;

/// Minimum number of bytes that a run may try to write before it is ended, however small its log limit.
const PATIENCE_MIN: u64 = 1 << 20;

/// Maximum length of a line that is made of stdout or stderr, in bytes; a longer one is broken.
const LINE_MAX: usize = 8 * 1024;

/// Error of a run that wrote far more than its log limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("logged without end")]
pub(crate) struct WithoutEnd;

/// Standard stream of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn level(self) -> Level {
        match self {
            Self::Out => Level::Info,
            Self::Err => Level::Warn,
        }
    }
}

/// Remark: a line of the host's own that a run's log has at most once, however often there is cause for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Remark {
    /// A secret isn't granted.
    Secrets,
    /// The code of a failure isn't valid.
    FailureCode,
    /// The name of a downstream isn't valid.
    Downstream,
    /// Directories aren't granted.
    Directories,
    /// Sockets are granted to nobody.
    Sockets,
    /// A request to a host that isn't granted.
    Http,
    /// A host resolves to an address that is out of bounds.
    HttpAddress,
    /// The limit `limits.http_connections` was exceeded; the next two are for `limits.http_bytes` and `limits.http_timeout`.
    HttpConnections,
    HttpBytes,
    HttpTimeout,
    /// A write to a directory that is granted for reading.
    ReadOnly,
    /// A directory's quota was exceeded.
    Quota,
    /// The limit `limits.open_files` was exceeded.
    OpenFiles,
    /// Something that is neither a file nor a directory was to be opened.
    NotAFile,
    /// A directory of too many entries was to be listed.
    Listing,
    /// A call of the file system took too long.
    FileTime,
    /// A path leads out of its directory.
    PathOutside,
    /// A name of a file isn't text.
    FileName,
    /// A host's name can't be looked up.
    HttpName,
    /// A host's certificate isn't trusted.
    HttpCertificate,
    /// The head of a response is too large.
    HttpHead,
}

/// Log of one run, shared by all that write to it.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<Inner>);

struct Inner {
    host: Arc<dyn Host>,
    max: Bytes,
    redactor: Option<Arc<Redactor>>,
    /// Remarks that were made, a bit each.
    remarked: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: u64,
    tried: u64,
    dropped: u64,
    /// Beginning of a line whose end hasn't come yet, of each stream.
    out: Vec<u8>,
    err: Vec<u8>,
}

impl State {
    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }
}

impl RunLog {
    pub(crate) fn new(host: Arc<dyn Host>, max: Bytes, redactor: Option<Arc<Redactor>>) -> Self {
        let (remarked, state) = (AtomicU32::new(0), Mutex::default());
        Self(Arc::new(Inner { host, max, redactor, remarked, state }))
    }

    /// Writes a remark, the first time that there is cause for it. It doesn't count towards the limit: there are but a few
    /// remarks, and they say what a guest that has filled its log can't see otherwise.
    pub(crate) fn remark(&self, remark: Remark, line: impl FnOnce() -> String) {
        let bit = 1 << remark as u8;
        if self.0.remarked.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.0.host.log(Level::Warn, self.redacted(line()), Vec::new());
        }
    }

    /// Returns the text without the plugin's secrets.
    pub(crate) fn redacted(&self, text: String) -> String {
        match &self.0.redactor {
            Some(redactor) => redactor.text(text),
            None => text,
        }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The run is to end for it.
    pub(crate) fn line(
        &self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<(), WithoutEnd> {
        let message = self.redacted(message);
        let fields = match &self.0.redactor {
            Some(redactor) => {
                fields.into_iter().map(|(name, value)| (redactor.text(name), redactor.text(value))).collect()
            }
            None => fields,
        };
        self.write_line(&mut self.lock(), level, message, fields)
    }

    /// Writes what a guest wrote to a stream, line by line. The last line waits for its end.
    ///
    /// # Errors
    /// The run is to end for it.
    pub(crate) fn stream(&self, stream: Stream, mut bytes: &[u8]) -> Result<(), WithoutEnd> {
        let mut state = self.lock();
        while !bytes.is_empty() {
            let pending = state.pending(stream);
            let room = LINE_MAX - pending.len();
            let (end, skip) = match bytes.iter().take(room + 1).position(|byte| *byte == b'\n') {
                Some(end) => (end, 1),
                None if bytes.len() < room => {
                    pending.extend_from_slice(bytes);
                    return Ok(());
                }
                None => (room, 0),
            };
            pending.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + skip..];
            let rest = if skip == 0 { self.cut_pending(&mut state, stream) } else { Vec::new() };
            self.write_pending(&mut state, stream)?;
            *state.pending(stream) = rest;
        }
        Ok(())
    }

    /// Whether the run went on writing far past its limit.
    pub(crate) fn is_without_end(&self) -> bool {
        self.0.is_without_end(&self.lock())
    }

    /// Writes the lines that wait for their end, and the number of lines that were dropped.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        for stream in [Stream::Out, Stream::Err] {
            if !state.pending(stream).is_empty() {
                // The run is over: nothing is left to end.
                let _ = self.write_pending(&mut state, stream);
            }
        }
        let dropped = mem::take(&mut state.dropped);
        drop(state);
        if dropped > 0 {
            let max = self.0.max;
            let message = format!("{dropped} more log lines were dropped, past {max}; raise limits.log");
            self.0.host.log(Level::Warn, message, Vec::new());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The host's log is called with it, and may panic; the numbers are right even then.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts a line that is too long, and returns the part that isn't written yet: its end may be the beginning of a secret.
    fn cut_pending(&self, state: &mut State, stream: Stream) -> Vec<u8> {
        let Some(redactor) = &self.0.redactor else { return Vec::new() };
        let pending = state.pending(stream);
        *pending = redactor.bytes(mem::take(pending));
        // A secret that is longer than a line can't be kept back whole, and its lines are redacted by themselves.
        let at = pending.len().saturating_sub(redactor.overlap().min(LINE_MAX / 2));
        pending.split_off(at)
    }

    fn write_pending(&self, state: &mut State, stream: Stream) -> Result<(), WithoutEnd> {
        let mut line = mem::take(state.pending(stream));
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let line = match &self.0.redactor {
            Some(redactor) => redactor.bytes(line),
            None => line,
        };
        let message = String::from_utf8_lossy(&line).into_owned();
        self.write_line(state, stream.level(), message, Vec::new())
    }

    fn write_line(
        &self,
        state: &mut State,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<(), WithoutEnd> {
        let size_of_field = |(name, value): &(String, String)| FIELD + (name.len() + value.len()) as u64;
        let size = LINE + message.len() as u64 + fields.iter().map(size_of_field).sum::<u64>();
        state.tried += size;
        if state.kept + size <= self.0.max.0 {
            state.kept += size;
            self.0.host.log(level, message, fields);
            return Ok(());
        }
        state.dropped += 1;
        if self.0.is_without_end(state) { Err(WithoutEnd) } else { Ok(()) }
    }
}

impl Inner {
    fn is_without_end(&self, state: &State) -> bool {
        state.tried > self.max.0.saturating_mul(PATIENCE).max(PATIENCE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Lines;
    use crate::plugin::{Grants, Secret};

    fn log(max: u64) -> (Arc<Lines>, RunLog) {
        Lines::logged(Bytes(max))
    }

    fn lines(lines: &Lines) -> Vec<(Level, String)> {
        lines.lines()
    }

    #[test]
    fn streams_are_cut_into_lines_wherever_writes_end() {
        let (seen, log) = log(10_000);
        for part in ["one\r\ntw", "o\n\nthr", "ee"] {
            log.stream(Stream::Out, part.as_bytes()).expect("within the limit");
        }
        log.stream(Stream::Err, b"\xffoops\n").expect("within the limit");
        log.finish();
        let expected = [
            (Level::Info, "one"),
            (Level::Info, "two"),
            (Level::Info, ""),
            (Level::Warn, "\u{fffd}oops"),
            (Level::Info, "three"),
        ];
        assert_eq!(lines(&seen), expected.map(|(level, text)| (level, text.to_owned())));
    }

    fn secretive(max: u64) -> (Arc<Lines>, RunLog) {
        let secrets = [("TOKEN".to_owned(), Secret::new("hunter2".to_owned()))];
        let grants = Grants { secrets: secrets.into(), ..Grants::default() };
        let lines = Arc::new(Lines::default());
        let redactor = Redactor::new(&grants).map(Arc::new);
        (Arc::clone(&lines), RunLog::new(lines, Bytes(max), redactor))
    }

    #[test]
    fn a_secret_is_redacted_from_lines_fields_and_both_streams_even_in_pieces() {
        let (seen, log) = secretive(10_000);
        let fields = vec![("hunter2".to_owned(), "is hunter2".to_owned())];
        log.line(Level::Info, "say hunter2".to_owned(), fields).expect("within the limit");
        for part in [
            "out: hun",
            "ter",
            "2!
hunter",
        ] {
            log.stream(Stream::Out, part.as_bytes()).expect("within the limit");
        }
        log.stream(Stream::Err, b"hunter2").expect("within the limit");
        log.remark(Remark::Http, || "to hunter2.example".to_owned());
        log.finish();
        let told: Vec<_> = lines(&seen).into_iter().map(|(_, line)| line).collect();
        let expected = [
            "say [secret TOKEN]",
            "out: [secret TOKEN]!",
            "to [secret TOKEN].example",
            "hunter",
            "[secret TOKEN]",
        ];
        assert_eq!(told, expected);
        assert!(seen.fields().iter().all(|field| !field.contains("hunter2")));
    }

    #[test]
    fn a_secret_across_the_break_of_an_endless_line_is_redacted() {
        for before in LINE_MAX - 8..LINE_MAX + 2 {
            let (seen, log) = secretive(1 << 20);
            let text = format!("{}hunter2{}", "x".repeat(before), "y".repeat(LINE_MAX));
            for piece in text.as_bytes().chunks(1000) {
                log.stream(Stream::Out, piece).expect("within the limit");
            }
            log.finish();
            let whole: String = lines(&seen).into_iter().map(|(_, line)| line).collect();
            assert_eq!(whole, text.replace("hunter2", "[secret TOKEN]"), "{before}");
        }
    }

    #[test]
    fn a_remark_is_made_once_and_past_the_limit_too() {
        let (seen, log) = log(0);
        for _ in 0..3 {
            log.remark(Remark::Sockets, || "no sockets".to_owned());
        }
        log.remark(Remark::Http, || "no requests".to_owned());
        assert_eq!(lines(&seen).len(), 2);
    }

    #[test]
    fn an_endless_line_is_broken() {
        let (seen, log) = log(1 << 20);
        log.stream(Stream::Out, &vec![b'x'; 3 * LINE_MAX + 1]).expect("within the limit");
        log.finish();
        let lengths: Vec<_> = lines(&seen).iter().map(|(_, line)| line.len()).collect();
        assert_eq!(lengths, [LINE_MAX, LINE_MAX, LINE_MAX, 1]);
    }

    #[test]
    fn lines_past_the_limit_are_dropped_and_counted() {
        let (seen, log) = log(2 * LINE + 10);
        for text in ["12345", "12345", "12345", "12345"] {
            log.line(Level::Info, text.to_owned(), Vec::new()).expect("not yet without end");
        }
        log.finish();
        assert_eq!(lines(&seen).len(), 3);
        assert_eq!(lines(&seen)[2].1, "2 more log lines were dropped, past 74B; raise limits.log");
    }

    #[test]
    fn empty_fields_count_too() {
        let (seen, log) = log(1000);
        let fields = vec![(String::new(), String::new()); 100];
        log.line(Level::Info, String::new(), fields).expect("not yet without end");
        assert_eq!(lines(&seen), []);
    }

    #[test]
    fn even_empty_lines_come_to_an_end() {
        let (_, log) = log(100);
        let written = (0..).take_while(|_| log.line(Level::Info, String::new(), Vec::new()).is_ok()).count();
        assert_eq!(written as u64, PATIENCE_MIN / LINE);
        assert!(log.is_without_end());
    }
}
