//! Totals of CSV columns, by the values of another column.

use std::collections::BTreeMap;

use csv::{ReaderBuilder, StringRecord, Trim};
use rust_decimal::Decimal;
use sandhog_sdk::{Context, OrFail, Result, handler, info, permanent};
use serde::{Deserialize, Serialize};

use crate::folder::{Found, each_file};

/// Which tables to sum up, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvInput {
    /// A granted folder; its `.csv` files are read, not those of folders inside.
    pub dir: String,
    /// The column whose values make the groups; without it all rows are one group, named `all`.
    pub group_by: Option<String>,
    /// The columns to sum.
    #[serde(default)]
    pub sum: Vec<String>,
    /// What is between the columns: one ASCII character.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// How many groups to list, those with the most rows first.
    #[serde(default = "hundred")]
    pub top: usize,
}

/// The totals.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct CsvReport {
    /// How many files were read.
    pub files: u64,
    /// How many rows count.
    pub rows: u64,
    /// How many rows don't: a wrong number of columns, text where a number is to be, bytes that aren't text.
    pub malformed_rows: u64,
    /// The sums over all groups, exact, by column.
    pub totals: BTreeMap<String, Decimal>,
    /// How many groups there are; fewer may be listed.
    pub groups_found: usize,
    /// The groups with the most rows.
    pub groups: Vec<Group>,
}

/// The rows that have one value in the column grouped by.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct Group {
    /// That value.
    pub name: String,
    /// How many rows there are.
    pub rows: u64,
    /// Their sums, exact, by column.
    pub sums: BTreeMap<String, Decimal>,
}

/// A group in the making; the sums are in the order in which the job names the columns.
#[derive(Debug, Clone)]
struct Tally {
    rows: u64,
    sums: Vec<Decimal>,
}

/// The tables read so far.
struct Tables<'a> {
    input: &'a CsvInput,
    groups: BTreeMap<String, Tally>,
    malformed_rows: u64,
}

/// Where a file has the columns that matter.
struct Columns {
    group_by: Option<usize>,
    sum: Vec<usize>,
}

const GROUP_OF_ALL: &str = "all";

fn comma() -> char {
    ','
}

fn hundred() -> usize {
    100
}

/// Sums up the CSV files of a folder.
#[handler(kind = "report.csv")]
pub fn csv_report(ctx: &Context, input: CsvInput) -> Result<CsvReport> {
    let delimiter = u8::try_from(input.delimiter).ok().filter(u8::is_ascii);
    let delimiter = delimiter.or_permanent("`delimiter` is one ASCII character")?;
    let mut tables = Tables { input: &input, groups: BTreeMap::new(), malformed_rows: 0 };
    let files = each_file(ctx, &input.dir, ".csv", |file| tables.read(file, delimiter))?;
    let report = tables.report(files);
    ctx.state().increment("reports.csv", 1)?;
    info!(ctx, "summed up", files = files, rows = report.rows, malformed_rows = report.malformed_rows);
    Ok(report)
}

impl Tables<'_> {
    fn read(&mut self, file: Found, delimiter: u8) -> Result<()> {
        let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).from_reader(file.content);
        let headers = reader.headers().or_permanent(format_args!("read the head of {}", file.path))?;
        if headers.is_empty() {
            return Ok(());
        }
        let columns = self.columns(headers, &file.path)?;
        let mut row = StringRecord::new();
        loop {
            match reader.read_record(&mut row) {
                Ok(true) => self.add(&row, &columns),
                Ok(false) => return Ok(()),
                Err(error) if error.is_io_error() => {
                    return Err(error).or_transient(format_args!("read {}", file.path));
                }
                Err(_) => self.malformed_rows += 1,
            }
        }
    }

    fn columns(&self, headers: &StringRecord, path: &str) -> Result<Columns> {
        let find = |name: &String| {
            headers.iter().position(|header| header == name).ok_or_else(|| {
                let there: Vec<&str> = headers.iter().collect();
                permanent(format_args!("{path} has no column `{name}`; it has {}", there.join(", ")))
            })
        };
        Ok(Columns {
            group_by: self.input.group_by.as_ref().map(find).transpose()?,
            sum: self.input.sum.iter().map(find).collect::<Result<_>>()?,
        })
    }

    fn add(&mut self, row: &StringRecord, columns: &Columns) {
        let name = columns.group_by.map_or(Some(GROUP_OF_ALL), |column| row.get(column));
        let numbers: Option<Vec<Decimal>> =
            columns.sum.iter().map(|column| row.get(*column)?.parse().ok()).collect();
        let (Some(name), Some(numbers)) = (name, numbers) else {
            self.malformed_rows += 1;
            return;
        };
        if !self.groups.contains_key(name) {
            self.groups.insert(name.to_owned(), Tally::empty(numbers.len()));
        }
        // A sum past 28 digits is no sum that anybody can use; its row is left out whole.
        let added = self.groups.get_mut(name).is_some_and(|tally| tally.add(&numbers));
        if !added {
            self.malformed_rows += 1;
        }
    }

    fn report(self, files: u64) -> CsvReport {
        let mut total = Tally::empty(self.input.sum.len());
        for tally in self.groups.values() {
            total.rows += tally.rows;
            for (sum, more) in total.sums.iter_mut().zip(&tally.sums) {
                *sum = sum.saturating_add(*more);
            }
        }
        let named = |tally: &Tally| self.input.sum.iter().cloned().zip(tally.sums.iter().copied()).collect();
        let groups_found = self.groups.len();
        let mut groups: Vec<Group> = self
            .groups
            .iter()
            .map(|(name, tally)| Group { name: name.clone(), rows: tally.rows, sums: named(tally) })
            .collect();
        // Stable: groups of the same size stay in the order of their names.
        groups.sort_by_key(|group| std::cmp::Reverse(group.rows));
        groups.truncate(self.input.top);
        CsvReport {
            files,
            rows: total.rows,
            malformed_rows: self.malformed_rows,
            totals: named(&total),
            groups_found,
            groups,
        }
    }
}

impl Tally {
    fn empty(columns: usize) -> Self {
        Self { rows: 0, sums: vec![Decimal::ZERO; columns] }
    }

    /// Adds a row, or changes nothing if a sum would overflow.
    fn add(&mut self, numbers: &[Decimal]) -> bool {
        let sums = self.sums.iter().zip(numbers).map(|(sum, number)| sum.checked_add(*number));
        match sums.collect() {
            Some(sums) => {
                self.sums = sums;
                self.rows += 1;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::{FakeHost, StopReason};
    use std::path::Path;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        folder
    }

    fn input(dir: &Path) -> CsvInput {
        CsvInput {
            dir: dir.to_str().expect("text").to_owned(),
            group_by: Some("country".into()),
            sum: vec!["amount".into()],
            delimiter: ',',
            top: 100,
        }
    }

    fn report(input: CsvInput) -> Result<CsvReport> {
        FakeHost::new().run(|ctx| csv_report(ctx, input)).result
    }

    fn sums(report: &CsvReport) -> Vec<(&str, u64, String)> {
        report.groups.iter().map(|g| (g.name.as_str(), g.rows, g.sums["amount"].to_string())).collect()
    }

    #[test]
    fn rows_of_all_files_are_summed_by_group_and_exactly() {
        let folder = folder(&[
            ("a.csv", b"country,amount\nde,0.1\nfr,5\nde,0.2\n"),
            ("b.csv", b"amount,note,country\n -1.50 ,\"a, b\",fr\n1000000000000.01,,de\n"),
            ("notes.txt", b"country,amount\nde,99\n"),
        ]);
        let report = report(input(folder.path())).expect("a report");
        assert_eq!((report.files, report.rows, report.malformed_rows), (2, 5, 0));
        assert_eq!(sums(&report), [("de", 3, "1000000000000.31".into()), ("fr", 2, "3.50".into())]);
        assert_eq!(report.totals["amount"].to_string(), "1000000000003.81");
    }

    #[test]
    fn malformed_rows_are_counted_and_left_out() {
        let folder = folder(&[(
            "a.csv",
            b"country,amount\nde,1\nde\nde,1,2\nde,lots\nde,\nd\xff,1\nde,99999999999999999999999999999\nde,2\n",
        )]);
        let report = report(input(folder.path())).expect("a report");
        assert_eq!((report.rows, report.malformed_rows), (2, 6));
        assert_eq!(sums(&report), [("de", 2, "3".into())]);
    }

    #[test]
    fn without_a_column_to_group_by_all_rows_are_one_group() {
        let folder = folder(&[("a.csv", b"x;amount\n1;2\n1;3\n")]);
        let input = CsvInput { group_by: None, delimiter: ';', ..input(folder.path()) };
        assert_eq!(sums(&report(input).expect("a report")), [("all", 2, "5".into())]);
    }

    #[test]
    fn the_largest_groups_are_listed_and_all_are_counted() {
        let folder = folder(&[("a.csv", b"country,amount\na,1\nb,1\nb,1\nc,1\n")]);
        let report = report(CsvInput { top: 2, ..input(folder.path()) }).expect("a report");
        assert_eq!(sums(&report), [("b", 2, "2".into()), ("a", 1, "1".into())]);
        assert_eq!((report.groups_found, report.rows), (3, 4));
        assert_eq!(report.totals["amount"].to_string(), "4");
    }

    #[test]
    fn an_empty_folder_or_file_is_an_empty_report() {
        let empty = report(input(folder(&[("a.csv", b"")]).path())).expect("a report");
        assert_eq!((empty.files, empty.rows, empty.groups_found), (1, 0, 0));
        let empty = report(input(folder(&[]).path())).expect("a report");
        assert_eq!((empty.files, empty.rows), (0, 0));
    }

    #[test]
    fn a_column_that_is_not_there_is_permanent_and_names_those_that_are() {
        let folder = folder(&[("a.csv", b"land,amount\nde,1\n")]);
        let failure = report(input(folder.path())).expect_err("no such column");
        assert!(failure.is_permanent());
        assert!(
            failure.message().ends_with("a.csv has no column `country`; it has land, amount"),
            "{failure}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_permanent() {
        let failure = report(input(Path::new("/no/such"))).expect_err("no such folder");
        assert!(failure.is_permanent(), "{failure}");
    }

    #[test]
    fn a_report_is_counted_once_it_is_made() {
        let folder = folder(&[("a.csv", b"country,amount\nde,1\n")]);
        let mut host = FakeHost::new().state("reports.csv", &7);
        let run = host.run(|ctx| csv_report(ctx, input(folder.path())));
        assert_eq!(run.progress.last().and_then(|last| last.total), Some(1));
        assert_eq!(host.stored("reports.csv"), Some(8));
        let failed = host.run(|ctx| csv_report(ctx, input(Path::new("/no/such"))));
        assert!(failed.result.is_err());
        assert_eq!(host.stored("reports.csv"), Some(8));
    }

    #[test]
    fn a_stop_is_heeded_between_files() {
        let folder = folder(&[("a.csv", b"country,amount\nde,1\n")]);
        let mut host = FakeHost::new().stop_requested(StopReason::Draining);
        let failure = host.run(|ctx| csv_report(ctx, input(folder.path()))).result.expect_err("stopped");
        assert!(!failure.is_permanent());
    }

    #[test]
    fn sums_are_text_in_the_output_so_that_no_digit_is_lost() {
        let folder = folder(&[("a.csv", b"country,amount\nde,12345678901234567890.12\n")]);
        let dir = folder.path().to_str().expect("text");
        let payload = serde_json::json!({ "dir": dir, "group_by": "country", "sum": ["amount"] }).to_string();
        let output = FakeHost::new().run_payload::<csv_report>(payload).result.expect("a report");
        let output = String::from_utf8(output).expect("JSON");
        assert!(output.contains(r#""totals":{"amount":"12345678901234567890.12"}"#), "{output}");
    }
}
