//! What a daemon says of itself.

pub mod log;
