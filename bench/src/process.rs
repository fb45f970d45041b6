//! What a process has used so far, as `/proc` has it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A process of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// What it has used since its start, all its present threads together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Time on processors, to a hundredth of a second.
    pub(crate) processor: Duration,
    /// How often one of its threads left a processor, to wait or because another had its turn.
    pub(crate) context_switches: u64,
    /// How often memory had to be mapped that it touched, with no need to read it from a disk.
    pub(crate) page_faults: u64,
}

impl Used {
    /// What was used since `earlier`.
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
        // The command's name may hold spaces; what follows its last bracket doesn't.
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

    /// Where the library lies that it has its `malloc` from; none if that is part of the program itself.
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
