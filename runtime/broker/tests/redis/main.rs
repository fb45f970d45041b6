//! The Redis broker, on a real server.

mod conformance;
