//! Daemon in a real process.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::{PATIENCE, binary};

/// Process of `sandhog run`; killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Receiver<String>,
    heard: Vec<String>,
}

impl Daemon {
    /// Starts a daemon, and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends before that.
    #[must_use]
    pub fn start(config: &Path) -> Self {
        let mut command = Command::new(binary());
        command.arg("--config").arg(config);
        Self::start_with(command)
    }

    /// Starts a daemon as [`Self::start`] does, by a command that lacks only the subcommand: `sandhog` with its configuration,
    /// in any environment.
    ///
    /// # Panics
    /// If it ends before it is ready.
    #[must_use]
    pub fn start_with(command: Command) -> Self {
        Self::start_until(command, "ready")
    }

    /// Starts a daemon as [`Self::start_with`] does, but waits for a log line that contains `text`.
    ///
    /// # Panics
    /// If it ends before that.
    #[must_use]
    pub fn start_until(mut command: Command, text: &str) -> Self {
        let mut child = command
            .args(["run", "--log-format", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let (line, log) = mpsc::channel();
        std::thread::spawn(move || {
            // The other end is gone once the test is over.
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|text| line.send(text)).ok();
        });
        let mut daemon = Self { child, log, heard: Vec::new() };
        daemon.wait_for(text);
        daemon
    }

    /// Waits for a new log line that contains `text`, and returns it.
    ///
    /// # Panics
    /// If the log ends, or the line doesn't come.
    pub fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("`{text}` isn't in the log:\n{}", self.heard.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the daemon ended without `{text}` in its log:\n{}", self.heard.join("\n"))
                }
            }
        }
    }

    /// Returns the first log line that contains `text`, and waits for it as [`Self::wait_for`] does if there is none yet.
    ///
    /// # Panics
    /// If the log ends, or the line doesn't come.
    pub fn has_said(&mut self, text: &str) -> String {
        match self.log().iter().find(|line| line.contains(text)) {
            Some(line) => line.clone(),
            None => self.wait_for(text),
        }
    }

    /// Returns all log lines so far.
    pub fn log(&mut self) -> &[String] {
        self.heard.extend(self.log.try_iter());
        &self.heard
    }

    /// Sends a signal, such as `TERM`, `STOP`, `KILL`.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success(), "the daemon is gone");
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// If it doesn't end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        // The log ends when the process does.
        loop {
            match self.log.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.child.wait().expect("a child can be waited for");
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the daemon doesn't end:\n{}", self.heard.join("\n"))
                }
            }
        }
    }

    /// Kills the process, and waits for its end.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory of the process, in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the anonymous part of the resident memory, in bytes: it isn't backed by a file, and so can't be read again.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn anonymous(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// Returns the peak of resident memory, in bytes, since the start or [`Self::forget_peak`].
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Resets the peak of resident memory. A daemon closes its memory to all but root: for others, the peak stays that since
    /// the start.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn forget_peak(&self) {
        match std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5") {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            forgotten => forgotten.expect("it runs"),
        }
    }

    /// Returns the number of open file descriptors. `None` unless this is root, as a daemon tells it to nobody else.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn open_files(&self) -> Option<usize> {
        match std::fs::read_dir(format!("/proc/{}/fd", self.child.id())) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            files => Some(files.expect("it runs").count()),
        }
    }

    /// Returns the number of threads.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").count()
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Returns the processor time used since the start.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a command").split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let tail = self.log().iter().rev().take(40).rev().cloned().collect::<Vec<_>>();
            eprintln!("the daemon's last lines:\n{}", tail.join("\n"));
        }
    }
}
