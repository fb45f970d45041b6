//! Targets of the figures, reported beside the values, whether or not they are reached.

use comfy_table::{Table, presets};

use crate::figures::Figures;

/// A bound on a figure, or on its ratio to another one.
struct Target {
    /// Description for people.
    what: &'static str,
    of: Of,
    bound: Bound,
}

/// Value that is compared with a bound.
#[derive(Clone, Copy)]
enum Of {
    /// A figure.
    Value(Key),
    /// The ratio of the first figure to the second.
    Times(Key, Key),
}

/// Case, subject and metric of a figure.
type Key = (&'static str, &'static str, &'static str);

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    MoreThan(f64),
    AtMost(f64),
    LessThan(f64),
}

/// All targets, in the order of the cases.
const TARGETS: &[Target] = &[
    Target {
        what: "jobs a second at concurrency 1, to BullMQ's",
        of: throughput("throughput/c1", "sandhog", "bullmq"),
        bound: Bound::MoreThan(1.0),
    },
    Target {
        what: "jobs a second at concurrency 1, to those of BullMQ's Rust crate",
        of: throughput("throughput/c1", "sandhog", "bullmq-rust"),
        bound: Bound::MoreThan(1.0),
    },
    Target {
        what: "jobs a second at concurrency 100, to BullMQ's",
        of: throughput("throughput/c100", "sandhog", "bullmq"),
        bound: Bound::AtLeast(5.0),
    },
    Target {
        what: "jobs a second at concurrency 100, to those of BullMQ's Rust crate",
        of: throughput("throughput/c100", "sandhog", "bullmq-rust"),
        bound: Bound::AtLeast(2.0),
    },
    Target {
        what: "jobs a second through the broker alone at concurrency 100, to BullMQ's",
        of: throughput("throughput/c100", "sandhog-broker", "bullmq"),
        bound: Bound::AtLeast(10.0),
    },
    Target {
        what: "adds a second, to those of BullMQ's Rust crate",
        of: Of::Times(
            ("throughput/enqueue", "sandhog", "adds_per_s"),
            ("throughput/enqueue", "bullmq-rust", "adds_per_s"),
        ),
        bound: Bound::AtLeast(5.0),
    },
    Target {
        what: "from enqueue to start on an idle machine, p50",
        of: Of::Value(("latency/idle", "sandhog", "start_p50_ms")),
        bound: Bound::LessThan(1.0),
    },
    Target {
        what: "from enqueue to start on an idle machine, p99",
        of: Of::Value(("latency/idle", "sandhog", "start_p99_ms")),
        bound: Bound::LessThan(5.0),
    },
    Target {
        what: "an idle daemon's part of a core",
        of: Of::Value(("idle/tenants1", "sandhog", "percent")),
        bound: Bound::LessThan(1.0),
    },
    Target {
        what: "an idle daemon's Redis commands a second",
        of: Of::Value(("idle/tenants1", "sandhog", "redis_commands_per_s")),
        bound: Bound::LessThan(5.0),
    },
    Target {
        what: "commands of Redis a second for ten idle daemons with ten thousand tenants",
        of: Of::Value(("idle/tenants10000-daemons10", "sandhog", "redis_commands_per_s")),
        bound: Bound::AtMost(50.0),
    },
    Target {
        what: "processor time of a job's sandbox, to that of wasmtime's bare calls",
        of: Of::Times(("sandbox/echo", "sandhog", "us_per_job"), ("sandbox/echo", "wasmtime", "us_per_job")),
        bound: Bound::AtMost(1.25),
    },
    Target {
        what: "p99 beside 1,000 jobs that spin, less twice that without them",
        of: Of::Value(("spinners/beside-1000", "sandhog", "p99_past_twice_alone_ms")),
        bound: Bound::LessThan(5.0),
    },
    Target {
        what: "the same with the embedded broker",
        of: Of::Value(("spinners/beside-1000", "sandhog-embedded", "p99_past_twice_alone_ms")),
        bound: Bound::LessThan(5.0),
    },
    beside("p99 beside hogs that compute", "isolation/hogs8", "sandhog"),
    beside("beside hogs that list a directory", "isolation/files", "sandhog"),
    beside("beside hogs that open files", "isolation/opens", "sandhog"),
    beside("beside hogs that send requests", "isolation/http-requests", "sandhog"),
    beside("beside hogs that open connections", "isolation/http-connections", "sandhog"),
    beside("beside hogs that look up names", "isolation/names", "sandhog"),
    beside("beside hogs that read their state", "isolation/state", "sandhog"),
    beside("beside hogs that log", "isolation/log", "sandhog"),
    Target {
        what: "weight 3 to weight 1: fuel, with as many runs of each",
        of: Of::Value(("shares/4-to-4", "sandhog", "off_percent")),
        bound: Bound::AtMost(10.0),
    },
    Target {
        what: "the same, with ten times as many runs of weight 1",
        of: Of::Value(("shares/40-to-4", "sandhog", "off_percent")),
        bound: Bound::AtMost(10.0),
    },
    Target {
        what: "the same, with ten times as many runs of weight 3",
        of: Of::Value(("shares/4-to-40", "sandhog", "off_percent")),
        bound: Bound::AtMost(10.0),
    },
    Target {
        what: "a start with a thousand plugins",
        of: Of::Value(("plugins/1000", "sandhog", "start_ms")),
        bound: Bound::LessThan(1000.0),
    },
    Target {
        what: "resident memory with a thousand plugins, ten of them used",
        of: Of::Value(("plugins/1000", "sandhog", "resident_mib")),
        bound: Bound::LessThan(300.0),
    },
    Target {
        what: "jobs a second of 100 busy tenants, to those of one",
        of: Of::Times(jobs_of("growth/tenants-100"), jobs_of("growth/tenants-1")),
        bound: Bound::AtLeast(0.7),
    },
    Target {
        what: "jobs a second of 1000 busy tenants, to those of one",
        of: Of::Times(jobs_of("growth/tenants-1000"), jobs_of("growth/tenants-1")),
        bound: Bound::AtLeast(0.7),
    },
    Target {
        what: "processor time of Redis by job once as many go as come, to the first day's",
        of: Of::Times(
            ("growth/keep-steady", "sandhog", "redis_us"),
            ("growth/keep-first-day", "sandhog", "redis_us"),
        ),
        bound: Bound::AtMost(1.1),
    },
    over_wasmtime("image resize: time over wasmtime's own", "compute/resize"),
    over_wasmtime("JSON transform: time over wasmtime's own", "compute/json"),
    over_wasmtime("SHA-256: time over wasmtime's own", "compute/sha256"),
];

const fn jobs_of(case: &'static str) -> Key {
    (case, "sandhog", "jobs_per_s")
}

const fn throughput(case: &'static str, subject: &'static str, peer: &'static str) -> Of {
    Of::Times((case, subject, "jobs_per_s"), (case, peer, "jobs_per_s"))
}

/// Bound on what quick jobs take beside hogs.
const fn beside(what: &'static str, case: &'static str, subject: &'static str) -> Target {
    Target { what, of: Of::Value((case, subject, "p99_ms")), bound: Bound::LessThan(20.0) }
}

const fn over_wasmtime(what: &'static str, case: &'static str) -> Target {
    Target { what, of: Of::Value((case, "sandhog", "over_wasmtime_percent")), bound: Bound::AtMost(2.0) }
}

/// Returns a table with a row for each target whose figures were measured, or `None` if there is no such target.
pub(crate) fn table(figures: &Figures) -> Option<Table> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["what", "target", "measured", ""]);
    for target in TARGETS {
        if let Some(measured) = target.of.measured(figures) {
            let verdict = if target.bound.holds(measured) { "met" } else { "MISSED" };
            let measured = target.of.shown(measured);
            table.add_row([target.what, &target.bound.shown(target.of), &measured, verdict]);
        }
    }
    (!table.is_empty()).then_some(table)
}

impl Of {
    fn measured(self, figures: &Figures) -> Option<f64> {
        let value = |(case, subject, metric)| figures.value(case, subject, metric);
        match self {
            Self::Value(of) => value(of),
            Self::Times(of, to) => Some(value(of)? / value(to)?),
        }
    }

    /// Formats a value, with its unit if the metric's name ends with one.
    fn shown(self, value: f64) -> String {
        match self {
            Self::Value((_, _, metric)) if metric.ends_with("_ms") => format!("{value:.2} ms"),
            Self::Value((_, _, metric)) if metric.starts_with("percent") => format!("{value:.2} %"),
            Self::Value(_) => format!("{value:.2}"),
            Self::Times(..) => format!("{value:.2} times"),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::MoreThan(bound) => value > bound,
            Self::AtMost(bound) => value <= bound,
            Self::LessThan(bound) => value < bound,
        }
    }

    fn shown(self, of: Of) -> String {
        let (words, bound) = match self {
            Self::AtLeast(bound) => ("at least", bound),
            Self::MoreThan(bound) => ("more than", bound),
            Self::AtMost(bound) => ("at most", bound),
            Self::LessThan(bound) => ("under", bound),
        };
        format!("{words} {}", of.shown(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_whether_it_is_met() {
        let mut figures = Figures::default();
        assert!(table(&figures).is_none());
        for (subject, value) in [("sandhog", 900.0), ("bullmq", 100.0), ("bullmq-rust", 500.0)] {
            figures.add("throughput/c100", subject, "jobs_per_s", &[value]);
        }
        let table = table(&figures).expect("two of them were measured").to_string();
        let rows: Vec<&str> = table.lines().filter(|line| line.contains("times")).collect();
        assert!(rows[0].contains("at least 5.00 times") && rows[0].contains("9.00 times"), "{}", rows[0]);
        assert!(rows[0].contains(" met ") && rows[1].contains(" MISSED "), "{table}");
    }

    #[test]
    fn a_bound_has_the_unit_of_its_figure() {
        let of = Of::Value(("latency/idle", "sandhog", "start_p50_ms"));
        assert_eq!(Bound::LessThan(1.0).shown(of), "under 1.00 ms");
        assert!(Bound::LessThan(1.0).holds(0.99) && !Bound::LessThan(1.0).holds(1.0));
    }
}
