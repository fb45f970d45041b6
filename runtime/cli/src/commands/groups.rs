//! `sandhog groups`: lists groups of jobs that are held by dead ones, and lets them go on.

use clap::{Args, Subcommand};
use sandhog_core::id::{GroupKey, QueueName, TenantId};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::groups::{self as render, HeldGroupsDocument, ReleasedDocument};
use crate::target::Target;

/// List groups of jobs that a dead job holds, or let them go on
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Groups {
    #[command(subcommand)]
    action: Option<Action>,
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Release(Release),
}

/// Pass over the dead job that holds a group: the group goes on with its next job
#[derive(Debug, Args)]
struct Release {
    /// The group's queue
    queue: QueueName,
    /// The group
    group: GroupKey,
    /// Whose it is [default: the only tenant]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

impl Groups {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self.action {
            None => list(self.tenant.as_ref(), target, console).await,
            Some(Action::Release(release)) => release.execute(target, console).await,
        }
    }
}

async fn list(tenant: Option<&TenantId>, target: &Target, console: &Console) -> Result<Exit, Failure> {
    let client = Client::connect(target, Access::Look).await?;
    let mut held = Vec::new();
    for tenant in client.tenants(tenant).await? {
        held.extend(client.held_groups(&tenant).await?);
    }
    let document = HeldGroupsDocument { groups: held };
    console.show(&document, || render::table(&document.groups, Clock::system().now(), console.paint()))?;
    Ok(Exit::Ok)
}

impl Release {
    async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let Self { queue, group, tenant } = self;
        let client = Client::connect(target, Access::Change).await?;
        let tenants = client.tenants(tenant.as_ref()).await?;
        let [tenant] = &tenants[..] else {
            return Err(Failure::new("several tenants may have such a group").help("name it: --tenant"));
        };
        let released = client.release_group(tenant, &queue, &group).await?;
        let document = ReleasedDocument { released };
        console.show(&document, || match released {
            true => format!("group {group} of queue {queue} goes on"),
            false => format!("group {group} of queue {queue} was held by no job"),
        })?;
        Ok(Exit::Ok)
    }
}
