//! `sandhog jobs`: lists jobs, and counts them by state.

use std::time::Duration;

use clap::Args;
use sandhog_broker::{Cursor, Query};
use sandhog_config::units::parse_time;
use sandhog_core::id::TenantId;
use sandhog_core::job::State;
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;

use crate::client::{Client, Page};
use crate::commands::selection::{Selection, parse_cursor, show_cursor};
use crate::commands::wait::{Deadline, wait_until_idle};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::job::{self as render, CountsDocument, PageDocument, Tenants, UnreadDocument};
use crate::target::Target;

/// List jobs, and count them by state
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Jobs {
    #[command(flatten)]
    which: Selection,
    /// How many at most, of each tenant
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = limit())]
    limit: u32,
    /// Go on behind this place in the list, which the page before has named
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor, requires = "state")]
    after: Option<Cursor>,
    /// With --json: have payloads and outputs too
    #[arg(long)]
    payloads: bool,
    /// Wait until no job of the tenants is waiting or running any more
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait", allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

const NOTES: &str = "\
Of one state, those waiting are listed in the order in which they go, those final with the latest first. Without --state,
jobs of every state are listed, the latest first, and there are no further pages.

Examples:
  sandhog jobs --state dead --kind image.thumbnail --since 2h
  sandhog jobs --state ready --reason no-plugin
  sandhog jobs --json --state dead --payloads";

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(Query::LIMIT_MAX))
}

impl Jobs {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let tenants = client.tenants(self.which.tenant.as_ref()).await?;
        if self.after.is_some() && tenants.len() > 1 {
            return Err(
                Failure::new("a cursor is a place in the list of one tenant").help("name it: --tenant")
            );
        }
        if self.wait {
            wait_until_idle(&client, &tenants, Deadline::new(self.timeout), console).await?;
        }
        let mut pages = Vec::new();
        for tenant in &tenants {
            let page = self.of_tenant(&client, tenant).await?;
            pages.push((tenant, page, client.counts(tenant).await?));
        }
        match console.format {
            Format::Json => console.json(&self.document(pages))?,
            Format::People => {
                let (text, more) = self.text(&pages, console);
                console.result(&text)?;
                more.iter().for_each(|more| console.remark(more));
            }
        }
        Ok(Exit::Ok)
    }

    fn document(&self, pages: Vec<(&TenantId, Page, sandhog_broker::Counts)>) -> PageDocument {
        let mut document = PageDocument::default();
        for (tenant, Page { jobs, unread, next, .. }, counts) in pages {
            document.jobs.extend(jobs.into_iter().map(|(_, document)| document));
            document.unread.extend(
                unread.into_iter().map(|unread| UnreadDocument::new(tenant, unread.id, unread.problem)),
            );
            document.tenants.push(CountsDocument::new(
                tenant,
                counts.iter().collect(),
                next.map(show_cursor),
            ));
        }
        document
    }

    /// Returns the table, and how to get each next page.
    fn text(
        &self,
        pages: &[(&TenantId, Page, sandhog_broker::Counts)],
        console: &Console,
    ) -> (String, Vec<String>) {
        let paint = console.paint();
        let several = if pages.len() > 1 { Tenants::Several } else { Tenants::One };
        let jobs: Vec<_> = pages.iter().flat_map(|(_, listed, _)| &listed.jobs).collect();
        let mut parts = Vec::new();
        if !jobs.is_empty() {
            parts.push(render::jobs(&jobs, several, Clock::system().now(), console.width(), paint));
        }
        let unread = pages.iter().flat_map(|(_, listed, _)| &listed.unread);
        let unread: Vec<String> = unread.map(render::unread).collect();
        if !unread.is_empty() {
            parts.push(unread.join("\n"));
        }
        let counts = pages.iter().map(|(tenant, _, counts)| render::counts(tenant, *counts, paint));
        parts.push(counts.collect::<Vec<_>>().join("\n"));
        let more = pages.iter().filter_map(|(tenant, listed, _)| {
            let tenant = if pages.len() > 1 { format!(" --tenant {tenant}") } else { String::new() };
            match (listed.next, self.which.state) {
                (Some(next), Some(state)) => {
                    let (cursor, is) = (show_cursor(next), if listed.is_cut { "may be" } else { "are" });
                    Some(format!("there {is} more: the same with --state {state}{tenant} --after {cursor}"))
                }
                _ if listed.is_cut => Some(format!(
                    "there may be more, as there are too many to look at: name a --state{tenant}"
                )),
                _ => None,
            }
        });
        (parts.join("\n\n"), more.collect())
    }

    async fn of_tenant(&self, client: &Client, tenant: &TenantId) -> Result<Page, Failure> {
        let query = Query {
            filter: self.which.filter()?,
            after: self.after,
            payloads: self.payloads,
            ..Query::of(State::Ready, self.limit)
        };
        Ok(client.page(tenant, self.which.state, query).await?)
    }
}
