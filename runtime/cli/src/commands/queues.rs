//! `sandhog queues`: lists queues with the numbers of their jobs.

use clap::Args;
use sandhog_core::id::TenantId;
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::service::queues::Place;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::queues as render;
use crate::target::Target;

/// List queues: how many jobs of each state they have, and since when the oldest ready one waits
#[derive(Debug, Args)]
pub(crate) struct Queues {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// How many at most, 1 to 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Go on behind the `next` of an earlier list
    #[arg(long, value_name = "PLACE")]
    after: Option<Place>,
}

impl Queues {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let Self { tenant, limit, after } = self;
        let client = Client::connect(target, Access::Look).await?;
        let document = client.queues(tenant.as_ref(), after.as_ref(), limit).await?;
        console.show(&document, || render::table(&document, Clock::system().now(), console.paint()))?;
        Ok(Exit::Ok)
    }
}
