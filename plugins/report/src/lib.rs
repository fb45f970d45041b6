//! Sums up the files of a granted folder: CSV tables by kind `report.csv`, logs by kind `report.log`.
//!
//! ```json
//! { "dir": "/sales", "group_by": "country", "sum": ["amount"] }
//! { "dir": "/logs", "top": 10 }
//! ```
//! A row or line that is malformed is counted and left out; it doesn't spoil the rest. Each report made adds 1 to the
//! state keys `reports.csv` or `reports.log`, exactly once however often its job was tried.

mod folder;
mod log_line;
mod logs;
mod tables;

pub use logs::{LogInput, LogReport, log_report};
pub use tables::{CsvInput, CsvReport, Group, csv_report};

sandhog_sdk::export!(csv_report, log_report);
