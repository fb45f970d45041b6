//! A daemon that is a real process, and goes on without anybody waiting for it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

/// `sandhog run`; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
}

/// What it has said so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    said: Mutex<Said>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    /// Nothing more comes.
    over: bool,
}

impl Process {
    /// Starts one, by a command that is `sandhog` in whatever surroundings.
    ///
    /// # Errors
    /// If it can't be started.
    pub(crate) fn start(sandhog: std::process::Command, config: &Path) -> anyhow::Result<Self> {
        let mut child = Command::from(sandhog)
            .arg("--config")
            .arg(config)
            .args(["run", "--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let log = Arc::new(Log::default());
        let of_process = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                of_process.change(|said| said.lines.push(line));
            }
            of_process.change(|said| said.over = true);
        });
        Ok(Self { child, log })
    }

    /// What it says.
    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// Sends a signal; to one that has ended, none.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may end in this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(how)
    }
}

/// How a process has ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {signal:?}"),
    }
}

impl Log {
    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_waiters();
    }

    /// How many lines there are.
    pub(crate) fn length(&self) -> usize {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).lines.len()
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    /// Waits for a line after the first `from` ones that has all these texts in it; whether there is one before the process
    /// has ended.
    pub(crate) async fn says(&self, from: usize, texts: &[&str]) -> bool {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            {
                let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
                let mut lines = said.lines.iter().skip(from);
                if lines.any(|line| texts.iter().all(|text| line.contains(text))) {
                    return true;
                }
                if said.over {
                    return false;
                }
            }
            news.await;
        }
    }
}
