//! Counters of a Redis server, from its INFO, and its clearing for the next measurement.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Connection;
use sandhog_tests::PATIENCE;

/// A connection to the server.
pub(crate) struct Server(Connection);

/// Counters since the server's start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Number of commands by name, those called by scripts included.
    by_name: BTreeMap<String, u64>,
    /// Number of reads from connections: data that was sent together, in one call or several, counts once.
    pub(crate) reads: u64,
    /// Bytes received.
    pub(crate) bytes_in: u64,
    /// Bytes sent.
    pub(crate) bytes_out: u64,
    /// Processor time of all its threads.
    pub(crate) processor: Duration,
    /// Memory of its data at present, in bytes.
    pub(crate) memory: u64,
}

impl Done {
    /// Returns the number of all commands.
    pub(crate) fn commands(&self) -> u64 {
        self.by_name.values().sum()
    }

    /// Returns the number of script calls.
    pub(crate) fn scripts(&self) -> u64 {
        let are_scripts = |name: &&str| matches!(*name, "eval" | "evalsha" | "fcall");
        self.by_name.keys().map(String::as_str).filter(are_scripts).map(|name| self.by_name[name]).sum()
    }

    /// Returns the differences from `earlier`, that of the memory included.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |name: &str| earlier.by_name.get(name).copied().unwrap_or_default();
        let by_name = self.by_name.iter().map(|(name, count)| (name.clone(), count - before(name)));
        Self {
            by_name: by_name.filter(|(_, count)| *count > 0).collect(),
            reads: self.reads - earlier.reads,
            bytes_in: self.bytes_in - earlier.bytes_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            processor: self.processor.saturating_sub(earlier.processor),
            memory: self.memory.saturating_sub(earlier.memory),
        }
    }

    /// Returns a list of the commands with their numbers per job, the most frequent first.
    pub(crate) fn shown_by_name(&self, jobs: usize) -> String {
        let mut all: Vec<_> = self.by_name.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = |(name, count): (&String, &u64)| format!("{name} {:.3}", *count as f64 / jobs as f64);
        all.into_iter().map(shown).collect::<Vec<_>>().join(", ")
    }
}

impl Server {
    /// # Panics
    /// If it can't be reached.
    pub(crate) fn at(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a site's url is right");
        Self(client.get_connection().expect("the site's server is up"))
    }

    /// # Panics
    /// If it can't be reached.
    pub(crate) fn done(&mut self) -> Done {
        let info: String = redis::cmd("INFO").arg("everything").query(&mut self.0).expect("the server is up");
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("INFO has {name}")).trim()
        };
        let number = |name: &str| field(name).parse::<u64>().expect("a number");
        let seconds = |name: &str| field(name).parse::<f64>().expect("a number");
        let commands = info.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        Done {
            by_name: commands.collect(),
            reads: number("total_reads_processed"),
            bytes_in: number("total_net_input_bytes"),
            bytes_out: number("total_net_output_bytes"),
            processor: Duration::from_secs_f64(seconds("used_cpu_user") + seconds("used_cpu_sys")),
            memory: number("used_memory"),
        }
    }

    /// Makes the server rewrite its append-only file when it is cleared, rather than during a measurement.
    ///
    /// # Panics
    /// If it can't be reached.
    pub(crate) fn rewrite_when_cleared(&mut self) {
        let set = redis::cmd("CONFIG").arg("SET").arg("auto-aof-rewrite-percentage").arg(0).exec(&mut self.0);
        set.expect("the server is up");
    }

    /// Removes all data of the server.
    ///
    /// # Panics
    /// If it can't be reached.
    pub(crate) fn clear(&mut self) {
        for command in ["FLUSHALL", "BGREWRITEAOF"] {
            redis::cmd(command).exec(&mut self.0).expect("the server is up");
        }
        let mut persistence = || {
            let info = redis::cmd("INFO").arg("persistence").query::<String>(&mut self.0);
            info.expect("the server is up")
        };
        while persistence().contains("aof_rewrite_in_progress:1") {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a sorted set has at least `count` members. Polls rarely, so that its commands hardly add to the counts.
    ///
    /// # Panics
    /// If it can't be reached, or that takes too long.
    pub(crate) fn await_count(&mut self, key: &str, count: u64) {
        let until = Instant::now() + PATIENCE;
        while redis::cmd("ZCARD").arg(key).query::<u64>(&mut self.0).expect("the server is up") < count {
            assert!(Instant::now() < until, "jobs are still under way");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Disables rewrites of the append-only file, each of which takes a process of its own.
    ///
    /// # Panics
    /// If it can't be reached.
    pub(crate) fn without_rewrites(mut self) -> Self {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("auto-aof-rewrite-percentage").arg(0);
        command.query::<()>(&mut self.0).expect("the server is up");
        self
    }
}
