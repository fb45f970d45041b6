//! Counts of log lines: by status and path for web servers, by level for the rest.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use sandhog_sdk::{Context, OrFailIo, Result, handler, info};
use serde::{Deserialize, Serialize};

use crate::folder::{Found, each_file};
use crate::log_line::LogLine;

/// Which logs to sum up, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInput {
    /// A granted folder; its `.log` files are read, not those of folders inside.
    pub dir: String,
    /// How many paths to list, those with the most requests first.
    #[serde(default = "ten")]
    pub top: usize,
}

/// The counts.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct LogReport {
    /// How many files were read.
    pub files: u64,
    /// How many lines count.
    pub lines: u64,
    /// How many lines don't: they are no access line and tell no level, or are over-long.
    pub malformed_lines: u64,
    /// Bytes sent, by the access lines.
    pub bytes: u64,
    /// Requests by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests by HTTP method.
    pub methods: BTreeMap<String, u64>,
    /// Other lines by level.
    pub levels: BTreeMap<String, u64>,
    /// How many paths there are; fewer may be listed.
    pub paths_found: usize,
    /// The paths with the most requests.
    pub top_paths: Vec<PathCount>,
}

/// What was asked of one path.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PathCount {
    /// The path, without its query.
    pub path: String,
    /// How many requests there were.
    pub requests: u64,
    /// How many bytes were sent.
    pub bytes: u64,
}

/// The lines read so far.
#[derive(Debug, Default)]
struct Counts {
    lines: u64,
    malformed_lines: u64,
    bytes: u64,
    statuses: BTreeMap<u16, u64>,
    methods: BTreeMap<String, u64>,
    levels: BTreeMap<String, u64>,
    paths: BTreeMap<String, (u64, u64)>,
}

/// A longer line isn't read into memory whole.
const LINE_LENGTH_MAX: usize = 64 << 10;

fn ten() -> usize {
    10
}

/// Sums up the logs of a folder.
#[handler(kind = "report.log")]
pub fn log_report(ctx: &Context, input: LogInput) -> Result<LogReport> {
    let mut counts = Counts::default();
    let files = each_file(ctx, &input.dir, ".log", |file| counts.read(file))?;
    ctx.state().increment("reports.log", 1)?;
    info!(ctx, "summed up", files = files, lines = counts.lines, malformed_lines = counts.malformed_lines);
    Ok(counts.report(files, input.top))
}

impl Counts {
    fn read(&mut self, mut file: Found) -> Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = (&mut file.content)
                .take(LINE_LENGTH_MAX as u64)
                .read_until(b'\n', &mut line)
                .or_fail_io(format_args!("read {}", file.path))?;
            if length == 0 {
                return Ok(());
            }
            if length == LINE_LENGTH_MAX && line.last() != Some(&b'\n') {
                file.content.skip_until(b'\n').or_fail_io(format_args!("read {}", file.path))?;
                self.malformed_lines += 1;
                continue;
            }
            self.add(&String::from_utf8_lossy(&line));
        }
    }

    fn add(&mut self, line: &str) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match LogLine::parse(line) {
            None => {
                self.malformed_lines += 1;
                return;
            }
            Some(LogLine::Levelled(level)) => count(&mut self.levels, level.name()),
            Some(LogLine::Access { method, path, status, bytes }) => {
                self.bytes = self.bytes.saturating_add(bytes);
                *self.statuses.entry(status).or_default() += 1;
                count(&mut self.methods, method);
                self.add_path(path, bytes);
            }
        }
        self.lines += 1;
    }

    fn add_path(&mut self, path: &str, bytes: u64) {
        match self.paths.get_mut(path) {
            Some((requests, sent)) => {
                *requests += 1;
                *sent = sent.saturating_add(bytes);
            }
            None => {
                self.paths.insert(path.to_owned(), (1, bytes));
            }
        }
    }

    fn report(self, files: u64, top: usize) -> LogReport {
        let paths_found = self.paths.len();
        let mut top_paths: Vec<PathCount> = self
            .paths
            .into_iter()
            .map(|(path, (requests, bytes))| PathCount { path, requests, bytes })
            .collect();
        // Stable: paths with the same count stay in the order of their names.
        top_paths.sort_by_key(|path| std::cmp::Reverse(path.requests));
        top_paths.truncate(top);
        LogReport {
            files,
            lines: self.lines,
            malformed_lines: self.malformed_lines,
            bytes: self.bytes,
            statuses: self.statuses,
            methods: self.methods,
            levels: self.levels,
            paths_found,
            top_paths,
        }
    }
}

/// An owned name is only made where it is new: most lines have one that was seen before.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::FakeHost;

    fn report(files: &[(&str, &[u8])], top: usize) -> LogReport {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let input = LogInput { dir: folder.path().to_str().expect("text").to_owned(), top };
        let mut host = FakeHost::new();
        let report = host.run(|ctx| log_report(ctx, input)).result.expect("a report");
        assert_eq!(host.stored("reports.log"), Some(1));
        report
    }

    fn access(path: &str, status: u16, bytes: &str) -> String {
        format!("10.0.0.1 - - [10/Oct/2026:13:55:36 +0000] \"GET {path} HTTP/1.1\" {status} {bytes}\n")
    }

    #[test]
    fn requests_are_counted_by_status_method_and_path() {
        let log = [access("/a?x=1", 200, "10"), access("/b", 404, "-"), access("/a?x=2", 200, "5")].concat();
        let report = report(&[("web.log", log.as_bytes()), ("web.log.gz", b"\x1f\x8b")], 1);
        assert_eq!((report.files, report.lines, report.malformed_lines, report.bytes), (1, 3, 0, 15));
        assert_eq!(report.statuses, BTreeMap::from([(200, 2), (404, 1)]));
        assert_eq!(report.methods, BTreeMap::from([("GET".into(), 3)]));
        assert_eq!(report.paths_found, 2);
        assert_eq!(report.top_paths, [PathCount { path: "/a".into(), requests: 2, bytes: 15 }]);
    }

    #[test]
    fn other_logs_are_counted_by_level() {
        let report = report(&[("a.log", b"INFO up\nWARN hot\n"), ("b.log", b"\ninfo: down")], 10);
        assert_eq!((report.files, report.lines), (2, 3));
        assert_eq!(report.levels, BTreeMap::from([("info".into(), 2), ("warn".into(), 1)]));
    }

    #[test]
    fn malformed_lines_are_counted_and_do_not_spoil_the_rest() {
        let mut log = b"what is this\n\xff\xfe\nINFO \xff ok\n".to_vec();
        log.extend(std::iter::repeat_n(b'x', 3 * LINE_LENGTH_MAX));
        log.extend_from_slice(b"\nERROR last");
        let report = report(&[("a.log", &log)], 10);
        assert_eq!((report.lines, report.malformed_lines), (2, 3));
        assert_eq!(report.levels, BTreeMap::from([("error".into(), 1), ("info".into(), 1)]));
    }
}
