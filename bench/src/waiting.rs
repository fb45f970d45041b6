//! Case `waiting`: guests that wait in a host call at the same time: their maximum number, and the memory of each.
//!
//! | subject | what waits |
//! |---|---|
//! | `sandhog` | runs of `hog.sleep`: three daemons on one Redis, each with as many as its configuration can allow |
//! | `process` | the smallest process (`sleep`) |
//! | `node` | a process of Node.js with nothing loaded, as in a worker that forks one for each job |
//!
//! Memory is the proportional set size: memory that is shared by several mappings or processes is counted once. That of a
//! run is the growth of its daemon, all that the daemon holds for the run included.
//!
//! The number of runs that wait in one daemon is bounded first by the address space: each may have four memories of 4 GiB
//! (`engine.concurrency` is at most 4096 for that reason); then by the mappings of a process (`vm.max_map_count`, 65,530
//! by default, of which each run takes six), and by the machine's memory.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sandhog_core::job::{NewJob, State};
use sandhog_tests::{Backend, Daemon, Fsync, Site, finished, hog_job, settled, tenant};

use crate::figures::Figures;

/// Maximum value of `engine.concurrency`.
const SEATS: usize = 4096;
const DAEMONS: usize = 3;
const PROCESSES: usize = 50;
const PROCESS: [&str; 3] = ["sh", "-c", "echo up; exec sleep 3600"];
const NODE: [&str; 3] = ["node", "-e", "console.log('up'); setInterval(() => {}, 3600000)"];
/// Settings of the daemons, with which no lease is renewed while memory is measured.
const DAEMON: &str = "concurrency = 4096\n\n[limits]\nmemory = \"16MiB\"\ntimeout = \"1h\"\n\n\
                      [lease]\nttl = \"1h\"\nmargin = \"1m\"\nrenew_every = \"10m\"\n";
const AN_HOUR: &str = r#"{"ms": 3600000}"#;

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (bytes, instances) = runtime.block_on(runs());
    figures.add("waiting", "sandhog", "bytes_per_instance", &bytes);
    figures.add("waiting", "sandhog", "instances", &[instances as f64]);
    for (subject, command) in [("process", PROCESS), ("node", NODE)] {
        figures.add("waiting", subject, "bytes_per_instance", &processes(command));
    }
}

/// Starts one daemon after the other, and fills all its slots with waiting jobs. Returns the memory of a run, in bytes, by
/// daemon, and the number of runs in the end.
async fn runs() -> (Vec<f64>, usize) {
    let site = Site::new(Backend::Redis(Fsync::EverySecond), DAEMON).with_hog("acme", "");
    let (broker, acme) = (site.broker().await, tenant("acme"));
    let mut daemons: Vec<Daemon> = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..DAEMONS {
        let daemon = site.daemon();
        // The first job loads the code, and isn't one of those that wait.
        let first = hog_job("hog.echo", "1");
        broker.enqueue(&acme, std::slice::from_ref(&first)).await.expect("the broker is up");
        finished(&*broker, &acme, first.id).await;
        let before = share_of(daemon.id());
        let jobs: Vec<NewJob> = (0..SEATS).map(|_| hog_job("hog.sleep", AN_HOUR)).collect();
        for batch in jobs.chunks(256) {
            broker.enqueue(&acme, batch).await.expect("the broker is up");
        }
        daemons.push(daemon);
        let all = (daemons.len() * SEATS) as u64;
        settled(&*broker, &acme, |counts| counts[State::Leased] == all).await;
        let daemon = daemons.last().expect("it was started just now");
        at_rest(daemon).await;
        bytes.push((share_of(daemon.id()) - before) / SEATS as f64);
        println!("{all} wait at once");
    }
    let counts = broker.counts(&acme).await.expect("the broker is up");
    assert_eq!(counts[State::Leased], (DAEMONS * SEATS) as u64, "they all wait still");
    (bytes, DAEMONS * SEATS)
}

/// Waits until a daemon is idle.
async fn at_rest(daemon: &Daemon) {
    const LONG: Duration = Duration::from_secs(1);
    loop {
        let before = daemon.cpu();
        tokio::time::sleep(LONG).await;
        if daemon.cpu() - before < LONG / 10 {
            return;
        }
    }
}

/// Returns the memory, in bytes, of each of some processes that run this command, which prints a line once it waits.
fn processes(command: [&str; 3]) -> Vec<f64> {
    let start = |_| Command::new(command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn();
    let mut children: Vec<Child> =
        (0..PROCESSES).map(start).collect::<Result<_, _>>().expect("they can be started");
    for child in &mut children {
        let said = child.stdout.as_mut().expect("it is piped");
        said.read_exact(&mut [0]).expect("it says something");
    }
    let shares = children.iter().map(|child| share_of(child.id())).collect();
    for child in &mut children {
        child.kill().expect("it is ours");
        child.wait().expect("a killed process ends");
    }
    shares
}

/// Returns the proportional set size of a process, in bytes.
fn share_of(process: u32) -> f64 {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("it runs");
    let line = maps.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}
