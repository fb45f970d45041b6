//! What the engine promises, held against guests that were written by hand to break it.

mod aborts;
mod bed;
mod endings;
mod fresh;
mod host_calls;
mod kill;
mod limits;
mod loading;
mod sharing;

use sandhog_guests as guests;
