//! How far a job has come.

/// How far a job has come, for whoever waits for it. The unit is the handler's own: rows, files, bytes, steps.
///
/// ```
/// # use sandhog_sdk::Progress;
/// Progress::of(3, 10);                          // 3 of 10
/// Progress::so_far(3).message("reading rows");  // 3 of who knows how many
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do, if that is known.
    pub total: Option<u64>,
    /// What is going on, for people.
    pub message: Option<String>,
}

impl Progress {
    /// So much is done of a known total.
    #[must_use]
    pub fn of(done: u64, total: u64) -> Self {
        Self { done, total: Some(total), message: None }
    }

    /// So much is done; how much there is to do isn't known.
    #[must_use]
    pub fn so_far(done: u64) -> Self {
        Self { done, total: None, message: None }
    }

    /// Says what is going on, for people.
    #[must_use]
    pub fn message(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }
}
