//! Figures: the results, the table that is printed, and the files that are kept.
//!
//! `bench/results.json` is an array with an object for each figure; `bench/machine.json` describes the machine and the
//! versions. A run of some of the cases replaces the figures of those, and leaves the others as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// One figure: the median of some rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The measurement, such as `throughput/c100`; begins with the name of the case.
    pub(crate) case: String,
    /// The system measured, such as `sandhog` or `bullmq`.
    pub(crate) subject: String,
    /// The metric with its unit, such as `jobs_per_s` or `p99_ms`.
    pub(crate) metric: String,
    /// The value, in the unit of the metric.
    pub(crate) value: f64,
    /// Number of rounds that it is the median of.
    pub(crate) rounds: usize,
}

/// Figures in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    all: Vec<Figure>,
    only: Option<String>,
}

impl Figures {
    /// Creates an empty list. If there is a `subject`, only that one is to be measured.
    pub(crate) fn only(subject: Option<String>) -> Self {
        Self { all: Vec::new(), only: subject }
    }

    /// Whether a subject is to be measured.
    pub(crate) fn wants(&self, subject: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == subject)
    }

    /// Adds the median of what some rounds measured.
    ///
    /// # Panics
    /// If there was no round.
    pub(crate) fn add(&mut self, case: &str, subject: &str, metric: &str, rounds: &[f64]) {
        let figure = Figure {
            case: case.to_owned(),
            subject: subject.to_owned(),
            metric: metric.to_owned(),
            value: median(rounds),
            rounds: rounds.len(),
        };
        self.all.push(figure);
    }

    /// Returns the value of a figure, or `None` if it wasn't measured.
    pub(crate) fn value(&self, case: &str, subject: &str, metric: &str) -> Option<f64> {
        let is_it =
            |figure: &&Figure| figure.case == case && figure.subject == subject && figure.metric == metric;
        self.all.iter().find(is_it).map(|figure| figure.value)
    }

    /// Returns a table with a row for each case and metric, and a column for each subject.
    pub(crate) fn table(&self) -> Table {
        let mut subjects: Vec<&str> = Vec::new();
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for figure in &self.all {
            if !subjects.contains(&figure.subject.as_str()) {
                subjects.push(&figure.subject);
            }
            let row = (figure.case.as_str(), figure.metric.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["case", "metric"].iter().chain(&subjects));
        for (case, metric) in rows {
            let values = subjects
                .iter()
                .map(|subject| self.value(case, subject, metric).map_or_else(String::new, shown));
            table.add_row([case.to_owned(), metric.to_owned()].into_iter().chain(values));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Reads the figures that an earlier run has kept.
    ///
    /// # Errors
    /// If the file can't be read, or has another format.
    pub(crate) fn kept() -> anyhow::Result<Self> {
        let path = folder().join("results.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(Self { all: serde_json::from_slice(&fs::read(path)?)?, only: None })
    }

    /// Replaces the figures of the named cases by those of `newer`, in their old place, or at the end.
    pub(crate) fn replaced(self, cases: &[&str], newer: Self) -> Self {
        let of = |figure: &Figure| figure.case.split('/').next().unwrap_or_default().to_owned();
        let mut newer_by_case: BTreeMap<String, Vec<Figure>> = BTreeMap::new();
        for figure in newer.all {
            newer_by_case.entry(of(&figure)).or_default().push(figure);
        }
        let mut all = Vec::new();
        for figure in self.all {
            let case = of(&figure);
            if let Some(newer) = newer_by_case.remove(&case) {
                all.extend(newer);
            }
            if !cases.contains(&case.as_str()) {
                all.push(figure);
            }
        }
        all.extend(newer_by_case.into_values().flatten());
        Self { all, only: None }
    }

    /// Writes the figures to the files, with the machine that they were measured on.
    ///
    /// # Errors
    /// If a file can't be written.
    pub(crate) fn keep(&self, machine: &Machine) -> anyhow::Result<()> {
        let lines: Vec<String> = self.all.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        fs::write(folder().join("results.json"), format!("[\n{}\n]\n", lines.join(",\n")))?;
        fs::write(folder().join("machine.json"), serde_json::to_string_pretty(machine)? + "\n")?;
        Ok(())
    }
}

/// Returns the folder of this crate, in the checkout that it was built from.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Returns the median; of an even number of values, the mean of the two in the middle.
///
/// # Panics
/// If there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "at least one round");
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// Formats a value, with fewer decimals the larger it is.
fn shown(value: f64) -> String {
    match value.abs() {
        100.0.. => grouped(value),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Formats a rounded value with its thousands separated.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cases: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (case, value) in cases {
            figures.add(case, "sandhog", "jobs_per_s", &[*value]);
        }
        figures
    }

    #[test]
    fn a_run_of_one_case_leaves_the_others_as_they_are() {
        let kept = of(&[("a/1", 1.0), ("b", 2.0), ("a/2", 3.0), ("c", 4.0)]);
        let all = kept.replaced(&["a", "d"], of(&[("a/1", 5.0), ("d", 6.0)]));
        assert_eq!(all.all, of(&[("a/1", 5.0), ("b", 2.0), ("c", 4.0), ("d", 6.0)]).all);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn numbers_are_shown_with_what_says_something() {
        let numbers = [1_234_567.8, 999.6, 12.34, 0.123];
        assert_eq!(numbers.map(shown), ["1,234,568", "1,000", "12.3", "0.12"]);
    }
}
