//! Priorities of threads, in the eyes of the kernel.

/// Puts this thread so much below those that lease, renew and settle. Where that is refused, it stays as it is: what
/// it does is then done less politely, but still done.
pub(crate) fn lower(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::warn!(%error, "a thread runs at the priority of all others");
    }
}
