//! Clock of a thread's processor time that other threads can read.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Clock of the processor time that a thread has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// Returns the clock of the calling thread.
    pub(crate) fn of_this() -> Self {
        let mut clock = 0;
        // Safety: a thread may ask for its own clock, and the pointer is valid for the call. It can't fail: the thread lives.
        #[allow(unsafe_code)]
        unsafe {
            libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock);
        }
        Self(clock)
    }

    /// Processor time of the thread; zero if the thread is gone.
    pub(crate) fn read(&self) -> Duration {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // Safety: the pointer is valid for the call, which fills what it points to or fails; what was filled is read alone.
        #[allow(unsafe_code)]
        let time = unsafe {
            match libc::clock_gettime(self.0, time.as_mut_ptr()) {
                0 => time.assume_init(),
                _ => return Duration::ZERO,
            }
        };
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_thread_is_seen_to_compute_and_to_be_gone() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let computing = thread::spawn(move || {
            let own = ThreadClock::of_this();
            while own.read() < Duration::from_millis(10) {}
            tell.send(own).expect("the test waits");
            // Until the test ends it.
            ended.recv().unwrap_err();
        });
        let clock = told.recv().expect("it computes");
        assert!(clock.read() >= Duration::from_millis(10));
        assert_ne!(clock, ThreadClock::of_this());
        drop(end);
        computing.join().expect("no panic");
        while clock.read() > Duration::ZERO {
            thread::yield_now();
        }
    }
}
