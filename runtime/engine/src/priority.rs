//! Priorities of threads in the kernel's scheduler.

/// Lowers this thread's priority by setting its nice value, below the threads that lease, renew and settle. Where that is
/// refused, it stays as it is: its work is then done less politely, but still done.
pub(crate) fn lower(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::warn!(%error, "a thread runs at the priority of all others");
    }
}
