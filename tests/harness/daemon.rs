//! A daemon that is a real process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::{PATIENCE, binary};

/// `sandhog run`; killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Receiver<String>,
    heard: Vec<String>,
}

impl Daemon {
    /// Starts one, and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends before that.
    #[must_use]
    pub fn start(config: &Path) -> Self {
        let mut command = Command::new(binary());
        command.arg("--config").arg(config);
        Self::start_with(command)
    }

    /// As [`Self::start`], by a command that has all but what it shall do: `sandhog` with its configuration, in
    /// whatever surroundings.
    ///
    /// # Panics
    /// If it ends before it is ready.
    #[must_use]
    pub fn start_with(command: Command) -> Self {
        Self::start_until(command, "ready")
    }

    /// As [`Self::start_with`], but waits for another line of the log.
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

    /// Waits for a line of the log that has `text` in it, and returns it.
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

    /// As [`Self::wait_for`], but the line may have been there for long.
    ///
    /// # Panics
    /// If the log ends, or the line doesn't come.
    pub fn has_said(&mut self, text: &str) -> String {
        match self.log().iter().find(|line| line.contains(text)) {
            Some(line) => line.clone(),
            None => self.wait_for(text),
        }
    }

    /// All lines of the log so far.
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

    /// Waits for its end.
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

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has in use, in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// That part of it which is no file's, and so can't be had again by reading.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn anonymous(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// The most memory that it has had in use, in bytes, since its start or [`Self::forget_peak`].
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Lets the peak count from now on.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("it runs, and is ours");
    }

    /// How many files, sockets and the like it has open.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.entries("fd")
    }

    /// How many threads it has.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, folder: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{folder}", self.child.id())).expect("it runs").count()
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Time since its start that it has spent on processors.
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
