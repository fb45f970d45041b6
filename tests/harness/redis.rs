//! Redis server of a single test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Time at which a write is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged.
    Always,
    /// Within a second, the default of Redis.
    EverySecond,
}

/// Redis server on a free port of 127.0.0.1. It ends when this is dropped.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
    fsync: Fsync,
}

impl Redis {
    /// Starts a server that keeps its data in `folder`.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it doesn't start.
    #[must_use]
    pub fn start(folder: &Path, fsync: Fsync) -> Self {
        let folder = folder.to_path_buf();
        for _ in 0..20 {
            let port = rand::random_range(20_000..60_000);
            let mut redis = Self { child: None, port, folder: folder.clone(), fsync };
            if redis.up() {
                return redis;
            }
        }
        panic!("redis-server doesn't start in {}", folder.display());
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server, as a power cut would.
    ///
    /// # Panics
    /// If it can't be ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("redis-server can be killed");
            child.wait().expect("a killed process ends");
        }
    }

    /// Stops the server from answering while its connections stay, as a host that hangs does.
    ///
    /// # Panics
    /// If it isn't there.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends a [`Self::pause`].
    ///
    /// # Panics
    /// If it isn't there.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Removes all data of the server.
    ///
    /// # Panics
    /// If it can't be told to.
    pub fn forget(&self) {
        let told = Command::new("redis-cli").args(["-p", &self.port.to_string(), "flushall"]).output();
        assert!(told.expect("redis-cli is installed").status.success(), "redis-server is told to forget");
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success(), "redis-server is gone");
    }

    /// Kills the server and starts it again, with its data.
    ///
    /// # Panics
    /// If it doesn't start.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.up(), "redis-server doesn't start again on port {}", self.port);
    }

    /// Starts the process, and returns whether it came up: its log says so, or it ends as the port is taken.
    fn up(&mut self) -> bool {
        let fsync = match self.fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", fsync, "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: run `make setup`");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let ready =
            lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
        // The log has to be read on, or the server would block on it.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        ready
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
