//! Budgets for compiling a component: the narrowest of what the daemon, tenant and plugin allow.

use std::time::Duration;

use crate::budget::Bytes;

/// Limits on compiling one component, spent once per component and not once per run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileBudget {
    /// Maximum size of the component; a larger one isn't even begun.
    pub component: Bytes,
    /// Maximum time, on the wall clock.
    pub time: Duration,
    /// Maximum memory of the compiler.
    pub memory: Bytes,
}

/// Limits that are enough for a component that brings the whole of Python with it: 20 MB, for which a compiler takes some
/// 10 s of two processors.
impl Default for CompileBudget {
    fn default() -> Self {
        Self { component: Bytes::mib(64), time: Duration::from_secs(120), memory: Bytes::mib(2048) }
    }
}

impl CompileBudget {
    /// Returns this budget with each limit lowered to the one in `caps`, if that is lower.
    #[must_use]
    pub fn narrow(self, caps: &CompileCaps) -> Self {
        Self {
            component: caps.component.map_or(self.component, |cap| cap.min(self.component)),
            time: caps.time.map_or(self.time, |cap| cap.min(self.time)),
            memory: caps.memory.map_or(self.memory, |cap| cap.min(self.memory)),
        }
    }
}

/// Upper bounds that one party sets on a compile budget; `None` leaves that limit as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompileCaps {
    /// See [`CompileBudget::component`].
    pub component: Option<Bytes>,
    /// See [`CompileBudget::time`].
    pub time: Option<Duration>,
    /// See [`CompileBudget::memory`].
    pub memory: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_counts() {
        let daemon = CompileBudget::default();
        assert_eq!(daemon.narrow(&CompileCaps::default()), daemon);
        let caps = CompileCaps {
            component: Some(Bytes::mib(1)),
            time: Some(Duration::from_secs(3600)),
            memory: Some(Bytes::mib(100)),
        };
        let left = daemon.narrow(&caps);
        assert_eq!((left.component, left.time, left.memory), (Bytes::mib(1), daemon.time, Bytes::mib(100)));
    }
}
