//! Output of actions on jobs.

pub use sandhog_api::{DoneDocument, DonesDocument, WouldDocument};
