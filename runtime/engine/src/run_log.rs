//! The log of one run: what its handler says, and what it writes to stdout and stderr, within the log limit.
//!
//! Lines past the limit are dropped and counted; a last line says how many. Who goes on and on, far past the limit,
//! is ended for it: even a line that is dropped costs the host something.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::budget::Bytes;
use sandhog_core::job::Level;

use crate::host::Host;

/// What a line counts beside its text, and a field beside its name and value, so that empty ones aren't endless.
const LINE: u64 = 32;
const FIELD: u64 = 16;

/// How many times the log limit a run may try to write before it is ended.
pub(crate) const PATIENCE: u64 = 16;

/// What a run may at least try to write before it is ended, however small its log limit.
const PATIENCE_MIN: u64 = 1 << 20;

/// The longest line that is made of stdout or stderr; a longer one is broken.
const LINE_MAX: usize = 8 * 1024;

/// The run wrote far more than its log limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("logged without end")]
pub(crate) struct WithoutEnd;

/// Which of the two standard streams of a guest.
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

/// The log of one run, shared by all that write to it.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<Inner>);

struct Inner {
    host: Arc<dyn Host>,
    max: Bytes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: u64,
    tried: u64,
    dropped: u64,
    /// Of each stream, the beginning of a line whose end hasn't come yet.
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
    pub(crate) fn new(host: Arc<dyn Host>, max: Bytes) -> Self {
        Self(Arc::new(Inner { host, max, state: Mutex::default() }))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// If the run is to end for it.
    pub(crate) fn line(
        &self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<(), WithoutEnd> {
        self.write_line(&mut self.lock(), level, message, fields)
    }

    /// Writes what a guest wrote to a stream, line by line. The last line waits for its end.
    ///
    /// # Errors
    /// If the run is to end for it.
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
            self.write_pending(&mut state, stream)?;
        }
        Ok(())
    }

    /// Whether the run went on writing far past its limit.
    pub(crate) fn is_without_end(&self) -> bool {
        self.0.is_without_end(&self.lock())
    }

    /// Writes what waits for its end, and how many lines were dropped.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        for stream in [Stream::Out, Stream::Err] {
            if !state.pending(stream).is_empty() {
                // Nothing is left to end.
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

    fn write_pending(&self, state: &mut State, stream: Stream) -> Result<(), WithoutEnd> {
        let mut line = mem::take(state.pending(stream));
        if line.last() == Some(&b'\r') {
            line.pop();
        }
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
    use crate::host::{EnqueueRefusal, JobAsk};
    use async_trait::async_trait;
    use sandhog_core::id::StateKey;
    use sandhog_core::job::{NewJob, Progress};

    #[derive(Default)]
    struct Lines(Mutex<Vec<(Level, String)>>);

    #[async_trait]
    impl Host for Lines {
        async fn state(&self, _key: &StateKey) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }

        fn new_job(&self, _ask: JobAsk) -> Result<NewJob, EnqueueRefusal> {
            Err(EnqueueRefusal::UnknownKind)
        }

        fn progress(&self, _progress: Progress) {}

        fn log(&self, level: Level, message: String, _fields: Vec<(String, String)>) {
            self.0.lock().expect("no line panics").push((level, message));
        }
    }

    fn log(max: u64) -> (Arc<Lines>, RunLog) {
        let lines = Arc::new(Lines::default());
        (Arc::clone(&lines), RunLog::new(lines, Bytes(max)))
    }

    fn lines(lines: &Lines) -> Vec<(Level, String)> {
        lines.0.lock().expect("no line panics").clone()
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
