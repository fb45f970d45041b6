//! The job systems that Sandhog is measured beside: programs in `bench/peers`, which are told what to do line by line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use sandhog_tests::PATIENCE;
use serde_json::{Value, json};

use crate::figures;

/// Where the version that is measured is pinned.
enum Pinned {
    /// By npm, in `node/package-lock.json`.
    Npm(&'static str),
    /// By cargo, in `rust/Cargo.lock`.
    Cargo(&'static str),
    /// By pip, in this requirements file of `python/`.
    Pip(&'static str, &'static str),
}

/// The subjects, each with the package whose version counts.
const PEERS: [(&str, Pinned); 5] = [
    ("bullmq", Pinned::Npm("bullmq")),
    ("bullmq-rust", Pinned::Cargo("bullmq-official")),
    ("apalis", Pinned::Cargo("apalis-redis")),
    ("arq", Pinned::Pip("arq.txt", "arq")),
    ("taskiq", Pinned::Pip("taskiq.txt", "taskiq")),
];

/// Their names.
pub(crate) fn subjects() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|(subject, _)| *subject)
}

/// The version of each, by the files that pin it.
pub(crate) fn versions() -> impl Iterator<Item = (String, String)> {
    PEERS.iter().map(|(subject, pinned)| ((*subject).to_owned(), pinned.version()))
}

fn folder() -> PathBuf {
    figures::folder().join("peers")
}

impl Pinned {
    fn version(&self) -> String {
        let text = |file: &str| fs::read_to_string(folder().join(file)).expect("it is in the checkout");
        let after = |text: &str, head: &str, end: char| {
            let (_, rest) = text.split_once(head).expect("the package is pinned");
            rest.split(end).next().unwrap_or_default().to_owned()
        };
        match self {
            Self::Npm(package) => {
                let lock: Value = serde_json::from_str(&text("node/package-lock.json")).expect("JSON");
                let version = &lock["packages"][format!("node_modules/{package}")]["version"];
                version.as_str().expect("the package is pinned").to_owned()
            }
            Self::Cargo(package) => {
                after(&text("rust/Cargo.lock"), &format!("name = \"{package}\"\nversion = \""), '"')
            }
            Self::Pip(file, package) => {
                after(&text(&format!("python/{file}")), &format!("{package}=="), '\n').trim().to_owned()
            }
        }
    }

    /// The command that runs the program of a subject.
    fn command(&self, subject: &str) -> Command {
        let cache = sandhog_tests::cache();
        match self {
            Self::Npm(_) => {
                let mut command = Command::new("node");
                command
                    .env("NODE_ENV", "production")
                    .env("NODE_NO_WARNINGS", "1")
                    .arg(folder().join(format!("node/{subject}.js")));
                command
            }
            Self::Cargo(_) => Command::new(cache.join("peers-target/release").join(subject)),
            Self::Pip(..) => {
                let mut command = Command::new(cache.join(format!("peers/{subject}/bin/python")));
                command
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .arg(folder().join(format!("python/{subject}_peer.py")));
                command
            }
        }
    }
}

/// A program that is up. It ends with this value.
pub(crate) struct Peer {
    subject: &'static str,
    child: Child,
    input: ChildStdin,
    /// What it says, line by line.
    output: Receiver<String>,
}

impl Peer {
    /// Starts the program of a subject, on a queue of the Redis server at `url`.
    ///
    /// # Panics
    /// If there is no such subject, or its program isn't built.
    pub(crate) fn start(subject: &str, url: &str, queue: &str) -> Self {
        let (subject, pinned) = PEERS.iter().find(|(name, _)| *name == subject).expect("it is a peer");
        let mut command = pinned.command(subject);
        command.args(["--url", url, "--queue", queue]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // So that what it starts ends with it.
        command.process_group(0);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{subject}: {error}; run `make peers`"));
        let input = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (said, output) = mpsc::channel();
        // It ends with what it reads.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut peer = Self { subject, child, input, output };
        let ready = peer.hear();
        assert_eq!(ready["ready"], true, "{subject} is ready: {ready}");
        assert_eq!(ready["version"], pinned.version(), "{subject} is what was pinned");
        peer
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it add so many jobs, and returns how long that took.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn enqueue(&mut self, jobs: usize) -> Duration {
        self.tell(&json!({ "do": "enqueue", "jobs": jobs }));
        self.hear_seconds()
    }

    /// Has it start a worker that ends after so many jobs, and returns once that is connected.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn work(&mut self, jobs: usize, concurrency: usize) -> Working<'_> {
        self.start_work(&json!({ "do": "work", "jobs": jobs, "concurrency": concurrency }))
    }

    /// As [`Self::work`], with handlers that run in child processes of the worker. BullMQ alone has that.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn work_in_children(&mut self, jobs: usize, concurrency: usize) -> Working<'_> {
        let command = json!({ "do": "work", "jobs": jobs, "concurrency": concurrency, "sandboxed": true });
        self.start_work(&command)
    }

    fn start_work(&mut self, command: &Value) -> Working<'_> {
        self.tell(command);
        let working = self.hear();
        assert_eq!(working["working"], true, "{} works: {working}", self.subject);
        Working(self)
    }

    /// Has it add one job each `every` while a worker of its own works; returns how long it took, for each of them, until
    /// its handler began, and until its end was acknowledged by Redis.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn latency(&mut self, jobs: usize, every: Duration, concurrency: usize) -> [Vec<Duration>; 2] {
        let ask = json!({
            "do": "latency", "jobs": jobs, "every_us": every.as_secs_f64() * 1e6, "concurrency": concurrency,
        });
        let answer = self.ask(&ask);
        ["start_us", "settled_us"].map(|times| {
            let times: Vec<u64> = serde_json::from_value(answer[times].clone())
                .unwrap_or_else(|error| panic!("{} said {answer}: {error}", self.subject));
            times.into_iter().map(Duration::from_micros).collect()
        })
    }

    /// Tells it one command, and waits for its answer.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.hear()
    }

    /// Tells it one command.
    fn tell(&mut self, command: &Value) {
        writeln!(self.input, "{command}").expect("it listens");
    }

    /// Waits for one line, but not for ever: some lose a job now and then.
    fn hear(&mut self) -> Value {
        let line = self.output.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("{} gives no answer: {error}", self.subject));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{} said {line:?}: {error}", self.subject))
    }

    fn hear_seconds(&mut self) -> Duration {
        let answer = self.hear();
        Duration::from_secs_f64(
            answer["seconds"].as_f64().unwrap_or_else(|| panic!("{}: {answer}", self.subject)),
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).output().ok();
        self.child.wait().ok();
    }
}

/// A worker under way.
pub(crate) struct Working<'a>(&'a mut Peer);

impl Working<'_> {
    /// Waits until the last of its jobs is settled, and returns the time since it began.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn settled(self) -> Duration {
        self.0.hear_seconds()
    }
}
