//! Progress of a job.

/// Progress of a job, for those who wait for it. The unit is the handler's own: rows, files, bytes, steps.
///
/// ```
/// # use sandhog_sdk::Progress;
/// Progress::of(3, 10);                          // 3 of 10
/// Progress::so_far(3).message("reading rows");  // 3 of who knows how many
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Amount of work that is done.
    pub done: u64,
    /// Amount of work in all; `None` if that isn't known.
    pub total: Option<u64>,
    /// Description of what is going on, for people.
    pub message: Option<String>,
}

impl Progress {
    /// Creates the progress of `done` out of a known total.
    #[must_use]
    pub fn of(done: u64, total: u64) -> Self {
        Self { done, total: Some(total), message: None }
    }

    /// Creates the progress of `done` out of an unknown total.
    #[must_use]
    pub fn so_far(done: u64) -> Self {
        Self { done, total: None, message: None }
    }

    /// Sets the description of what is going on, for people.
    #[must_use]
    pub fn message(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }
}
