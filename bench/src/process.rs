//! Resource usage of a process, from `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A process of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// Usage of a process since its start, by all its present threads together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor time, to a hundredth of a second.
    pub(crate) processor: Duration,
    /// Number of times that one of its threads left a processor, to wait or as another thread had its turn.
    pub(crate) context_switches: u64,
    /// Number of minor page faults: memory had to be mapped, without a read from a disk.
    pub(crate) page_faults: u64,
}

impl Used {
    /// Returns the usage since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(earlier.processor),
            context_switches: self.context_switches.saturating_sub(earlier.context_switches),
            page_faults: self.page_faults.saturating_sub(earlier.page_faults),
        }
    }
}

impl std::iter::Sum for Used {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            processor: sum.processor + one.processor,
            context_switches: sum.context_switches + one.context_switches,
            page_faults: sum.page_faults + one.page_faults,
        })
    }
}

impl Process {
    /// # Panics
    /// If the process is gone.
    pub(crate) fn used(self) -> Used {
        let stat = self.read("stat");
        // The command's name may contain spaces; the fields after its closing bracket don't.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |nth: usize| fields[nth].parse::<u64>().expect("a number");
        Used {
            processor: Duration::from_millis((number(11) + number(12)) * 10),
            context_switches: self.context_switches(),
            page_faults: number(7),
        }
    }

    fn context_switches(self) -> u64 {
        let threads = fs::read_dir(self.folder().join("task")).expect("the process runs");
        let statuses = threads.flatten().filter_map(|thread| {
            // A thread may end at any time.
            fs::read_to_string(thread.path().join("status")).ok()
        });
        let of_one = |status: String| -> u64 {
            let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
            lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
        };
        statuses.map(of_one).sum()
    }

    /// Returns the path of the library that provides its `malloc`, or `None` if that is part of the program itself.
    pub(crate) fn libc(self) -> Option<PathBuf> {
        let maps = self.read("maps");
        let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        paths.map(PathBuf::from).find(|path| path.ends_with("libc.so.6"))
    }

    fn read(self, name: &str) -> String {
        fs::read_to_string(self.folder().join(name)).expect("the process runs")
    }

    fn folder(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0))
    }
}
