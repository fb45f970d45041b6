//! The daemon's HTTP interface.
//!
//! No input is trusted: heads, bodies, their time and the number of connections are bounded. A caller that may not do something
//! is refused before anything is read.
//!
//! | part | is about |
//! |---|---|
//! | [`mod@router`] | the routes: takes a request apart, calls [`crate::service`], renders the answer |
//! | [`jobs`] | routes of jobs and flows |
//! | [`rules`] | routes of holds, groups and schedules |
//! | [`tenants`] | routes of tenants, usage and events |
//! | [`daemons`] | the route of the fleet |
//! | [`query`] | the parameters of a request |
//! | [`session`] | sessions of browsers, and who asks |
//! | [`guard`] | what a request has to pass first: host, token, rate; the audit log |
//! | [`dashboard`] | the page in a browser, and its assets |
//! | [`connection`] | one connection, within its bounds |
//! | [`local`] | the socket on this machine, and who may use it |
//! | [`server`] | the interface over the network, with a runtime of its own |
//! | [`tls`] | its certificate |

mod connection;
mod daemons;
mod dashboard;
mod guard;
mod jobs;
mod local;
mod metrics;
mod query;
mod queues;
mod router;
mod rules;
mod server;
mod session;
mod tenants;
#[cfg(test)]
mod tests;
mod tls;

pub use connection::{HEAD_MAX, serve_connection};
pub use guard::{REQUEST_ID, new_token};
pub use local::{ListenError, Listener};
pub use router::{BODY_MAX, router};
pub use server::{Server, ServerError};
pub use tls::{TlsError, check_tls};
