//! `sandhog limit`: lists limits and how far they are used, and sets those of single groups.

use std::num::NonZeroU16;
use std::time::Duration;

use clap::{Args, Subcommand};
use sandhog_config::units::parse_time;
use sandhog_core::group_limit::{GroupLimitChange, NewGroupLimit};
use sandhog_core::id::{GroupKey, QueueName, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;

use crate::client::Client;
use crate::commands::times::{hold_end, parse_at};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::limits::{self as render, LimitsDocument};
use crate::target::Target;

/// Look at limits and how far they are used, and set those of single groups
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum LimitCommand {
    List(List),
    Set(Set),
    On(On),
    Off(Off),
    Unset(Unset),
}

const HELP: &str = "\
The limit of a group stands in place of the one that its queue gives to each of its groups (group_concurrency).

Examples:
  sandhog limit list
  sandhog limit set mails acme 50 --for 2d --note 'their sale'
  sandhog limit off mails acme";

/// List limits: those of the configuration, and those of single groups
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

/// Let this many jobs of one group be ready or run at once
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    which: Which,
    /// How many
    concurrency: NonZeroU16,
    /// Until this time has passed, such as 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    time: Option<Duration>,
    /// Until then, such as 2026-11-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at, conflicts_with = "time")]
    until: Option<Timestamp>,
    /// Why, for whoever looks at it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: Option<String>,
}

/// Have the limit of a group count again that was switched off
#[derive(Debug, Args)]
pub(crate) struct On {
    #[command(flatten)]
    which: Which,
}

/// Go by the limit of the queue for now, and keep that of the group for later
#[derive(Debug, Args)]
pub(crate) struct Off {
    #[command(flatten)]
    which: Which,
}

/// Remove the limit of a group
#[derive(Debug, Args)]
pub(crate) struct Unset {
    #[command(flatten)]
    which: Which,
}

/// Which group is meant.
#[derive(Debug, Args)]
struct Which {
    /// The group's queue
    queue: QueueName,
    /// The group
    group: GroupKey,
    /// Whose it is [default: the only tenant]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

impl LimitCommand {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let (which, change) = match self {
            Self::List(list) => return list.execute(target, console).await,
            Self::Set(Set { which, concurrency, time, until, note, by }) => {
                let end = hold_end(time, until);
                (which, GroupLimitChange::Set(NewGroupLimit { concurrency, by, end, note }))
            }
            Self::On(On { which }) => (which, GroupLimitChange::Switch { is_on: true }),
            Self::Off(Off { which }) => (which, GroupLimitChange::Switch { is_on: false }),
            Self::Unset(Unset { which }) => (which, GroupLimitChange::Unset),
        };
        which.change(change, target, console).await
    }
}

impl List {
    async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let mut limits = LimitsDocument::default();
        for tenant in client.tenants(self.tenant.as_ref()).await? {
            limits.append(client.limits(&tenant).await?);
        }
        let text = render::table(&limits, console.width(), console.paint());
        console.show(&limits, || text)?;
        Ok(Exit::Ok)
    }
}

impl Which {
    async fn change(
        self,
        change: GroupLimitChange,
        target: &Target,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let Self { queue, group, tenant } = self;
        let client = Client::connect(target, Access::Serve).await?;
        let tenants = client.tenants(tenant.as_ref()).await?;
        let [tenant] = &tenants[..] else {
            return Err(Failure::new("several tenants may have such a group").help("name it: --tenant"));
        };
        client.change_limit(tenant, &queue, &group, change).await?;
        let mut groups = client.limits(tenant).await?.groups;
        groups.retain(|limit| limit.queue == queue.as_str() && limit.group == group.as_str());
        let document = LimitsDocument { groups, ..LimitsDocument::default() };
        let text = match document.groups.first() {
            Some(limit) => render::line(limit),
            None => format!("group {group} of queue {queue} has no limit of its own any more"),
        };
        console.show(&document, || text)?;
        Ok(Exit::Ok)
    }
}
