//! Job systems that Sandhog is compared with: programs in `bench/peers`, controlled by lines of JSON.

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

/// File that pins the version that is measured.
enum Pinned {
    /// `node/package-lock.json`, for npm, with the package.
    Npm(&'static str),
    /// `rust/Cargo.lock`, for cargo, with the crate.
    Cargo(&'static str),
    /// A requirements file in `python/`, for pip.
    Pip(&'static str, &'static str),
}

/// The subjects, each with the package whose version is reported.
const PEERS: [(&str, Pinned); 5] = [
    ("bullmq", Pinned::Npm("bullmq")),
    ("bullmq-rust", Pinned::Cargo("bullmq-official")),
    ("apalis", Pinned::Cargo("apalis-redis")),
    ("arq", Pinned::Pip("arq.txt", "arq")),
    ("taskiq", Pinned::Pip("taskiq.txt", "taskiq")),
];

/// Returns the names of the subjects.
pub(crate) fn subjects() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|(subject, _)| *subject)
}

/// Returns the version of each subject, from the files that pin it.
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

    /// Returns the command that runs the program of a subject.
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

/// Running program of a subject. It ends when this is dropped.
pub(crate) struct Peer {
    subject: &'static str,
    child: Child,
    input: ChildStdin,
    /// Lines of the program's standard output.
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
        // A process group of its own, so that the processes that it starts end with it.
        command.process_group(0);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{subject}: {error}; run `make peers`"));
        let input = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (said, output) = mpsc::channel();
        // The thread ends when the output that it reads ends.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut peer = Self { subject, child, input, output };
        let ready = peer.hear();
        assert_eq!(ready["ready"], true, "{subject} is ready: {ready}");
        assert_eq!(ready["version"], pinned.version(), "{subject} is what was pinned");
        peer
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the program add `jobs` jobs, and returns the time that it took.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn enqueue(&mut self, jobs: usize) -> Duration {
        self.tell(&json!({ "do": "enqueue", "jobs": jobs }));
        self.hear_seconds()
    }

    /// Lets the program start a worker that ends after `jobs` jobs, and returns once the worker is connected.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn work(&mut self, jobs: usize, concurrency: usize) -> Working<'_> {
        self.start_work(&json!({ "do": "work", "jobs": jobs, "concurrency": concurrency }))
    }

    /// Starts a worker as [`Self::work`] does, with handlers in child processes of the worker. Only BullMQ supports this.
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

    /// Lets the program add one job each `every` while a worker of its own works. Returns the times of all jobs until the handler
    /// began, and until Redis acknowledged the end.
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

    /// Sends a command, and waits for the answer.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.hear()
    }

    /// Sends a command.
    fn tell(&mut self, command: &Value) {
        writeln!(self.input, "{command}").expect("it listens");
    }

    /// Waits for a line, within a time limit, as some systems lose a job now and then.
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

/// Running worker.
pub(crate) struct Working<'a>(&'a mut Peer);

impl Working<'_> {
    /// Waits until the last job of the worker is settled, and returns the time since the worker began.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn settled(self) -> Duration {
        self.0.hear_seconds()
    }
}
