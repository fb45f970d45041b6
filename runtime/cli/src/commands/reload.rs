//! `sandhog reload`: has the running daemon read its configuration again.

use clap::Args;
use sandhog_api::{DeployEventKind, ReloadOutcome};

use crate::daemon_link::{daemon, unanswered};
use crate::exit::{Exit, Failure};
use crate::output::console::{Console, Format};
use crate::output::deploys as render;
use crate::target::Target;

/// Have the running daemon read its configuration again, and wait for what comes of it
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 if a plugin couldn't be deployed, 64 if the configuration is wrong.")]
pub(crate) struct Reload {}

impl Reload {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let spinner = console.spinner("reloading");
        let reloaded = daemon(target)?.reload().await;
        spinner.finish_and_clear();
        let outcome = reloaded.map_err(|error| unanswered(target, error))?;
        if let (Some(problems), Format::People) = (&outcome.problems, console.format) {
            return Err(Failure::list(problems.clone()).help("nothing was changed").exit(Exit::Config));
        }
        console.show(&outcome, || render::outcome(&outcome, console.paint()))?;
        let has_failed = outcome.changes.iter().any(|change| change.what == DeployEventKind::Failed);
        Ok(match outcome.outcome {
            ReloadOutcome::Rejected => Exit::Config,
            ReloadOutcome::Applied if has_failed => Exit::Failed,
            ReloadOutcome::Applied | ReloadOutcome::Unchanged => Exit::Ok,
        })
    }
}
