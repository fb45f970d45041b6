//! `sandhog breaker`: lists circuit breakers, and opens, closes and resets them by hand.

use std::time::Duration;

use clap::{Args, Subcommand};
use sandhog_config::units::parse_time;
use sandhog_core::id::{BreakerName, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;
use sandhog_daemon::service::breakers::Change;

use crate::client::Client;
use crate::commands::times::{hold_end, parse_at};
use crate::exit::{Exit, Failure};
use crate::output::breaker::{self as render, BreakersDocument};
use crate::output::console::Console;
use crate::target::Target;

/// Look at circuit breakers, and open and close them by hand
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum BreakerCommand {
    List(List),
    Open(Open),
    Close(Close),
    Reset(Reset),
}

const HELP: &str = "\
A downstream's breaker has the name by which plugins call it; that of a plugin is plugin/NAME.

Examples:
  sandhog breaker list
  sandhog breaker open stripe --for 1h --note 'they are being upgraded'
  sandhog breaker reset plugin/thumbnail";

/// List breakers: their states, what has opened them, and until when
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// Let no more jobs through, whatever their runs come to
#[derive(Debug, Args)]
pub(crate) struct Open {
    #[command(flatten)]
    how: How,
}

/// Let all jobs through, whatever their runs come to
#[derive(Debug, Args)]
pub(crate) struct Close {
    #[command(flatten)]
    how: How,
}

/// Forget all that is known of a breaker: it is closed, and counts anew
#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    which: Which,
}

/// Which breaker is meant.
#[derive(Debug, Args)]
struct Which {
    /// The breaker: a downstream, or plugin/NAME
    name: BreakerName,
    /// Whose it is [default: the only tenant]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// What is done to it, and until when.
#[derive(Debug, Args)]
struct How {
    #[command(flatten)]
    which: Which,
    /// Go by the runs again after this time, such as 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    time: Option<Duration>,
    /// Go by the runs again from then on, such as 2026-11-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at, conflicts_with = "time")]
    until: Option<Timestamp>,
    /// Why, for whoever looks at it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: Option<String>,
}

impl BreakerCommand {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.execute(target, console).await,
            Self::Open(Open { how }) => how.execute(true, target, console).await,
            Self::Close(Close { how }) => how.execute(false, target, console).await,
            Self::Reset(Reset { which }) => which.change(Change::Reset, target, console).await,
        }
    }
}

impl List {
    async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let mut breakers = Vec::new();
        for tenant in client.tenants(self.tenant.as_ref()).await? {
            breakers.extend(client.breakers(&tenant).await?);
        }
        let text = render::table(&breakers, console.width(), console.paint());
        console.show(&BreakersDocument { breakers }, || text)?;
        Ok(Exit::Ok)
    }
}

impl How {
    async fn execute(self, is_open: bool, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let Self { which, time, until, note, by } = self;
        let end = hold_end(time, until);
        which.change(Change::Force { is_open, by, note, end }, target, console).await
    }
}

impl Which {
    async fn change(self, change: Change, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let Self { name, tenant } = self;
        let client = Client::connect(target, Access::Serve).await?;
        let tenants = client.tenants(tenant.as_ref()).await?;
        let [tenant] = &tenants[..] else {
            return Err(Failure::new("several tenants may have such a breaker").help("name it: --tenant"));
        };
        let breaker = client.change_breaker(tenant, &name, change).await?;
        let text = match &breaker {
            Some(breaker) => render::line(breaker),
            None => format!("nothing is known of breaker {name} any more"),
        };
        console.show(&BreakersDocument { breakers: breaker.into_iter().collect() }, || text)?;
        Ok(Exit::Ok)
    }
}
