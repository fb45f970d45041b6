//! Running work that blocks, such as compiling or opening a file.

use std::panic::resume_unwind;

/// Runs work that blocks off the threads that mustn't wait. A panic in it is one here.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => resume_unwind(failed.into_panic()),
    }
}
