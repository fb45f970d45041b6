//! Counts of a process's system calls and allocations, by `perf`, which has to be run by root.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::Process;

/// Functions that allocate memory on the heap.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";

/// Counts of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) system_calls: u64,
    /// Number of allocations; `None` if the process doesn't allocate by a shared library.
    pub(crate) allocations: Option<u64>,
}

/// Tracer of a process.
pub(crate) struct Tracer {
    process: Process,
    probes: Option<Probes>,
}

impl Tracer {
    /// Creates a tracer of a process. `None` if there is no `perf`, or it isn't allowed.
    pub(crate) fn on(process: Process) -> Option<Self> {
        let may = Command::new("perf").args(["stat", "-e", SYSTEM_CALLS, "true"]).output();
        let may = may.is_ok_and(|output| output.status.success());
        may.then(|| Self { process, probes: process.libc().and_then(|libc| Probes::new(&libc, process)) })
    }

    /// Starts to count.
    pub(crate) fn begin(&self) -> Count<'_> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [control, answers] = ["control", "answers"].map(|name| pipe(&folder.path().join(name)));
        let mut events = vec![SYSTEM_CALLS.to_owned()];
        events.extend(self.probes.iter().flat_map(Probes::events));
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-D", "-1", "-e", &events.join(",")])
            .args(["-p", &self.process.0.to_string(), "-o"])
            .arg(folder.path().join("counts"))
            .arg(format!("--control=fifo:{},{}", control.display(), answers.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("it was there a moment ago");
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).expect("our own pipe");
        let (control, answers) = (open(&control), open(&answers));
        let mut count = Count { perf, control, answers, folder, probes: self.probes.as_ref() };
        count.tell("enable");
        count
    }
}

/// Running `perf` that counts.
pub(crate) struct Count<'a> {
    perf: Child,
    folder: tempfile::TempDir,
    control: File,
    answers: File,
    probes: Option<&'a Probes>,
}

impl Count<'_> {
    /// Stops, and returns the counts.
    pub(crate) fn end(mut self) -> Counted {
        self.tell("disable");
        let id = self.perf.id().to_string();
        let told = Command::new("kill").args(["-INT", &id]).status().expect("kill is there");
        assert!(told.success(), "perf is gone");
        self.perf.wait().expect("a child can be waited for");
        let counts = std::fs::read_to_string(self.folder.path().join("counts")).expect("perf's output");
        let of = |wanted: fn(&str) -> bool| -> u64 {
            let counts = counts.lines().filter_map(|line| {
                let mut fields = line.split(',');
                let (count, event) = (fields.next()?, fields.nth(1)?);
                wanted(event).then(|| count.parse::<u64>().ok()).flatten()
            });
            counts.sum()
        };
        let allocations = self.probes.map(|_| of(|event| event.starts_with("probe_libc:")));
        Counted { system_calls: of(|event| event == SYSTEM_CALLS), allocations }
    }

    /// Sends perf a command, and waits until it is done.
    fn tell(&mut self, what: &str) {
        self.control.write_all(format!("{what}\n").as_bytes()).expect("perf reads");
        let mut answer = [0; 5];
        self.answers.read_exact(&mut answer).expect("perf answers");
        assert_eq!(&answer, b"ack\n\0", "perf does as it is told");
    }
}

fn pipe(path: &Path) -> PathBuf {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
    assert!(made.success(), "a pipe at {}", path.display());
    path.to_path_buf()
}

/// Kernel probes in a library, by which a process's calls are counted. They are removed when this is dropped.
struct Probes {
    prefix: String,
}

impl Probes {
    fn new(libc: &Path, process: Process) -> Option<Self> {
        let probes = Self { prefix: format!("sandhog_{}_", process.0) };
        let mut perf = Command::new("perf");
        perf.args(["probe", "-q", "-x"]).arg(libc);
        for name in ALLOCATORS {
            perf.arg("--add").arg(format!("{}{name}={name}", probes.prefix));
        }
        let added = perf.stderr(Stdio::null()).status().expect("it was there a moment ago");
        added.success().then_some(probes)
    }

    fn events(&self) -> impl Iterator<Item = String> {
        ALLOCATORS.into_iter().map(|name| format!("probe_libc:{}{name}", self.prefix))
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let mut perf = Command::new("perf");
        perf.args(["probe", "-q", "--del"]).arg(format!("probe_libc:{}*", self.prefix));
        // A probe that is left costs nothing, as nothing counts it.
        drop(perf.stderr(Stdio::null()).status());
    }
}
