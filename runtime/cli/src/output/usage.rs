//! Output of usage: what tenants have spent.

use std::time::Duration;

use comfy_table::{Attribute, Cell};
use sandhog_core::account::RunEnd;

pub use sandhog_api::{UsageBy as By, UsageReport as Report, UsageRow as Row};

use super::{Column, Paint, bytes, count, duration};
use crate::exit::Failure;

/// Renders usage as CSV, for spreadsheets.
///
/// # Errors
/// None are to be expected, as it is written to memory.
pub fn csv(report: &Report) -> Result<Vec<u8>, Failure> {
    let failed = |cause: &dyn std::fmt::Display| Failure::new(format!("can't write CSV: {cause}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = report.total.numbers().into_iter().map(|(name, _)| name);
    let heading: Vec<&str> = report.by.iter().map(|by| by.slug()).chain(names).collect();
    writer.write_record(heading).map_err(|cause| failed(&cause))?;
    for row in &report.rows {
        let names = report.by.iter().map(|by| row.name(*by).unwrap_or_default().to_owned());
        let numbers = row.numbers().into_iter().map(|(_, number)| number.to_string());
        writer.write_record(names.chain(numbers)).map_err(|cause| failed(&cause))?;
    }
    writer.into_inner().map_err(|cause| failed(&cause.error()))
}

/// Renders usage as a table, for people.
#[must_use]
pub fn table(report: &Report, paint: Paint) -> String {
    let days = format!("{} to {}, UTC", report.from, report.to);
    if report.rows.is_empty() {
        return format!("nothing was spent from {days}");
    }
    let mut columns: Vec<Column> = report.by.iter().map(|by| Column::Left(by.slug())).collect();
    columns.extend(RunEnd::ALL.map(|end| Column::Right(end.slug())));
    columns.extend(["fuel", "cpu", "time", "memory", "in", "out", "host calls"].map(Column::Right));
    let rows = report.rows.iter().map(|row| cells(row, &report.by));
    let mut total = cells(&report.total, &report.by);
    if let Some(first) = total.first_mut().filter(|_| !report.by.is_empty()) {
        *first = Cell::new("total");
    }
    let total = total.into_iter().map(|cell| cell.add_attribute(Attribute::Bold)).collect();
    let table = super::table(&columns, rows.chain([total]), paint);
    format!("{table}\n\n{}", paint.dim(&format!("{days}; memory is its peak for the whole time of a run")))
}

fn cells(row: &Row, by: &[By]) -> Vec<Cell> {
    let account = &row.account;
    let micros = |n| duration(Duration::from_micros(n));
    let mut cells: Vec<Cell> = by.iter().map(|by| Cell::new(row.name(*by).unwrap_or_default())).collect();
    cells.extend(RunEnd::ALL.map(|end| Cell::new(count(account.ended(end)))));
    let byte_seconds = u64::try_from(account.memory / 1_000_000).unwrap_or(u64::MAX);
    cells.extend([
        Cell::new(count(account.fuel.0)),
        Cell::new(micros(account.cpu_us)),
        Cell::new(micros(account.wall_us)),
        Cell::new(format!("{}·s", bytes(byte_seconds))),
        Cell::new(bytes(account.traffic.input.0)),
        Cell::new(bytes(account.traffic.output.0)),
        Cell::new(count(account.host_calls)),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_core::account::{Account, Traffic};
    use sandhog_core::budget::{Bytes, Fuel};
    use sandhog_core::outcome::Usage;

    fn row(day: &str, tenant: &str, plugin: &str) -> Row {
        let usage = Usage {
            fuel: Fuel(1_000),
            memory_peak: Bytes::mib(2),
            wall: Duration::from_secs(3),
            cpu: Duration::from_millis(4),
            host_calls: 5,
        };
        let traffic = Traffic { input: Bytes(6), output: Bytes(7) };
        let account = Account::of(RunEnd::Succeeded, usage, traffic);
        Row { day: Some(day.into()), tenant: Some(tenant.into()), plugin: Some(plugin.into()), account }
    }

    fn report(by: &[By]) -> Report {
        let rows = vec![row("d1", "acme", "hog"), row("d2", "acme", "hog"), row("d2", "globex", "hog")];
        Report::new("d1".into(), "d2".into(), by.to_vec(), rows)
    }

    #[test]
    fn what_is_not_told_apart_is_summed_and_the_total_is_all_of_it() {
        for (by, rows) in [(&[][..], 1), (&[By::Day], 2), (&[By::Tenant], 2), (&[By::Plugin], 2)] {
            let report = report(by);
            assert_eq!(report.rows.len(), rows, "{by:?}");
            let sum = report.rows.iter().fold(Account::default(), |sum, row| sum.and(&row.account));
            assert_eq!(sum, report.total.account);
            assert_eq!((sum.fuel, sum.ended(RunEnd::Succeeded)), (Fuel(3_000), 3));
        }
    }

    #[test]
    fn csv_is_exact() {
        let text = String::from_utf8(csv(&report(&[By::Plugin])).expect("memory")).expect("text");
        assert_eq!(
            text,
            "tenant,plugin,succeeded,retried,dead,cancelled,released,attempts,fuel,cpu_us,wall_us,memory_byte_us,\
             bytes_in,bytes_out,host_calls\n\
             acme,hog,2,0,0,0,0,2,2000,8000,6000000,12582912000000,12,14,10\n\
             globex,hog,1,0,0,0,0,1,1000,4000,3000000,6291456000000,6,7,5\n"
        );
    }

    #[test]
    fn a_table_ends_with_the_total() {
        let text = table(&report(&[By::Day]), Paint::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("day") && lines[3].starts_with("total"), "{text}");
        assert!(lines[3].contains("3.00k") && lines[3].contains("18.0 MiB·s"), "{text}");
        let none = table(&Report::new("d1".into(), "d2".into(), vec![], vec![]), Paint::Plain);
        assert_eq!(none, "nothing was spent from d1 to d2, UTC");
    }

    #[test]
    fn programs_get_the_numbers_by_name() {
        let json = serde_json::to_string(&report(&[By::Tenant])).expect("JSON");
        assert!(
            json.starts_with(r#"{"from":"d1","to":"d2","rows":[{"tenant":"acme","succeeded":2,"#),
            "{json}"
        );
        assert!(
            json.contains(r#""total":{"succeeded":3,"#)
                && json.contains(r#""memory_byte_us":18874368000000"#)
        );
    }
}
