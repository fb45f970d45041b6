//! API of a running daemon: the types of requests and answers, and the client.
//!
//! The daemon answers with these types, the command line prints them with `--json`, and programs written against either
//! read them. So there is one shape of each, and it is in here. A [`Problem`] says why something wasn't done.

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
