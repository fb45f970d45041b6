//! What is said to a running daemon and by it: the types of requests and answers, and the client.
//!
//! The daemon answers with these types, the command line prints them with `--json`, and whoever writes a program against
//! either reads them. So there is one shape of each, and it is in here. What isn't done is told by a [`Problem`].

mod client;
mod deploys;
mod problem;
pub mod route;
mod socket;
mod time;

pub use client::{Client, ClientError};
pub use deploys::{
    CanaryStatus, DeployEvent, DeployEventKind, DeployEvents, PluginState, PluginStatus, PluginStatuses,
    ReloadOutcome, Reloaded, RollBack, SideStatus,
};
pub use problem::{PROBLEM_JSON, Problem, Slug};
pub use socket::{SocketAddress, socket_path};
pub use time::Time;
