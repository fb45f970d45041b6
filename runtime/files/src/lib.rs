//! The one door to files that somebody else may have written, or may put something else in the place of.
//!
//! - [`regular_file`]: files of operators and tenants, read once, up to a bound.
//! - [`own_folder`]: folders that are the daemon's alone, held open.
//! - [`stamp`]: whether a file is another by now.
//! - [`disk`]: what both go by: calls of the file system that come to an end.

pub mod disk;
pub mod own_folder;
pub mod regular_file;
pub mod stamp;
