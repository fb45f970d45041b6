//! `sandhog plugin rollback`: puts an earlier revision of a plugin into force again.

use clap::Args;
use sandhog_api::RollBack;

use crate::daemon_link::{daemon, unanswered};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::deploys as render;
use crate::target::Target;

/// Put an earlier revision of a plugin into force again
#[derive(Debug, Args)]
#[command(after_help = "\
It stays in force, also across restarts, until the component or its pin in the TOML changes. While a canary runs, it is
the canary that is taken back, unless --to says otherwise. `sandhog plugins` lists the revisions that are kept.")]
pub(crate) struct Rollback {
    /// NAME, or TENANT/NAME where several tenants have such a plugin
    #[arg(value_name = "[TENANT/]NAME")]
    plugin: String,
    /// The first digits of the revision's sha256 [default: the one before what is in force]
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
}

impl Rollback {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let ask = RollBack { plugin: self.plugin, to: self.to };
        let event = daemon(target)?.roll_back(&ask).await.map_err(|error| unanswered(target, error))?;
        console.show(&event, || render::event(&event, console.paint()))?;
        Ok(Exit::Ok)
    }
}
