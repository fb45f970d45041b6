//! `sandhog status`: the fleet, and whether anybody serves.

use clap::Args;
use sandhog_daemon::broker::Access;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::status::{self as render, StatusDocument};
use crate::target::Target;

/// Show the daemons of the fleet: when each fetched last, its version, its slots; exits 1 if nobody serves
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct Status {}

const NOTES: &str = "\
Daemons tell the broker of themselves every five seconds, so this needs none on this machine. One that says nothing for 20 s is
gone. A fetch is a call that leased jobs, or saw that there are none; one that is more than 60 s ago while slots are free is late,
and the daemon is stalled.";

impl Status {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let document = StatusDocument::new(client.daemons().await?);
        let text = render::text(&document, console.width(), console.paint());
        console.show(&document, || text)?;
        Ok(if document.serves { Exit::Ok } else { Exit::Failed })
    }
}
