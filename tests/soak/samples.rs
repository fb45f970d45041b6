//! What is looked at as the run goes on: the daemons' processes, the server, the jobs.

use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use redis::aio::MultiplexedConnection;
use sandhog_broker::Broker;
use sandhog_core::id::TenantId;
use sandhog_tests::Daemon;

use crate::trend::{Point, Trend};

/// Something that must not grow, and all that was seen of it.
struct Series {
    name: String,
    /// How much more of it is no growth, however little there is.
    leeway: f64,
    points: Vec<Point>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Samples(Vec<Series>);

impl Samples {
    /// Looks at everything once, so long after the start.
    pub(crate) async fn take(
        &mut self,
        at: Duration,
        daemons: &[Daemon],
        redis: &mut MultiplexedConnection,
        broker: &dyn Broker,
        tenants: &[TenantId],
    ) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        for (n, daemon) in (1..).zip(daemons) {
            seen.push((
                format!("daemon {n}: resident memory, MiB"),
                8.0,
                mebibytes(daemon.resident() as f64),
            ));
            if let Some(files) = daemon.open_files() {
                seen.push((format!("daemon {n}: open files"), 4.0, files as f64));
            }
            seen.push((format!("daemon {n}: threads"), 4.0, daemon.threads() as f64));
        }
        let keys: u64 = redis::cmd("DBSIZE").query_async(redis).await?;
        seen.push(("Redis: keys".to_owned(), 100.0, keys as f64));
        let memory = mebibytes(info(redis, "memory", "used_memory").await?);
        seen.push(("Redis: memory, MiB".to_owned(), 4.0, memory));
        seen.push(("Redis: clients".to_owned(), 2.0, info(redis, "clients", "connected_clients").await?));
        let mut under_way = 0;
        for tenant in tenants {
            under_way += broker.counts(tenant).await?.unfinished();
        }
        seen.push(("jobs on their way".to_owned(), 50.0, under_way as f64));
        self.add(at, seen);
        Ok(())
    }

    fn add(&mut self, at: Duration, seen: Vec<(String, f64, f64)>) {
        for (n, (name, leeway, value)) in seen.into_iter().enumerate() {
            if self.0.len() == n {
                self.0.push(Series { name, leeway, points: Vec::new() });
            }
            self.0[n].points.push((at.as_secs_f64(), value));
        }
    }

    /// The latest look, on one line.
    pub(crate) fn latest(&self) -> String {
        let latest =
            |series: &Series| series.points.last().map(|(_, value)| format!("{}: {value:.1}", series.name));
        self.0.iter().filter_map(latest).collect::<Vec<_>>().join("; ")
    }

    /// How each of them went, and whether all are flat.
    pub(crate) fn verdict(&self) -> (Table, bool) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["", "second quarter", "third", "last", "an hour", ""]);
        let mut all_flat = true;
        for series in &self.0 {
            let trend = Trend::of(&series.points, series.leeway);
            all_flat &= trend.is_flat;
            let verdict = if trend.is_flat { "flat" } else { "GROWS" };
            let numbers = trend.medians.map(|median| format!("{median:.1}"));
            let row = numbers.into_iter().chain([format!("{:+.1}", trend.per_hour), verdict.to_owned()]);
            table.add_row(std::iter::once(series.name.clone()).chain(row));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        (table, all_flat)
    }
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

async fn info(redis: &mut MultiplexedConnection, section: &str, field: &str) -> anyhow::Result<f64> {
    let info: String = redis::cmd("INFO").arg(section).query_async(redis).await?;
    let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(found.with_context(|| format!("no {field} in INFO {section}"))?.trim().parse()?)
}
