//! The daemon's HTTP interface.
//!
//! No input is trusted: heads, bodies, their time and the number of connections are bounded. A caller that may not do something
//! is refused before anything is read.
//!
//! | part | is about |
//! |---|---|
//! | [`mod@router`] | the routes: takes a request apart, calls [`crate::service`], renders the answer |
//! | [`connection`] | one connection, within its bounds |
//! | [`local`] | the socket on this machine, and who may use it |

mod connection;
mod local;
mod router;

pub use connection::{HEAD_MAX, serve_connection};
pub use local::{ListenError, Listener};
pub use router::{BODY_MAX, router};
