//! Running work that blocks, such as compiling or opening a file.

use std::future::pending;
use std::panic::resume_unwind;

/// Runs work that blocks off the threads that mustn't wait. A panic in it is one here. If the runtime ends before it has begun, so does
/// whoever waits for it, and this never resolves.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use futures::FutureExt;

    use super::off_thread;

    #[test]
    fn work_that_a_runtime_has_no_more_time_for_is_no_panic() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let (ends, (begun, has_begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let (end, ended) = ends;
        runtime.spawn(off_thread(move || {
            begun.send(()).expect("the test waits");
            ended.recv().expect("the test ends it");
        }));
        has_begun.recv().expect("it begins");
        // The only thread is taken, so this one never begins.
        let waiting = runtime.spawn(off_thread(|| unreachable!("there is no thread for it")));
        let ending = thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(60)));
        while !waiting.is_finished() {
            thread::yield_now();
        }
        end.send(()).expect("the work waits");
        ending.join().expect("the runtime ends");
        let waited = waiting.now_or_never().expect("it is over");
        assert!(waited.is_err_and(|error| error.is_cancelled()), "it was given up");
    }
}
