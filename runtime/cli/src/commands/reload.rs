//! `sandhog reload`.

use std::path::Path;

use clap::Args;
use sandhog_daemon::control::{Reply, Request};
use sandhog_daemon::deploy::{ReloadOutcome, What};

use crate::daemon_link::{ask_daemon, unexpected};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::deploys as render;

/// Have the running daemon read its configuration again, and wait for what comes of it
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 if a plugin couldn't be deployed, 64 if the configuration is wrong.")]
pub(crate) struct Reload {}

impl Reload {
    pub(crate) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let spinner = console.spinner("reloading");
        let reply = ask_daemon(config, &Request::Reload).await;
        spinner.finish_and_clear();
        let Reply::Reloaded { outcome } = reply? else { return Err(unexpected()) };
        if let (ReloadOutcome::Rejected { problems }, Format::People) = (&outcome, console.format) {
            return Err(Failure::list(problems.clone()).help("nothing was changed").exit(Exit::Config));
        }
        console
            .show(&render::OutcomeDocument::new(&outcome), || render::outcome(&outcome, console.paint()))?;
        Ok(match &outcome {
            ReloadOutcome::Rejected { .. } => Exit::Config,
            ReloadOutcome::Applied { changes, .. }
                if changes.iter().any(|change| change.what == What::Failed) =>
            {
                Exit::Failed
            }
            ReloadOutcome::Applied { .. } | ReloadOutcome::Unchanged => Exit::Ok,
        })
    }
}
