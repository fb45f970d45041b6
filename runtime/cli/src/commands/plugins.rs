//! `sandhog plugins`: shows the plugins that are in force.

use clap::Args;
use sandhog_core::id::TenantId;

use crate::daemon_link::{daemon, unanswered};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::deploys as render;
use crate::target::Target;

/// Say which plugins are in force in the running daemon, or what deploys have done lately
#[derive(Debug, Args)]
pub(crate) struct Plugins {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// What deploys have done lately, the oldest first
    #[arg(long)]
    events: bool,
}

impl Plugins {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let is_meant =
            |tenant: Option<&str>| self.tenant.as_ref().is_none_or(|wanted| tenant == Some(wanted.as_str()));
        let (daemon, failed) = (daemon(target)?, |error| unanswered(target, error));
        if self.events {
            let mut document = daemon.deploy_events().await.map_err(failed)?;
            document.events.retain(|event| is_meant(event.tenant.as_deref()));
            console.show(&document, || render::events(&document.events, console.paint()))?;
            return Ok(Exit::Ok);
        }
        let mut document = daemon.plugins().await.map_err(failed)?;
        document.plugins.retain(|plugin| is_meant(plugin.tenant.as_deref()));
        console.show(&document, || render::plugins(&document.plugins, console.paint()))?;
        Ok(Exit::Ok)
    }
}
