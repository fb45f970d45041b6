//! What is said to a running daemon and by it: the types of requests and answers, and the client.
//!
//! The daemon answers with these types, the command line prints them with `--json`, and whoever writes a program against
//! either reads them. So there is one shape of each, and it is in here.

mod client;
mod deploys;
mod message;
mod time;

pub use client::{Unanswered, ask};
pub use deploys::{
    CanaryStatus, DeployEvent, DeployEventKind, DeployEvents, PluginState, PluginStatus, PluginStatuses,
    ReloadOutcome, Reloaded, SideStatus,
};
pub use message::{Reply, Request, line, socket};
pub use time::Time;
