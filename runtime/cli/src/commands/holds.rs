//! `sandhog pause`, `resume` and `holds`: holding jobs back, and what is held back.

use std::time::Duration;

use clap::Args;
use sandhog_config::units::parse_time;
use sandhog_core::hold::{Hold, HoldReason, HoldScope, NewHold};
use sandhog_core::id::{Kind, QueueName, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_daemon::broker::Access;

use crate::client::Client;
use crate::commands::times::{hold_end, parse_at};
use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::output::hold::{self as render, HoldDocument, HoldsDocument, PausedDocument, ResumedDocument};
use crate::target::Target;

/// Which jobs are meant.
#[derive(Debug, Args)]
struct Which {
    /// Whose jobs [default: those of the only tenant]
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// Those of this queue [default: of all queues]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Those of this kind [default: of all kinds]
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
}

/// Run no more jobs of a queue, of a kind, or of all, for now
#[derive(Debug, Args)]
#[command(after_help = PAUSE)]
pub(crate) struct Pause {
    #[command(flatten)]
    which: Which,
    /// Go on by itself after this time, such as 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    time: Option<Duration>,
    /// Go on by itself then, such as 2026-11-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_at, conflicts_with = "time")]
    until: Option<Timestamp>,
    /// Why, for whoever looks at it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who does it
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: Option<String>,
}

const PAUSE: &str = "\
What runs goes on, and what comes in waits with the others. To pause the same jobs once more replaces end and note.

Examples:
  sandhog pause --queue mail --for 1h --note 'the provider is down'
  sandhog pause --kind report.daily
  sandhog pause --until 2026-11-24T18:00:00Z          all jobs of the tenant";

/// Run jobs again that were paused
#[derive(Debug, Args)]
#[command(after_help = RESUME)]
pub(crate) struct Resume {
    #[command(flatten)]
    which: Which,
    /// All that is held back, whatever its queue and kind
    #[arg(long, conflicts_with_all = ["queue", "kind"])]
    all: bool,
}

const RESUME: &str = "\
Name the jobs as they were paused, as `sandhog holds` lists them; jobs that are paused in two ways have to be resumed in both.

Examples:
  sandhog resume --queue mail
  sandhog resume --all";

/// List what is held back: which jobs, why, by whom, since when, until when
#[derive(Debug, Args)]
pub(crate) struct Holds {
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
}

impl Which {
    /// Returns the tenant that is meant.
    async fn tenant(&self, client: &Client) -> Result<TenantId, Failure> {
        match &client.tenants(self.tenant.as_ref()).await?[..] {
            [only] => Ok(only.clone()),
            _ => Err(Failure::new("there are several tenants").help("name the one that is meant: --tenant")),
        }
    }

    fn scope(&self) -> HoldScope {
        HoldScope { queue: self.queue.clone(), kind: self.kind.clone() }
    }
}

impl Pause {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Serve).await?;
        let (tenant, scope) = (self.which.tenant(&client).await?, self.which.scope());
        let end = hold_end(self.time, self.until);
        let hold =
            NewHold { scope: scope.clone(), reason: HoldReason::Paused, by: self.by, end, note: self.note };
        client.hold(&tenant, hold).await?;
        let made =
            client.holds(&tenant).await?.into_iter().find(|hold| hold.is_by_hand() && hold.scope == scope);
        let text = match &made {
            Some(hold) => render::line(hold),
            None => format!("{scope}: the pause is over already"),
        };
        let document = PausedDocument { hold: made.map(|hold| HoldDocument::new(tenant.as_str(), hold)) };
        console.show(&document, || text)?;
        Ok(Exit::Ok)
    }
}

impl Resume {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Change).await?;
        let (tenant, scope) = (self.which.tenant(&client).await?, self.which.scope());
        let held = client.holds(&tenant).await?;
        let wanted = held.iter().filter(|hold| hold.is_by_hand() && (self.all || hold.scope == scope));
        let mut lifted = Vec::new();
        for hold in wanted {
            if client.lift(&tenant, hold.scope.clone()).await? {
                lifted.push(hold.clone());
            }
        }
        if lifted.is_empty() && !self.all {
            let failure = Failure::new(format!("{scope} of tenant {tenant}: nobody has paused exactly that"));
            let breaker = held.iter().find(|hold| !hold.is_by_hand() && hold.scope == scope);
            if let Some(by) = breaker.and_then(|hold| hold.by.as_deref()) {
                return Err(failure.help(format!("a breaker holds it: sandhog breaker close {by}")));
            }
            return Err(match held.is_empty() {
                true => failure.help("nothing of this tenant is paused"),
                false => failure.help("`sandhog holds` lists what is paused, and how it was named"),
            });
        }
        let lines: Vec<String> = lifted.iter().map(|hold| format!("{} goes on", hold.scope)).collect();
        let text = if lines.is_empty() { "nothing was held back".to_owned() } else { lines.join("\n") };
        let lifted = lifted.into_iter().map(|hold| HoldDocument::new(tenant.as_str(), hold)).collect();
        console.show(&ResumedDocument { lifted }, || text)?;
        Ok(Exit::Ok)
    }
}

impl Holds {
    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(target, Access::Look).await?;
        let mut holds = Vec::new();
        for tenant in client.tenants(self.tenant.as_ref()).await? {
            let held = client.holds(&tenant).await?;
            holds.extend(held.into_iter().map(|hold| (tenant.clone(), hold)));
        }
        let text = render::table(&holds, console.width(), console.paint());
        let document = |(tenant, hold): (TenantId, Hold)| HoldDocument::new(tenant.as_str(), hold);
        let document = HoldsDocument { holds: holds.into_iter().map(document).collect() };
        console.show(&document, || text)?;
        Ok(Exit::Ok)
    }
}
