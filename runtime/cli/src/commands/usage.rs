//! `sandhog usage`: shows what tenants have spent.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use sandhog_api::{parse_day, show_day};
use sandhog_core::account::Day;
use sandhog_core::id::{PluginName, TenantId};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::usage::{self as render, By, Report, Row};
use crate::target::Target;

/// Show what tenants have spent, by day, tenant and plugin
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Usage {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Of one plugin only
    #[arg(long, value_name = "NAME")]
    plugin: Option<PluginName>,
    /// From this day on, such as 2026-11-24; days are in UTC
    #[arg(long, value_name = "DAY", value_parser = parse_day, conflicts_with = "days")]
    from: Option<Day>,
    /// Up to this day, included [default: today]
    #[arg(long, value_name = "DAY", value_parser = parse_day, conflicts_with = "days")]
    to: Option<Day>,
    /// The last so many days, today included
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// A line for each of these; what isn't named is summed
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "day,tenant,plugin", value_parser = bys())]
    by: Vec<By>,
    /// For whom
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: UsageFormat,
}

/// How usage is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UsageFormat {
    /// For people, rounded, with a total.
    Table,
    /// For spreadsheets: a heading and a line for each row, exact.
    Csv,
    /// For programs, exact, with a total; as with --json.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  sandhog usage --days 7 --by day
  sandhog usage --from 2026-11-01 --to 2026-11-30 --by tenant,plugin --format csv";

fn bys() -> impl TypedValueParser<Value = By> {
    let slugs = PossibleValuesParser::new(By::ALL.map(By::slug));
    slugs.map(|slug| By::from_slug(&slug).expect("only slugs are possible"))
}

impl Usage {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let report = self.report(&client).await?;
        match (self.format, console.format) {
            (UsageFormat::Json, _) | (UsageFormat::Table, Format::Json) => console.json(&report)?,
            (UsageFormat::Csv, _) => console.bytes(&render::csv(&report)?)?,
            (UsageFormat::Table, Format::People) => {
                console.result(&render::table(&report, console.paint()))?;
            }
        }
        Ok(Exit::Ok)
    }

    async fn report(&self, client: &Client) -> Result<Report, Failure> {
        let today = Day::of(Clock::system().now());
        let (first, last) = match (self.from, self.to) {
            (None, None) => (today.before(self.days - 1), today),
            (from, to) => (from.unwrap_or(Day(0)), to.unwrap_or(today)),
        };
        if first > last {
            let (first, last) = (show_day(first), show_day(last));
            return Err(Failure::new(format!("{first} is after {last}")));
        }
        let mut rows = Vec::new();
        for tenant in client.tenants(self.tenant.as_ref()).await? {
            let usage = client.usage(&tenant, first..=last).await?;
            let wanted =
                usage.into_iter().filter(|of| self.plugin.as_ref().is_none_or(|it| *it == of.plugin));
            rows.extend(wanted.map(|of| Row {
                day: Some(show_day(of.day)),
                tenant: Some(tenant.to_string()),
                plugin: Some(of.plugin.to_string()),
                account: of.account,
            }));
        }
        Ok(Report::new(show_day(first), show_day(last), self.by.clone(), rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_shown() {
        for (text, day) in [("1970-01-01", 0), ("2026-11-24", 20_781)] {
            assert_eq!(parse_day(text), Ok(Day(day)));
            assert_eq!(show_day(Day(day)), text);
        }
        for bad in ["1969-12-31", "24.11.2026", "2026-13-01", ""] {
            assert!(parse_day(bad).is_err(), "{bad}");
        }
        assert_eq!(show_day(Day(u32::MAX)), "after the end of time");
    }
}
